"""What goes wrong at the engine, as GitMachine's errors, with what to do."""

from __future__ import annotations

import os
import re
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiodocker
import aiohttp

from gitmachine import (
    AuthenticationError,
    GitMachineError,
    InvalidStateError,
    MachineError,
    MachineLostError,
    MachineStartError,
    MachineUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitmachine_local_docker._dial import Dialer
    from gitmachine_local_docker._endpoint import Endpoint

__all__ = [
    "FOREIGN",
    "PROVIDER",
    "advice",
    "command_errors",
    "is_missing",
    "is_unreachable",
    "lost",
    "machine_errors",
    "out_of_reach",
    "start_errors",
    "unreachable",
]

PROVIDER = "local_docker"
FOREIGN = (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError)

_NOT_TLS = "HTTP request to an HTTPS server"
NO_CONNECTION = 900
"""The status that aiodocker gives to a connection that could not be made."""

_ADVICE = (
    (
        r"no space left on device",
        "the engine's disk is full: free some space, `docker system prune` shows what could go",
    ),
    (
        r"port is already allocated|address already in use",
        "another container or program has this port: choose another in `ports`, or name only the inner port",
    ),
    (r"is already in use by container", "remove that container, or give another `name`"),
    (
        r"storage-opt is supported only|--storage-opt|pquota",
        "the engine's storage driver cannot limit a disk (overlay2 on xfs with pquota can): leave `disk` out",
    ),
    (
        r"unknown( or invalid)? runtime",
        "the engine has no such `runtime`: `docker info` lists them",
    ),
    (r"network .* not found", "make it with `docker network create`, or take bridge or none as `network`"),
    (r"bind source path does not exist", "a path in `volumes` has to exist on the engine's host"),
    (r"minimum memory limit", "give more `memory`: the engine needs at least 6m"),
    (r"range of cpus", "the engine's host does not have so many processors: give fewer `cpus`"),
    (
        r"does not match the (specified|detected) platform|no matching manifest|exec format error",
        "the image is for another `platform`",
    ),
    (
        r"executable file not found|no such file or directory: unknown|stat sh: no such file",
        "the image has no `sh`: a machine needs a POSIX shell",
    ),
    (
        r"unable to find user|no matching entries in passwd",
        "the image has no such `user`: give a uid, or add the account",
    ),
    (r"invalid .*capability|unknown capability", "`cap_add` takes names such as NET_RAW"),
)


def advice(message: str) -> str:
    """Return what to do about an engine's message, or ""."""
    for pattern, text in _ADVICE:
        if re.search(pattern, message, re.IGNORECASE):
            return text
    return ""


def _said(error: BaseException) -> str:
    text = error.message if isinstance(error, aiodocker.DockerError) else str(error)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ssl.SSLError):
        text = os.strerror(error.errno).lower()
    return " ".join(str(text).split()) or type(error).__name__


def _with_advice(text: str) -> str:
    more = advice(text)
    return f"{text}: {more}" if more else text


def is_missing(error: BaseException) -> bool:
    """Whether the engine says that there is no such thing."""
    return isinstance(error, aiodocker.DockerError) and error.status == 404


def is_unreachable(error: BaseException) -> bool:
    """Whether the engine was not reached at all, or the connection to it broke."""
    if isinstance(error, aiodocker.DockerError):
        return error.status == NO_CONNECTION or _NOT_TLS in error.message
    return isinstance(error, FOREIGN)


def unreachable(error: BaseException, dialer: Dialer) -> str:
    """Say why an engine cannot be reached, and what to do."""
    endpoint = dialer.endpoint
    cause = _cause(error)
    where = f"the Docker engine at {endpoint.url} ({endpoint.origin})"
    if endpoint.parts.scheme == "ssh":
        said = dialer.complaint.splitlines()[-1].rstrip(".") if dialer.complaint else _said(error)
        return f"{where} cannot be reached over ssh: {said}: try `ssh {endpoint.parts.netloc} docker version`"
    if isinstance(cause, PermissionError):
        return (
            f"{where} refuses this user: permission denied on {endpoint.parts.path}: join the group that owns it "
            "(usually docker; it is equal to root), or use a rootless engine"
        )
    if endpoint.tls and dialer.complaint:
        return f"{where} does not agree on TLS: {dialer.complaint}: {_tls_advice(endpoint)}"
    if isinstance(cause, ssl.SSLError) or "tls" in _said(error).lower() or _NOT_TLS in _said(error):
        return f"{where} does not agree on TLS: {_said(cause or error)}: {_tls_advice(endpoint)}"
    if endpoint.tls and not isinstance(cause, ConnectionRefusedError | TimeoutError | socket.gaierror):
        said = _said(cause or error)
        return f"{where} closed the connection, perhaps for our certificate: {said}: {_tls_advice(endpoint)}"
    if isinstance(error, TimeoutError):
        return f"{where} does not answer: is it running, and reachable from here?"
    return f"{where} is not running or cannot be reached: {_said(cause or error)}: start it, or name another"


def _cause(error: BaseException) -> BaseException | None:
    """Return what is below aiodocker's and aiohttp's wrappings."""
    found: BaseException | None = None
    at: BaseException | None = error
    seen: set[int] = set()  # a chain may come back to where it was
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if isinstance(at, ssl.SSLError | PermissionError):
            return at
        if isinstance(at, OSError):
            found = at
        at = at.__cause__ or at.__context__
    return found


def _tls_advice(endpoint: Endpoint) -> str:
    if endpoint.tls:
        return f"check ca.pem, cert.pem and key.pem in {endpoint.certificates} and the name in the engine's certificate"
    return "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or use a context with TLS"


def lost(reason: str, machine_id: str | None, operation: str) -> MachineLostError:
    """Return the error for a machine that is gone."""
    short = machine_id[:12] if machine_id else ""
    return MachineLostError(
        f"the container {short} is lost: {reason}", machine_id=machine_id, provider=PROVIDER, operation=operation
    )


def out_of_reach(
    error: BaseException, dialer: Dialer, machine_id: str | None, operation: str
) -> MachineUnreachableError:
    """Return the error for an engine that is not reached; its containers may go on."""
    message = unreachable(error, dialer)
    return MachineUnreachableError(message, machine_id=machine_id, provider=PROVIDER, operation=operation)


def command_errors(error: BaseException, machine_id: str | None, operation: str) -> MachineError:
    """Return the error for an engine's refusal of an operation on a container that was running."""
    text = _said(error)
    status = error.status if isinstance(error, aiodocker.DockerError) else 0
    if status == 404 and re.search(r"no such (container|exec)", text, re.IGNORECASE):
        return lost("somebody removed it", machine_id, operation)
    if status == 409 and "is paused" in text:
        message = "the container was paused by somebody else: call resume(), or `docker unpause` it"
        return InvalidStateError(message, machine_id=machine_id, provider=PROVIDER, operation=operation)
    if status in {304, 409, 500} and re.search(
        r"is not running|not running|is restarting|cannot exec in a stopped", text
    ):
        return lost("it does not run any more", machine_id, operation)
    message = _with_advice(f"the container could not {operation.replace('_', ' ')}: {text}")
    return MachineError(message, machine_id=machine_id, provider=PROVIDER, operation=operation)


@contextmanager
def machine_errors(dialer: Dialer, machine_id: str | None, operation: str) -> Iterator[None]:
    """Raise what an engine refuses about a container that was running."""
    try:
        yield
    except GitMachineError:
        raise
    except FOREIGN as error:
        if is_unreachable(error):
            raise out_of_reach(error, dialer, machine_id, operation) from error
        raise command_errors(error, machine_id, operation) from error


@contextmanager
def start_errors(dialer: Dialer, image: str) -> Iterator[None]:
    """Raise what keeps a container from starting."""
    try:
        yield
    except MachineStartError:
        raise
    except (MachineLostError, MachineUnreachableError) as error:
        raise MachineStartError(str(error), provider=PROVIDER, operation="start") from error
    except FOREIGN as error:
        if isinstance(error, MachineError):
            raise
        if is_unreachable(error):
            message = unreachable(error, dialer)
        elif is_missing(error) and "image" in _said(error).lower():
            message = f"there is no image {image!r} at the engine: pull it, or set pull to missing"
        else:
            message = _with_advice(f"the container did not start: {_said(error)}")
        cls = AuthenticationError if getattr(error, "status", 0) == 401 else MachineStartError
        raise cls(message, provider=PROVIDER, operation="start") from error
