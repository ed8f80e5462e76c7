"""Making one connection: whom to trust, who we are, and through which hosts."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import attrs

from gitmachine import ConfigError
from gitmachine_ssh._errors import connect_errors, reason_of, refused
from gitmachine_ssh._hostkeys import HostKeys

if TYPE_CHECKING:
    from gitmachine_ssh.config import SSHConfig

__all__ = ["UNANSWERED", "dial", "where"]

UNANSWERED = 3
"""How many questions in a row a host may leave unanswered."""

MAX_JUMPS = 16
"""How many hosts may each be reached through another."""

IGNORE = 2
"""SSH_MSG_IGNORE, RFC 4253, 11.2."""
AUTHENTICATING = ("-gcm@openssh.com", "-poly1305@openssh.com")

FAST_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Put first: with the hardware of today about twice as fast here as the library's own first choice."""


def where(config: SSHConfig) -> str:
    """Return what to call the host in messages: what the user wrote."""
    user = f"{config.user}@" if config.user else ""
    return f"{user}{config.host}" + (f":{config.port}" if config.port else "")


class _Client(asyncssh.SSHClient):
    """Answers the library's questions about one connection."""

    def __init__(self, keys: HostKeys) -> None:
        self._keys = keys

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Judge a key that is not among the known ones."""
        return self._keys.judge(host, addr, port, key)


async def dial(config: SSHConfig) -> asyncssh.SSHClientConnection:
    """Connect, verify the host and log in; jump hosts first, each with the same settings, and through its own ones.

    Raises:
        HostKeyError: the host's key is unknown or changed.
        AuthenticationError: the login was refused; lists what was tried.
        ConfigError: a key or a file of settings cannot be used.
        MachineUnreachableError: anything else.
    """
    with connect_errors(where(config)):
        options = await asyncio.to_thread(_options, config)
        tunnel = await _through(config, options, (where(config),))
        try:
            return await _connect(config, options, tunnel)
        except BaseException:
            if tunnel is not None:
                tunnel.abort()
            raise


async def _through(
    config: SSHConfig, options: asyncssh.SSHClientConnectionOptions, way: tuple[str, ...]
) -> asyncssh.SSHClientConnection | None:
    """Connect to the last of the hosts to jump through.

    As with ssh, the first of them is reached the way that its own part of the configuration file says, and each of the
    others through the one before it.

    Args:
        config: where to go.
        options: its settings.
        way: the hosts that lead here, the one that is wanted in the end first.

    Raises:
        ConfigError: the way leads in a circle.
    """
    last: asyncssh.SSHClientConnection | None = None
    for step in _steps(config, options.tunnel):
        try:
            with connect_errors(f"{where(step)}, on the way to {where(config)}"):
                settings = await asyncio.to_thread(_options, step)
                if last is None and not await asyncio.to_thread(_jumps_to_itself, step, settings):
                    _refuse_circle(step, way)
                    last = await _through(step, settings, (*way, where(step)))
                last = await _connect(step, settings, last)
        except BaseException:
            if last is not None:
                last.abort()
            raise
    return last


def _steps(config: SSHConfig, jump: object) -> list[SSHConfig]:
    """Return the configuration of each host to jump through, the nearest first."""
    steps: list[SSHConfig] = []
    if not isinstance(jump, str) or jump.lower() == "none":
        return steps
    for hop in jump.split(","):
        user, _, host = hop.strip().removeprefix("ssh://").rpartition("@")
        host, port = _port_of(host)
        # Its password is another; a jump host of a jump host is in its own part of the configuration file.
        steps.append(attrs.evolve(config, host=host, port=port, user=user or None, password=None, jump=None))
    return steps


def _jumps_to_itself(step: SSHConfig, settings: asyncssh.SSHClientConnectionOptions) -> bool:
    """Tell whether a jump host's own jump is that host: what is written for ``Host *`` is meant for the others."""
    own = _steps(step, settings.tunnel)
    if len(own) != 1:
        return False
    there = _without_keys(own[0])
    return (there.host, there.port) == (settings.host, settings.port)


def _refuse_circle(step: SSHConfig, way: tuple[str, ...]) -> None:
    """Raise ConfigError when a host to jump through is on the way already."""
    if where(step) in way or len(way) > MAX_JUMPS:
        raise ConfigError(
            f"the hosts to jump through lead in a circle: {', '.join((*way, where(step)))}; write ProxyJump none for "
            "the one that is reached directly"
        )


def _port_of(host: str) -> tuple[str, int | None]:
    """Split off the port: ``name:22``, ``[::1]:22``."""
    name, colon, port = host.rpartition(":")
    if not colon or (":" in name and not name.endswith("]")):
        return host.strip("[]"), None
    if not port.isdigit():
        raise ConfigError(f"expected user@host:port, not {host!r} @ jump")
    return name.strip("[]"), int(port)


async def _connect(
    config: SSHConfig, options: asyncssh.SSHClientConnectionOptions, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    own = options.known_hosts
    files = config.known_hosts or (tuple(map(str, own)) if isinstance(own, list) else ())
    keys = await asyncio.to_thread(HostKeys, files, accept_new=config.accept_new)
    settled: dict[str, Any] = {"known_hosts": keys.known, "client_factory": lambda: _Client(keys), "tunnel": tunnel}
    if tunnel is not None:
        settled["proxy_command"] = None
    try:
        connection = await asyncssh.connect(config.host, config.port or (), options=options, config=None, **settled)
    except asyncssh.HostKeyNotVerifiable as error:
        raise keys.refusal(error) from error
    except asyncssh.PermissionDenied as error:
        raise refused(where(config), await _tried(config, options), error) from error
    await asyncio.to_thread(keys.save)
    _spare_ignored(connection)
    if tunnel is not None:
        connection.set_tunnel(tunnel)
    return connection


def _spare_ignored(connection: asyncssh.SSHClientConnection) -> None:
    """Leave out the packet to be ignored that the library sends before every other: half of all packets.

    It hides the chaining of the old ciphers' blocks (RFC 4251, 9.3.1); those with authentication chain nothing.
    """
    cipher = str(connection.get_extra_info("send_cipher"))
    if not cipher.endswith(AUTHENTICATING):
        return
    send = connection.send_packet

    def spare(kind: int, *parts: bytes, **options: Any) -> None:
        if kind != IGNORE:
            send(kind, *parts, **options)

    connection.send_packet = spare  # type: ignore[method-assign,assignment]  # there is no setting for it


def _options(config: SSHConfig) -> asyncssh.SSHClientConnectionOptions:
    """Read the configuration file and the keys; for a thread, since it may ask for a passphrase."""
    files = _config_files(config)
    given: dict[str, Any] = {
        "host": config.host,
        "config": files,
        "connect_timeout": config.connect_timeout,
        "login_timeout": config.connect_timeout,
        "keepalive_interval": config.keepalive,
        "keepalive_count_max": UNANSWERED,
        "passphrase": config.passphrase,
        "password": config.password,
        "tcp_keepalive": True,
    }
    if config.port is not None:
        given["port"] = config.port
    if config.user is not None:
        given["username"] = config.user
    if config.jump is not None:
        given["tunnel"] = config.jump
    if config.identity_file:
        given["client_keys"] = _key_files(config.identity_file)
    if config.agent is not True:
        given["agent_path"] = config.agent or None
    if _without_keys(config).config.get("Ciphers") is None:
        given["encryption_algs"] = FAST_CIPHERS
    return asyncssh.SSHClientConnectionOptions(**given)


def _key_files(names: tuple[str, ...]) -> list[str]:
    """Return the paths of the keys that were named; the library would not say which of them is not there."""
    paths, problems = [], []
    for name in names:
        path = Path(name).expanduser()
        try:
            path.open("rb").close()
        except OSError as error:
            problems.append(
                f"the key {name!r} cannot be read: {(error.strerror or str(error)).lower()} @ identity_file"
            )
        paths.append(str(path))
    if problems:
        raise ConfigError(*problems)
    return paths


def _without_keys(config: SSHConfig) -> asyncssh.SSHClientConnectionOptions:
    """Read the configuration file alone, so that nobody is asked for a passphrase twice."""
    given: dict[str, Any] = {} if config.port is None else {"port": config.port}
    return asyncssh.SSHClientConnectionOptions(
        host=config.host, config=_config_files(config), client_keys=None, agent_path=None, **given
    )


def _config_files(config: SSHConfig) -> list[str] | None:
    if config.config_file is None:
        return None
    path = Path(config.config_file).expanduser()
    if not path.exists():
        if config.config_file == "~/.ssh/config":
            return None
        raise ConfigError(f"there is no file {config.config_file!r} @ config_file")
    return [str(path)]


async def _tried(config: SSHConfig, options: asyncssh.SSHClientConnectionOptions) -> str:
    """List what was offered to the host."""
    tried = [_shown(pair) for pair in options.client_keys or ()]
    if options.agent_path:
        # Only for the message: an agent that does not answer has no keys.
        with contextlib.suppress(OSError, ValueError, asyncssh.Error):
            agent = await asyncssh.connect_agent(options.agent_path)
            try:
                tried += [f"{_shown(pair)} of the agent" for pair in await agent.get_keys()]
            finally:
                agent.close()
    if config.password is not None:
        tried.append("the password")
    tried += await asyncio.to_thread(_locked, config)
    user = f"as {options.username!r}: "
    return user + (", ".join(tried) if tried else "nothing, since there is no key and no password")


def _locked(config: SSHConfig) -> list[str]:
    """Return the keys that could not be unlocked: the library opens them when the host has accepted their public half.

    A callable is not asked again.
    """
    problems: list[str] = []
    passphrase = config.passphrase
    if callable(passphrase):
        return problems
    for name in config.identity_file:
        try:
            asyncssh.read_private_key(Path(name).expanduser(), passphrase)
        except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            problems.append(f"{name} cannot be used: {reason_of(error)}")
    return problems


def _shown(pair: asyncssh.SSHKeyPair) -> str:
    comment = pair.get_comment_bytes() or b""
    text = comment.decode("utf-8", "replace")
    return f"the key {text!r} ({pair.get_algorithm()})" if text else f"a key ({pair.get_algorithm()})"
