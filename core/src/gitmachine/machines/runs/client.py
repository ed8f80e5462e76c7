"""The client of detached runs, over nothing but a machine's `execute`."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import ConfigError, MachineError, StateError
from gitmachine.execution import ExecRequest
from gitmachine.machines.runs import scripts
from gitmachine.machines.runs.ending import END
from gitmachine.outcomes import RunInfo, RunState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gitmachine.execution import ExecResult

__all__ = ["CHUNK_BYTES", "Piece", "Runs", "new_run_id"]

CHUNK_BYTES = 1 << 20
"""The most of each stream that one look brings."""

NAPS = "0.02 0.03 0.05 0.1 0.1 0.2 0.2 0.2 0.2 0.2 0.2 0.2 0.3"
"""How a look waits in the machine for something new: 2 seconds in all, so that no stop has to wait long for it."""

START_SECONDS = 120.0
SHORT_SECONDS = 60.0
MAX_LISTING_BYTES = 16 << 20
MAX_INFO_CHARS = 100_000
MAX_COMMAND_CHARS = 2000
"""How much of a command is kept beside its run."""

MARKS = 1 << 40
"""Added to a run's id, it is a mark that no provider uses for commands of its own."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ID = re.compile(r"[0-9a-f]{8}")


def new_run_id() -> str:
    """Return an id for a run."""
    return secrets.token_hex(4)


@attrs.frozen(kw_only=True)
class Piece:
    """What one look at a run brought: the run's progress, and output from the offsets asked for.

    Attributes:
        state: where the run is.
        exit_code: its exit code, or None.
        stdout_bytes: how much standard output there is; all of it when the run has ended.
        stderr_bytes: the same of standard error.
        finished: UTC, or None.
        truncated: whether output was lost because the machine's disk was full.
        stdout: a piece of standard output.
        stderr: a piece of standard error.
    """

    state: RunState
    exit_code: int | None
    stdout_bytes: int
    stderr_bytes: int
    finished: datetime | None
    truncated: bool
    stdout: bytes = attrs.field(default=b"", repr=False)
    stderr: bytes = attrs.field(default=b"", repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the run."""
        return self.state not in {RunState.STARTING, RunState.RUNNING}


class Runs:
    """The detached runs of one machine.

    Args:
        execute: runs a command in the machine.
        directory: where the runs are, absolute, in the machine; made when the first one starts.
    """

    def __init__(self, execute: Callable[[ExecRequest], Awaitable[ExecResult]], directory: str) -> None:
        self._execute = execute
        self._directory = directory

    async def start(self, request: ExecRequest, info: RunInfo) -> None:
        """Start a command; it is under way when this returns.

        Looks at the request's command, cwd, env and stdin.

        Raises:
            ConfigError: a variable's name is none that a shell can pass on.
            MachineFileNotFoundError: the working directory does not exist; nothing was started.
            MachineError: the run's files could not be made.
        """
        odd = [name for name in request.env if not _VARIABLE.fullmatch(name)]
        if odd:
            raise ConfigError(f"a detached run cannot be given the variable {odd[0]!r}: a shell passes no such name on")
        record = {"name": info.name, "command": info.command[:MAX_COMMAND_CHARS], "started": info.started.isoformat()}
        argv = scripts.argv(
            scripts.START,
            scripts.SUPERVISOR,
            self._directory,
            info.id,
            json.dumps(record),
            str(MARKS + int(info.id, 16)),
            *request.command,
        )
        stdin = request.stdin if request.stdin is not None else b""
        asked = ExecRequest(argv=argv, cwd=request.cwd, env=request.env, stdin=stdin, timeout=START_SECONDS)
        result = await self._execute(asked)
        if result.stdout_bytes != b"started\n":
            raise _failure(f"start the run {info.id}", result)

    async def forget(self) -> None:
        """Remove everything about runs, of which none is alive: what a copy of a machine has of the original's."""
        argv = ["rm", "-rf", "--", self._directory]
        result = await self._execute(ExecRequest(argv=argv, timeout=SHORT_SECONDS))
        if result.exit_code != 0:
            raise _failure("forget the runs", result)

    async def list(self) -> tuple[RunInfo, ...]:
        """Return every run of the machine, the oldest first."""
        argv = scripts.argv(scripts.LIST, self._directory)
        result = await self._execute(ExecRequest(argv=argv, timeout=SHORT_SECONDS, max_output_bytes=MAX_LISTING_BYTES))
        if result.exit_code != 0 or result.truncated:
            raise _failure("list the runs", result)
        lines = result.stdout_bytes.decode("utf-8", "replace").splitlines()
        found = [_info(progress, record) for progress, record in zip(lines[::2], lines[1::2], strict=False)]
        return tuple(sorted((info for info in found if info is not None), key=lambda info: (info.started, info.id)))

    async def look(
        self,
        run_id: str,
        *,
        stdout: int | None = None,
        stderr: int | None = None,
        wait: bool = False,
        max_bytes: int = CHUNK_BYTES,
    ) -> Piece:
        """Return a run's progress and the next piece of its output.

        Args:
            run_id: the run.
            stdout, stderr: from which offset to read the stream; None does not.
            wait: wait up to 2 seconds while the run goes on and there is nothing new.
            max_bytes: the most to return of each stream.

        Raises:
            StateError: there is no such run.
        """
        which = ("" if stdout is None else "o") + ("" if stderr is None else "e")
        naps = NAPS if wait else ""
        argv = scripts.argv(
            scripts.READ, self._path(run_id), which or "-", str(stdout or 0), str(stderr or 0), str(max_bytes), naps
        )
        result = await self._execute(ExecRequest(argv=argv, max_output_bytes=2 * max_bytes + 4096))
        head, _, data = result.stdout_bytes.partition(b"\n")
        if head == b"@fail gone":
            raise StateError(f"there is no run {run_id!r} in the machine: see runs()")
        piece = _progress(head.decode("ascii", "replace").split(" "))
        if piece is None or result.exit_code != 0 or result.truncated:
            raise _failure(f"read the run {run_id}", result)
        return attrs.evolve(piece, stdout=data, stderr=result.stderr_bytes)

    async def kill(self, run_id: str) -> None:
        """Kill a run with everything that it started; also what an ended one left behind."""
        await self._end(0.0, self._path(run_id))

    async def end_all(self, grace_seconds: float) -> None:
        """Ask every run to end (SIGTERM), and kill what is left of them after so many seconds."""
        await self._end(grace_seconds, "all", self._directory)

    async def _end(self, grace_seconds: float, *which: str) -> None:
        argv = scripts.argv(END, str(round(grace_seconds)), *which)
        result = await self._execute(ExecRequest(argv=argv, timeout=SHORT_SECONDS + grace_seconds))
        if not result.stdout_bytes.endswith(b"ended\n"):
            raise _failure("end the runs", result)

    def _path(self, run_id: str) -> str:
        return f"{self._directory}/{run_id}"


def _failure(what: str, result: ExecResult) -> MachineError:
    reason = result.stdout.partition("@fail ")[2].partition("\n")[0]
    tail = result.stderr[-500:].strip()
    said = ": ".join(part for part in (reason, tail) if part) or f"the script exited with {result.exit_code}"
    return MachineError(f"cannot {what}: {said}")


def _progress(words: list[str]) -> Piece | None:
    """Return what a line of `look` says; None when a machine says what cannot be."""
    try:
        _, state, code, out, err, finished, broken = words
        return Piece(
            state=RunState(state),
            exit_code=None if code == "-" else int(code),
            stdout_bytes=int(out),
            stderr_bytes=int(err),
            finished=None if finished == "0" else datetime.fromtimestamp(int(finished), UTC),
            truncated=broken == "1",
        )
    except (ValueError, OverflowError, OSError):
        return None


def _info(progress: str, record: str) -> RunInfo | None:
    words = progress.split(" ")
    piece = _progress(words)
    if piece is None or not _ID.fullmatch(words[0]) or len(record) > MAX_INFO_CHARS:
        return None
    told = _record(record)
    return RunInfo(
        id=words[0],
        name=told.get("name"),
        command=told.get("command") or "",
        started=_time(told.get("started")),
        state=piece.state,
        exit_code=piece.exit_code,
        stdout_bytes=piece.stdout_bytes,
        stderr_bytes=piece.stderr_bytes,
        finished=piece.finished,
        truncated=piece.truncated,
    )


def _record(text: str) -> dict[str, str]:
    """Return the texts of a run's info; what is written in the machine may be anything."""
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    items: Mapping[Any, Any] = data if isinstance(data, dict) else {}
    return {str(key): value for key, value in items.items() if isinstance(value, str)}


def _time(text: str | None) -> datetime:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
