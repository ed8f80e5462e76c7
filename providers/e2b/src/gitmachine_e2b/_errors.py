"""What goes wrong below this provider, as GitMachine's errors.

Three things can happen to a request: it is refused (`Refusal`), the way to the peer breaks (`Broken`), or the answer
cannot be read (`RecordError`, `FrameError`).
"""

from __future__ import annotations

import errno
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from gitmachine import (
    AuthenticationError,
    GitMachineError,
    InvalidStateError,
    MachineError,
    MachineLostError,
    QuotaError,
)
from gitmachine.errors import file_error
from gitmachine_e2b._frames import FrameError
from gitmachine_e2b._records import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER = "e2b"
SHOWN_CHARACTERS = 300

_STATUS_CODES = {
    400: "invalid_argument",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    409: "already_exists",
    413: "resource_exhausted",
    429: "resource_exhausted",
    499: "canceled",
    500: "internal",
    501: "unimplemented",
    502: "unavailable",
    503: "unavailable",
    504: "deadline_exceeded",
    505: "unimplemented",
    507: "no_space",
}
"""The Connect code of an answer that names none: of a proxy, or of a plain HTTP route."""


class Refusal(Exception):  # noqa: N818  # not an error until it is known what it was about
    """The service's word that it did not do what was asked.

    Attributes:
        status: the HTTP status; 200 for what a stream says at its end.
        code: the Connect code, from the body or by the status.
        message: the service's own words.
        error_code: the control plane's finer code, or "".
        retry_after: seconds to wait that the service asked for, or None.
    """

    def __init__(
        self, message: str, *, status: int, code: str, error_code: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.error_code = error_code
        self.retry_after = retry_after

    @property
    def sandbox_gone(self) -> bool:
        """Whether the proxy in front of the sandboxes says that this one does not run."""
        return self.status == 502 and "was not found" in self.message

    @property
    def unreachable(self) -> bool:
        """Whether somebody on the way, not the peer, answered."""
        return self.code in ("unavailable", "deadline_exceeded") and self.status != 200


class Broken(Exception):  # noqa: N818  # as for `Refusal`
    """The connection failed; `sent` says whether the peer may have got the request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


PROBLEMS = (Refusal, Broken, RecordError, FrameError)
"""What can go wrong with a request."""


def refusal_of(status: int, headers: httpx.Headers, body: bytes) -> Refusal:
    """Return what an answer with an error status says, whatever its body is: JSON, plain text, a proxy's HTML."""
    data: Any = None
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        message = _plain(body)
    else:
        message = str(data.get("message", "")) if isinstance(data, dict) else _plain(body)
    fields = data if isinstance(data, dict) else {}
    code = fields.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        code = _STATUS_CODES.get(code)
    return Refusal(
        message or httpx.codes.get_reason_phrase(status) or "no reason given",
        status=status,
        code=code if isinstance(code, str) else _STATUS_CODES.get(status, "unknown"),
        error_code=str(fields.get("error_code") or ""),
        retry_after=_seconds(headers.get("retry-after")),
    )


def stream_refusal(error: Any) -> Refusal:
    """Return what the end of a stream says."""
    fields = error if isinstance(error, dict) else {}
    return Refusal(
        str(fields.get("message") or "no reason given"), status=200, code=str(fields.get("code") or "unknown")
    )


def _plain(body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    if text.startswith("<"):
        return f"an HTML page of {len(body)} bytes"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"


def _seconds(value: str | None) -> float | None:
    # whole seconds; a date, which HTTP allows as well, is not sent by this service
    return float(value) if value is not None and value.strip().isdigit() else None


@contextmanager
def transport_errors() -> Iterator[None]:
    """Raise httpx's errors as `Broken`. Its connect and pool errors come before anything was sent."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        raise Broken(_reason(error), sent=False) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Broken(_reason(error), sent=False) from error
    except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as error:
        raise Broken(_reason(error), sent=True) from error


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error).lower() or type(error).__name__


def machine_error(problem: Exception, sandbox_id: str | None, operation: str) -> GitMachineError:
    """Return a problem of a request as ours; the sandbox is named where it is known."""
    where = f"the E2B sandbox {sandbox_id!r}" if sandbox_id else "E2B"
    cls, why = _classified(problem)
    return cls(
        f"{where} could not {operation.replace('_', ' ')}: {why}",
        machine_id=sandbox_id,
        provider=PROVIDER,
        operation=operation,
    )


def _classified(problem: Exception) -> tuple[type[MachineError], str]:
    if isinstance(problem, Broken):
        doubt = "; it may have acted all the same" if problem.sent else ""
        return MachineLostError, f"{problem.reason}{doubt}"
    if not isinstance(problem, Refusal):
        return MachineError, f"an answer that cannot be read: {problem}"
    said = f"{problem.message} (HTTP {problem.status})" if problem.status != 200 else problem.message
    if problem.sandbox_gone:
        return MachineLostError, f"it does not run any more: {said}"
    if problem.code == "unauthenticated":
        return AuthenticationError, f"{said}: check api_key, or E2B_API_KEY"
    if problem.code == "resource_exhausted":
        return QuotaError, f"{said}{_advice(problem)}"
    if problem.code == "not_found" and problem.status in (200, 404):
        return MachineLostError, f"there is no such sandbox: {said}"
    if problem.unreachable:
        return MachineLostError, said
    if problem.status == 409:
        return InvalidStateError, said
    return MachineError, said


def _advice(problem: Refusal) -> str:
    if problem.retry_after is not None:
        return f": try again in {problem.retry_after:g} s"
    return ": stop sandboxes that are not needed, or ask for a higher limit"


@contextmanager
def machine_errors(sandbox_id: str | None, operation: str) -> Iterator[None]:
    """Raise what goes wrong with a request as one of GitMachine's errors."""
    try:
        yield
    except PROBLEMS as problem:
        raise machine_error(problem, sandbox_id, operation) from problem


_REASONS = {
    "no such file or directory": errno.ENOENT,
    "permission denied": errno.EACCES,
    "operation not permitted": errno.EPERM,
    "not a directory": errno.ENOTDIR,
    "is a directory": errno.EISDIR,
    "file exists": errno.EEXIST,
    "no space left on device": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "read-only file system": errno.EROFS,
    "file name too long": errno.ENAMETOOLONG,
    "too many levels of symbolic links": errno.ELOOP,
}
"""The kernel's reasons, as every tool prints them in the C locale."""


def errno_of(text: str) -> int:
    """Return the errno that a tool's complaint ends with; EIO for another one."""
    lowered = text.lower()
    found = [(lowered.rfind(reason), number) for reason, number in _REASONS.items() if reason in lowered]
    return max(found)[1] if found else errno.EIO


def file_problem(number: int, reason: str, *, path: str, sandbox_id: str | None, verb: str) -> MachineError:
    """Return the error of a file operation."""
    return file_error(
        number,
        f"cannot {verb} {path!r} in the machine: {reason}",
        path=path,
        machine_id=sandbox_id,
        provider=PROVIDER,
        operation=f"{verb}_file" if verb in ("read", "write") else verb,
    )
