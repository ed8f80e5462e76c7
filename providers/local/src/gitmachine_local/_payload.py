"""The supervisor as it gets into a sandbox: its modules, compiled, in one piece; `supervisor/boot.py` unpacks them."""

from __future__ import annotations

import functools
import marshal
from importlib.abc import InspectLoader
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

PACKAGE = Path(__file__).parent / "supervisor"
PACKAGES = (__package__, f"{__package__}.supervisor")
NOW = ("lean", "wire", "ends", "tree", "loop")
"""What every start needs, each after what it imports."""
LATER = ("files", "terminal")

BOOT = (
    "import marshal, posix, sys; fd = int(sys.argv.pop()); "
    "pack, made = marshal.loads(posix.pread(fd, posix.fstat(fd).st_size, 0)), {}; posix.close(fd); "
    "exec(pack[0], made); made['boot'](*pack[1:]); from gitmachine_local.supervisor.loop import main; main()"
)
"""The program of the first process: its arguments are the descriptors of the machine's socket and of the payload."""


@functools.cache
def payload(*, compiled: bool) -> bytes:
    """Return the modules: as code for this very Python, or as source for another one."""
    make = _code if compiled else _source
    now = [(f"{PACKAGES[-1]}.{name}", make(name)) for name in NOW]
    # Version 2 of marshal's format is what any Python reads.
    later = {f"{PACKAGES[-1]}.{name}": marshal.dumps(make(name), *(() if compiled else (2,))) for name in LATER}
    pack = (make("boot"), PACKAGES, now, later)
    return marshal.dumps(pack) if compiled else marshal.dumps(pack, 2)


def _source(name: str) -> str:
    return (PACKAGE / f"{name}.py").read_text(encoding="utf-8")


def _code(name: str) -> CodeType:
    """Return a module's code, as it is compiled and cached for whoever imports it."""
    spec = find_spec(f"{PACKAGES[-1]}.{name}")
    loader = spec.loader if spec is not None else None
    code = loader.get_code(f"{PACKAGES[-1]}.{name}") if isinstance(loader, InspectLoader) else None
    return code if code is not None else compile(_source(name), f"{name}.py", "exec", dont_inherit=True)
