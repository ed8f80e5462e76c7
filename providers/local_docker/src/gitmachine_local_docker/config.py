"""The options of the Docker provider."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003  # cattrs resolves annotations at run time
from typing import Any, Literal

import attrs

from gitmachine import ConfigError

__all__ = ["DEFAULT_IMAGE", "DockerConfig"]

DEFAULT_IMAGE = "buildpack-deps:bookworm-scm"
"""Debian with git: an official image, without a language in it, that most images of languages are made from."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PORT = re.compile(r"(?:(?:(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]):)?(\d+)?:)?(\d+)(?:/(tcp|udp))?")


def parse_size(text: str) -> int:
    """Return the bytes that ``512m``, ``2g`` or ``1.5GiB`` stand for.

    Raises:
        ConfigError: it is none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or not float(match[1]) > 0:
        raise ConfigError(f"expected a size such as 512m or 2g, not {text!r}")
    return int(float(match[1]) * _UNITS[match[2].lower()])


@attrs.frozen
class Port:
    """One entry of `ports`: where a port of the container is published; 0 lets the engine choose."""

    address: str
    public: int
    inside: int
    protocol: str


def parse_port(text: str) -> Port:
    """Return what ``8000``, ``9000:8000``, ``0.0.0.0:9000:8000`` or one of them with ``/udp`` says.

    Raises:
        ConfigError: it says nothing of the kind.
    """
    match = _PORT.fullmatch(text)
    if match is None or not 0 < int(match[3]) < 1 << 16 or not int(match[2] or 0) < 1 << 16:
        raise ConfigError(f"expected a port, host:port or address:host:port, not {text!r}")
    return Port((match[1] or "127.0.0.1").strip("[]"), int(match[2] or 0), int(match[3]), match[4] or "tcp")


def movable(text: str) -> str:
    """Return an entry of `ports` with the choice of the outer port left to the engine: two cannot have the same."""
    port = parse_port(text)
    address = f"[{port.address}]" if ":" in port.address else port.address
    return f"{address}:0:{port.inside}/{port.protocol}"


def _strings(value: Any) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | int) else tuple(str(item) for item in value)


def _one_of(*choices: str) -> Any:
    def check(_config: object, field: attrs.Attribute[str], value: str) -> None:
        if value not in choices:
            raise ConfigError(f"expected {' or '.join(choices)}, not {value!r} @ {field.name}")

    return check


def _check(parse: Any) -> Any:
    """Check one value, or each of several, by parsing it."""

    def check(_config: object, field: attrs.Attribute[Any], value: Any) -> None:
        for item in value if isinstance(value, tuple) else (value,):
            if item is None:
                continue
            try:
                parse(item)
            except ConfigError as error:
                raise ConfigError(f"{error} @ {field.name}") from None

    return check


def _check_env(_config: object, field: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if not name or "=" in name or "\0" in name or "\0" in text:
            raise ConfigError(f"invalid environment variable {name!r} @ {field.name}")


def _check_volume(text: str) -> None:
    source, colon, rest = text.partition(":")
    target = rest.split(":")[0] if colon else source
    if not target.startswith("/") or target.rstrip("/") == "":
        raise ConfigError(f"expected volume:/inside, /host/path:/inside or /inside, not {text!r}")


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise ConfigError(f"expected letters, digits, '_', '.' and '-', at least two, not {text!r}")


def _check_workdir(text: str) -> None:
    if not text.startswith("/") or text.rstrip("/") == "" or "\0" in text:
        raise ConfigError(f"expected an absolute path other than /, not {text!r}")


def _check_image(text: str) -> None:
    if not text or text != text.strip() or text.startswith("-"):
        raise ConfigError(f"expected the name of an image, not {text!r}")


def _positive(_config: object, field: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigError(f"expected a number above 0, not {value!r} @ {field.name}")


@attrs.frozen(kw_only=True)
class DockerConfig:
    """How a container is made, and on which engine.

    Attributes:
        image: what the container is made of; it needs a POSIX ``sh``, and git (see `git`).
        pull: ``missing`` pulls an image that the engine does not have, ``always`` asks the registry each time,
            ``never`` takes what is there.
        name: the container's name; None lets the engine make one up. Only one machine can have it at a time.
        docker_host: the engine, such as ``unix:///run/docker.sock``, ``tcp://host:2376`` or ``ssh://user@host``; None
            is the one that the ``docker`` command would use.
        context: the name of a Docker context to take the engine from.
        cpus: how many processors it may use, such as 1.5; None is all.
        memory: how much memory it may use, such as ``2g``; there is no swap beyond it. None is no limit.
        disk: how large its writable layer may become, such as ``10g``, where the engine's storage driver can limit it.
        pids: how many processes and threads there may be at once.
        user: the user, or ``uid:gid``, that commands run as; None is the image's.
        env: variables of every command.
        labels: labels of the container.
        ports: ports to publish: ``8000`` (on 127.0.0.1, at a port that the engine chooses), ``9000:8000``,
            ``0.0.0.0:9000:8000``, each also with ``/udp``.
        volumes: ``volume:/inside``, ``/host/path:/inside`` or ``/inside`` (a new one that goes with the machine), with
            ``:ro`` for read-only.
        network: ``bridge``, ``none``, ``host`` or the name of a network.
        runtime: the runtime, such as ``runsc``; None is the engine's default.
        platform: the platform, such as ``linux/arm64``; None is the engine's.
        init: whether a small init process reaps orphans.
        workdir: the directory that commands start from; made, and given to `user`, if it does not exist.
        read_only: whether the container's root is read-only; then `workdir` is a volume of its own, and ``/tmp`` and
            ``/run`` are in memory.
        cap_add: capabilities beyond the few that installing packages needs.
        git: ``required`` refuses an image without git, ``install`` installs it there with the image's package manager,
            ``unchecked`` does not look: for machines that are used without a repository.
        extra: merged into the body of the engine's create request, for whatever has no option of its own.
    """

    image: str = attrs.field(default=DEFAULT_IMAGE, validator=_check(_check_image))
    pull: Literal["missing", "always", "never"] = attrs.field(
        default="missing", validator=_one_of("missing", "always", "never")
    )
    name: str | None = attrs.field(default=None, validator=_check(_check_name))
    docker_host: str | None = None
    context: str | None = None
    cpus: float | None = attrs.field(default=None, validator=_positive)
    memory: str | None = attrs.field(default=None, validator=_check(parse_size))
    disk: str | None = attrs.field(default=None, validator=_check(parse_size))
    pids: int = attrs.field(default=4096, validator=_positive)
    user: str | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, validator=_check_env, repr=lambda env: f"<{len(env)} variables>")
    labels: Mapping[str, str] = attrs.field(factory=dict)
    ports: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_check(parse_port))
    volumes: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_check(_check_volume))
    network: str = "bridge"
    runtime: str | None = None
    platform: str | None = None
    init: bool = True
    workdir: str = attrs.field(default="/home/user", validator=_check(_check_workdir))
    read_only: bool = False
    cap_add: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    git: Literal["required", "install", "unchecked"] = attrs.field(
        default="required", validator=_one_of("required", "install", "unchecked")
    )
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=lambda extra: f"<{len(extra)} fields>")
    """Kept out of representations: it may hold secrets."""

    def __attrs_post_init__(self) -> None:
        if self.docker_host is not None and self.context is not None:
            raise ConfigError("expected docker_host or context, not both @ docker_host")
