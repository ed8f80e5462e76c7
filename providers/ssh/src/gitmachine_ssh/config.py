"""The options of the SSH provider."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping  # noqa: TC003  # cattrs resolves annotations at run time
from typing import Any

import attrs

from gitmachine import ConfigError

__all__ = ["SSHConfig"]

_SHELL = re.compile(r"[A-Za-z0-9_./+-]+")
_ENV_NAME = re.compile(r"[^=\0]+")


def _strings(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _words(_config: object, field: attrs.Attribute[Any], value: str | None) -> None:
    """Refuse what ssh itself would take for an option, or what no host, user or path can be."""
    if value is not None and (not value or value.startswith("-") or "\0" in value or "\n" in value):
        raise ConfigError(f"expected a name or a path, not {value!r} @ {field.name}")


def _port(_config: object, field: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and not 0 < value < 1 << 16:
        raise ConfigError(f"expected a port from 1 to 65535, not {value!r} @ {field.name}")


def _seconds(_config: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0.1 <= value <= 3600:
        raise ConfigError(f"expected 0.1 to 3600 seconds, not {value!r} @ {field.name}")


def _shell(_config: object, field: attrs.Attribute[Any], value: str) -> None:
    if not _SHELL.fullmatch(value):
        raise ConfigError(f"expected a program's name or path without spaces or quotes, not {value!r} @ {field.name}")


def _env(_config: object, field: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in text:
            raise ConfigError(f"invalid environment variable {name!r} @ {field.name}")


@attrs.frozen(kw_only=True)
class SSHConfig:
    """Where an SSH machine is made, and how to get there. What is left out is as for ``ssh`` itself.

    Attributes:
        host: a name or address, or a ``Host`` of the configuration file.
        port: the port; None is the configuration file's, else 22.
        user: the account; None is the configuration file's, else the local user's name.
        identity_file: private keys to try; none are the configuration file's, else the usual ones in ``~/.ssh``. A
            certificate in ``KEY-cert.pub`` is used with its key.
        password: the password of the account, only as ``"${VARIABLE}"`` in a configuration, or a callable from Python.
        passphrase: the passphrase of encrypted keys, as `password`; a callable is called with the key's file name.
        config_file: the ssh configuration; None reads none.
        jump: the hosts to go through, as ``user@host:port,…``; None is the configuration file's ``ProxyJump``.
        known_hosts: files with the keys of hosts; none are the configuration file's, else ``~/.ssh/known_hosts`` and
            ``/etc/ssh/ssh_known_hosts``.
        accept_new: write the key of a host that was never seen into the first of `known_hosts` and trust it from then
            on. A changed key is refused all the same.
        agent: whether to ask the ssh agent for keys; a path is its socket.
        connect_timeout: seconds until a connection must stand, logged in.
        keepalive: seconds between questions to a silent host. One that leaves four in a row unanswered counts as cut
            off.
        base_dir: the directory on the host in which machines are made; relative ones are below the account's home.
        shell: the POSIX shell on the host that runs scripts.
        env: variables of every command.
    """

    host: str = attrs.field(validator=_words)
    port: int | None = attrs.field(default=None, validator=_port)
    user: str | None = attrs.field(default=None, validator=_words)
    identity_file: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    password: str | Callable[[], str | None] | None = attrs.field(
        default=None, repr=False, metadata={"secret": True, "written": False}
    )
    passphrase: str | Callable[[str], str | None] | None = attrs.field(
        default=None, repr=False, metadata={"secret": True, "written": False}
    )
    config_file: str | None = attrs.field(default="~/.ssh/config")
    jump: str | None = attrs.field(default=None, validator=_words)
    known_hosts: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    accept_new: bool = False
    agent: bool | str = True
    connect_timeout: float = attrs.field(default=10.0, validator=_seconds)
    keepalive: float = attrs.field(default=10.0, validator=_seconds)
    base_dir: str = attrs.field(default=".gitmachine/machines", validator=_words)
    shell: str = attrs.field(default="sh", validator=_shell)
    env: Mapping[str, str] = attrs.field(factory=dict, validator=_env, repr=lambda env: f"<{len(env)} variables>")
