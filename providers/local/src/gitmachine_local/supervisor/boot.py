"""How the supervisor's modules get into a sandbox: from one descriptor, for no file of theirs is shown there.

`gitmachine_local._payload` is the other end. Looking for files along `sys.path` costs more than the modules do.
"""

# ruff: noqa: S102, S302  # the descriptor comes from the client that makes the machine, before anything runs in it

import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType, ModuleType


class Later:
    """Finds and loads the modules that are not needed to start."""

    def __init__(self, modules: "Mapping[str, bytes]") -> None:
        self._modules = modules

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> object:
        """Return the specification of a module that is among them, or None."""
        return type(sys.__spec__)(name, self) if name in self._modules else None  # type: ignore[arg-type]

    def create_module(self, _spec: object) -> None:
        """Leave it to the import system to make the module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Fill a module."""
        exec(marshal.loads(self._modules[module.__name__]), module.__dict__)


def boot(packages: "Sequence[str]", now: "Sequence[tuple[str, CodeType | str]]", later: "Mapping[str, bytes]") -> None:
    """Make packages, and modules in this order, of code or source; what comes later is loaded when it is asked for."""
    # What the compiler has taken note of is imported all the same: for that, no file need be looked for.
    sys.modules["__future__"] = type(sys)("__future__")
    sys.modules["__future__"].annotations = None  # type: ignore[attr-defined]
    sys.meta_path.insert(0, Later(later))  # type: ignore[arg-type]  # a finder, as far as it is asked to be one
    for name, code in [*((package, "") for package in packages), *now]:
        module = type(sys)(name)
        if not code:
            module.__path__ = []
        sys.modules[name] = module
        package, _, own = name.rpartition(".")
        if package:
            module.__package__ = package if code else name
            setattr(sys.modules[package], own, module)
        exec(code, module.__dict__)
    del sys.modules["__future__"]
