"""The body of the engine's create request: what a container may and may not do."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gitmachine_local_docker._setup import prepared
from gitmachine_local_docker.config import parse_port, parse_size

if TYPE_CHECKING:
    from gitmachine_local_docker.config import DockerConfig

__all__ = [
    "CAPABILITIES",
    "LABEL",
    "MACHINE_LABEL",
    "OWNER_LABEL",
    "USER_LABEL",
    "WORKDIR_LABEL",
    "create_body",
    "owner",
]

MACHINE_LABEL = "gitmachine.machine"
"""On every container of ours."""
LABEL = "gitmachine.label"
"""The key of the session that made it."""
OWNER_LABEL = "gitmachine.owner"
"""The user and the host that made it."""
USER_LABEL = "gitmachine.user"
"""The user that commands run as."""
WORKDIR_LABEL = "gitmachine.workdir"
"""The directory that commands start from."""

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""What a package manager run by root needs, and ending processes of other users. Of Docker's own default there is no
AUDIT_WRITE, MKNOD, NET_RAW, SETFCAP, SETPCAP, SYS_CHROOT."""

_IN_MEMORY = {"/tmp": "rw,exec,nosuid,nodev,mode=1777", "/run": "rw,nosuid,nodev,mode=755"}  # noqa: S108  # inside

# A number of seconds, not "infinity", which not every sleep knows; 68 years are enough.
_MAIN = "exec sleep 2147483647"
# Process 1 ignores signals that it has no handler for, and `docker stop` would wait ten seconds.
_MAIN_WITHOUT_INIT = "trap 'exit 0' TERM INT; sleep 2147483647 & wait"


def owner() -> str:
    """Return who makes machines here: to tell them from those of others on the same engine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def create_body(config: DockerConfig, user: str, label: str | None) -> dict[str, Any]:
    """Return the body for a container of this configuration.

    The container's own user is root, whose capabilities are those of all its commands: for what has to be done for
    another user, such as killing its processes, the engine gives root no more than the container's user has.

    Args:
        config: what was asked for.
        user: the user that commands run as.
        label: the session's key.
    """
    labels = {
        **config.labels,
        MACHINE_LABEL: "1",
        OWNER_LABEL: owner(),
        USER_LABEL: user,
        WORKDIR_LABEL: config.workdir,
    }
    if label is not None:
        labels[LABEL] = label
    main = _MAIN if config.init else _MAIN_WITHOUT_INIT
    body: dict[str, Any] = {
        "Image": config.image,
        "User": "0",
        "Entrypoint": prepared(main, user, config.workdir, "1" if config.read_only else ""),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in config.env.items()],
        "Labels": labels,
        "WorkingDir": "/",
        "Healthcheck": {"Test": ["NONE"]},  # the image's program does not run
        "ExposedPorts": {f"{port.inside}/{port.protocol}": {} for port in map(parse_port, config.ports)},
        "Volumes": {volume: {} for volume in config.volumes if ":" not in volume},
        "HostConfig": _host_config(config),
    }
    if config.read_only:
        body["Volumes"][config.workdir] = {}
    _merge(body, config.extra)
    return body


def _host_config(config: DockerConfig) -> dict[str, Any]:
    host: dict[str, Any] = {
        "Init": config.init,
        "CapDrop": ["ALL"],
        "CapAdd": [*CAPABILITIES, *(name.removeprefix("CAP_") for name in config.cap_add)],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": config.pids,
        "NetworkMode": config.network,
        "ReadonlyRootfs": config.read_only,
        "Binds": [volume for volume in config.volumes if ":" in volume],
        "PortBindings": _bindings(config),
    }
    if config.cpus is not None:
        host["NanoCpus"] = int(config.cpus * 1e9)
    if config.memory is not None:
        host["Memory"] = host["MemorySwap"] = parse_size(config.memory)
    if config.disk is not None:
        host["StorageOpt"] = {"size": str(parse_size(config.disk))}
    if config.runtime is not None:
        host["Runtime"] = config.runtime
    if config.read_only:
        host["Tmpfs"] = dict(_IN_MEMORY)
    return host


def _bindings(config: DockerConfig) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in map(parse_port, config.ports):
        public = str(port.public) if port.public else ""
        entry = {"HostIp": port.address, "HostPort": public}
        bindings.setdefault(f"{port.inside}/{port.protocol}", []).append(entry)
    return bindings


def _merge(target: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value
