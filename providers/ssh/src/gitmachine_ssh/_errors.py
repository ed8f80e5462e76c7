"""What goes wrong below this provider, as GitMachine's errors."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncssh

from gitmachine import AuthenticationError, ConfigError, GitMachineError, MachineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROVIDER", "HostKeyError", "connect_errors", "reason_of", "session_errors", "unreachable"]

PROVIDER = "ssh"

BROKEN = (OSError, TimeoutError, asyncssh.DisconnectError, asyncssh.ChannelOpenError, asyncssh.SFTPConnectionLost)
"""What the client library raises when there is no connection, or none any more."""


class HostKeyError(MachineUnreachableError):
    """The host did not prove to be the one it is known as: its key is unknown, changed or revoked."""


def reason_of(error: BaseException) -> str:
    """Return a foreign error in lower-case words; a bare TimeoutError has none of its own."""
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        text = os.strerror(error.errno or 0)
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = getattr(error, "reason", "") or str(error)
    if not text:
        text = "it did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return text[:1].lower() + text[1:].rstrip(".")


def unreachable(
    where: str, error: BaseException | None, *, machine_id: str | None = None, operation: str | None = None
) -> MachineUnreachableError:
    """Return the error for a connection that is gone in the middle of something."""
    reason = reason_of(error) if error is not None else "the connection was closed"
    return MachineUnreachableError(
        f"the connection to {where} was cut: {reason}; the machine may well go on, and the next call reconnects",
        machine_id=machine_id,
        provider=PROVIDER,
        operation=operation,
    )


@contextmanager
def connect_errors(where: str) -> Iterator[None]:
    """Raise what keeps a connection from coming to be; host keys and refused logins are told apart by the caller."""
    try:
        yield
    except GitMachineError:
        raise
    except (asyncssh.ConfigParseError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise ConfigError(f"the keys and settings for {where} cannot be used: {reason_of(error)}") from error
    except BROKEN as error:
        raise MachineUnreachableError(
            f"cannot connect to {where}: {reason_of(error)}", provider=PROVIDER, operation="connect"
        ) from error


@contextmanager
def session_errors(where: str, machine_id: str | None, operation: str) -> Iterator[None]:
    """Raise the end of a connection in the middle of an operation."""
    try:
        yield
    except GitMachineError:
        raise
    except BROKEN as error:
        raise unreachable(where, error, machine_id=machine_id, operation=operation) from error


def refused(where: str, tried: str, error: BaseException) -> AuthenticationError:
    """Return the error for a login that was refused; `tried` says what was offered."""
    return AuthenticationError(
        f"{where} refused the login ({reason_of(error)}); tried: {tried}; set user, identity_file or password, or "
        "add a key to the agent",
        provider=PROVIDER,
        operation="connect",
    )
