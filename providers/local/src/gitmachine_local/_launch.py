"""Starting the first process of a machine, so that it outlives its client."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gitmachine import MachineStartError
from gitmachine_local import _host, _payload, _processes, _records, _sandbox
from gitmachine_local._errors import PROVIDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine_local._records import Record
    from gitmachine_local.config import LocalConfig

PLATFORM: str = sys.platform
BOOT = "import sys; sys.path.append(sys.argv.pop()); from gitmachine_local.supervisor.loop import main; main()"
"""How the supervisor of a machine without a sandbox begins: it sees the package as it is."""
INFO_SECONDS = 30.0

UNSANDBOXED = 'or set isolation = "none" for the local provider to run commands without a sandbox'
FORBIDDEN = (
    "No permissions to create new namespace",
    "Creating new namespace failed",
    "setting up uid map",
    "setting up gid map",
    "Operation not permitted",
)


def start_error(message: str) -> MachineStartError:
    """Return the error for an obstacle, with the way around it."""
    return MachineStartError(f"{message}, {UNSANDBOXED}", provider=PROVIDER, operation="start")


def listen(record: Record) -> socket.socket:
    """Make the machine's socket; the supervisor inherits it, so that nothing of it need be seen inside."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(record.socket))
        record.socket.chmod(0o600)
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


def make(config: LocalConfig, label: str | None = None) -> Record:
    """Make a machine up to its first process, and return its record. Blocks for some milliseconds.

    Raises:
        MachineStartError: no sandbox can be had here, and why; nothing is left behind.
    """
    _records.sweep()
    record = _records.Record.create(isolation=config.isolation, network=config.network, label=label)
    try:
        return launch(config, record)
    except BaseException:
        record.destroy()
        raise


def launch(config: LocalConfig, record: Record) -> Record:
    """Start the first process of a machine that has its directory; return its record, which is not written yet.

    Raises:
        MachineStartError: no sandbox can be had here, and why.
    """
    with listen(record) as listener:
        if config.isolation == "none":
            return _launch_bare(record, listener)
        if PLATFORM != "linux":
            raise start_error(f"sandboxes need Linux, and this is {PLATFORM}: use another provider")
        problems = []
        for program in _sandbox.bubblewraps(config):
            try:
                return _launch_sandboxed(program, config, record, listener)
            except MachineStartError as error:
                problems.append(error)
        if problems:
            raise problems[0]
        wanted = f"{config.bubblewrap!r}" if config.bubblewrap else "bwrap"
        raise start_error(f"bubblewrap is missing, {wanted} was not found: install bubblewrap")


def _launch_bare(record: Record, listener: socket.socket) -> Record:
    executable = getattr(sys, "_base_executable", None) or sys.executable
    # The package's directory comes last, so that nothing beside it is taken for the standard library.
    argv = [executable, "-I", "-S", "-c", BOOT, str(listener.fileno()), str(Path(__file__).parent.parent)]
    identity = _orphan(argv, [listener.fileno()], record.log)
    if identity is None:
        raise refusal(record)
    return attrs.evolve(record, first=identity)


def _launch_sandboxed(program: Path, config: LocalConfig, record: Record, listener: socket.socket) -> Record:
    python, shown = _sandbox.interpreter(), _host.shown(network=config.network == "host")
    with contextlib.ExitStack() as stack:
        info, info_w = os.pipe()
        stack.callback(os.close, info)
        stack.callback(os.close, info_w)
        files = _host.open_copies(shown.copies)
        for fd in files.values():
            stack.callback(os.close, fd)
        files |= {path: _memory_file(stack, data) for path, data in _sandbox.contents(config).items()}
        options = _sandbox.arguments(config, shown=shown, home=record.home, prefix=python.prefix, files=files)
        args = _memory_file(stack, os.fsencode("\0".join([*options, ""])))
        pack = _memory_file(stack, _payload.payload(compiled=python.is_this))
        argv = [str(program), "--args", str(args), "--info-fd", str(info_w), "--", str(python.executable)]
        argv += ["-I", "-S", "-c", _payload.BOOT, str(listener.fileno()), str(pack)]
        monitor = _orphan(argv, [listener.fileno(), info_w, args, pack, *files.values()], record.log)
        first = _first_process(info, monitor)
        if first is None:
            _processes.end(monitor)
            _processes.reap(monitor)
            raise refusal(record)
        identity = _processes.identify(first)
        if identity is None:
            raise refusal(record)
        return attrs.evolve(record, first=identity, monitor=monitor)


def _orphan(argv: Sequence[str], fds: Sequence[int], log: Path) -> _processes.Identity | None:
    """Start a program that this process may leave behind; None when it has ended already."""
    try:
        return _processes.start(argv, fds, log)
    except OSError as error:
        raise start_error(f"{argv[0]} cannot be run ({error.strerror}): correct that") from error


def _first_process(info: int, monitor: _processes.Identity | None) -> int | None:
    """Read the pid of the sandbox's first process from bubblewrap; None when bubblewrap ended without one."""
    os.set_blocking(info, False)
    text, deadline = b"", time.monotonic() + INFO_SECONDS
    while time.monotonic() < deadline:
        if select.select([info], [], [], 0.05)[0]:
            text += os.read(info, 4096)
            with contextlib.suppress(ValueError):
                return int(json.loads(text)["child-pid"])
        elif not _processes.is_alive(monitor):
            return None
    return None


def said(record: Record) -> str:
    """Return the end of what bubblewrap and the supervisor said on standard error."""
    with contextlib.suppress(OSError):
        return record.log.read_bytes()[-2000:].decode("utf-8", "replace").strip() or "it said nothing"
    return "it said nothing"


def refusal(record: Record) -> MachineStartError:
    """Return the error for a machine whose first process did not come up, from what was said on standard error."""
    words = said(record)
    if record.isolation == "none":
        return MachineStartError(f"the supervisor did not start: {words}", provider=PROVIDER, operation="start")
    if any(sign in words for sign in FORBIDDEN):
        return start_error(
            f"this host does not let its users make sandboxes, user namespaces are forbidden ({words}): "
            "allow them (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, or an AppArmor profile)"
        )
    return start_error(f"bubblewrap could not make a sandbox ({words}): correct that")


def _memory_file(stack: contextlib.ExitStack, data: bytes) -> int:
    fd = os.memfd_create("gitmachine")
    stack.callback(os.close, fd)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
