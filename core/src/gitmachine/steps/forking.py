"""Fork: another session that begins as this one is, on a copy of its machine and a branch of its own."""

from __future__ import annotations

import asyncio
import posixpath
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CheckoutError, GitMachineError, InvalidStateError
from gitmachine.events import MachineStarted
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Machine, MachineState
from gitmachine.pump import KILL_GRACE_SECONDS
from gitmachine.steps.context import Phase
from gitmachine.steps.runs import guarded, runs_of
from gitmachine.steps.starting import record_of, refuse_clash

if TYPE_CHECKING:
    from gitmachine.session import AsyncGitMachine
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = ["fork"]


async def fork(ctx: Context, session: str | None, name: str | None) -> AsyncGitMachine:
    """Copy the machine and put the copy on a branch of its own; this session and its branch stay as they are.

    The new session is on record before there is a copy, as with a start: whoever finds it half done removes the copy,
    and nothing is lost by that, for the original has it all.

    Raises:
        UnsupportedOperation: the machine cannot be copied.
        CheckoutError: the branch exists already, on the remote or in the machine.
        StateError: another machine holds the new session.
    """
    if Capability.FORK not in ctx.machine.capabilities:
        raise ctx.machine.unsupported("fork", Capability.FORK)
    ctx.require_running("fork")
    gm, copy = _session(ctx, session, name)
    async with ctx.exclusive("fork"), copy.operations.hold("start", lifecycle=True) as operation:
        ctx.require_running("fork")
        copy.phase = Phase.STARTING
        try:
            await copy.open_journal()
            copy.open_transport()
            async with copy.locked("start"):
                await copy.journal.begin_machine(record_of(copy, "starting"))
                await _fork(ctx, copy, operation)
        except BaseException:
            copy.phase = Phase.ENDED
            await asyncio.shield(copy.close_state())
            raise
        copy.phase = Phase.READY
    return gm


def _session(ctx: Context, session: str | None, name: str | None) -> tuple[AsyncGitMachine, Context]:
    """Return the new session: as this one, without its callbacks, and without a machine."""
    from gitmachine.session import context_of

    setup = ctx.setup
    gm = type(ctx.gm)(
        _NotYet(ctx.inner.provider),
        repository=setup.repository.url,
        token=setup.token,
        session=session,
        env=ctx.env,
        identity=setup.identity,
        auto_commit=setup.auto_commit,
        timeout=setup.timeout,
        git=setup.git,
        guard=setup.guard,
        name=name,
        plugins=ctx.dispatcher.host,
    )
    copy = context_of(gm)
    copy.options = dict(ctx.options)
    return gm, copy


class _NotYet(Machine):
    """Stands for the copy while there is none: an idle machine that nobody asks for anything."""

    def __init__(self, provider: str) -> None:
        self.provider = provider  # type: ignore[misc]  # a constant for a provider's class

    @property
    def id(self) -> str | None:
        """None: it is not made."""
        return None

    @property
    def state(self) -> MachineState:
        """Idle."""
        return MachineState.IDLE

    def _refuse(self, operation: str) -> InvalidStateError:
        return InvalidStateError(f"cannot {operation}: the copy is not made yet", provider=self.provider)

    async def start(self) -> None:
        """Refuse."""
        raise self._refuse("start")

    async def stop(self) -> None:
        """Do nothing: there is none."""

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Refuse."""
        raise self._refuse(f"read {path!r}")

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Refuse."""
        raise self._refuse(f"write {path!r}")

    async def list_files(self, path: str = ".") -> list[str]:
        """Refuse."""
        raise self._refuse(f"list {path!r}")


async def _fork(ctx: Context, copy: Context, operation: Operation) -> None:
    """Do what the journal's row announces; when it fails, undo it."""
    made = False
    try:
        intent = await copy.intend("start")
        copy.start_sha, copy.created = ctx.start_sha, True
        await copy.remember()
        remote = await copy.transport.open()
        refuse_clash(copy, remote)
        if remote.branch(copy.branch) is not None:
            raise CheckoutError(
                f"the remote has the branch {copy.branch!r} already, and a fork begins a new one: choose another name"
            )
        copy.take(await guarded(ctx, lambda: ctx.machine.fork(label=copy.key)))
        made = True
        copy.known_path = _moved(ctx.path, ctx.machine.workdir, copy.machine.workdir)
        if ctx.setup.path is not None:
            copy.setup = attrs.evolve(copy.setup, path=copy.known_path)
        await copy.journal.update_machine(copy.key, machine_id=copy.machine.id, repo_path=copy.path)
        await copy.workspace.rename_branch(ctx.branch, copy.branch)
        await runs_of(copy).forget()
        await copy.journal.update_machine(copy.key, state="running", head=await copy.workspace.head())
        operation.emit(copy.event(MachineStarted, repo_path=copy.path))
        await operation.flush()
        await copy.dispatcher.step("gitmachine_setup", gm=copy.gm)
        await copy.journal.done(intent)
    except BaseException as error:
        operation.pending.clear()
        await asyncio.shield(_abandon(copy, error, made=made))
        raise


def _moved(path: str, before: str, after: str) -> str:
    """Return where something of the original is in the copy, whose working directory may have another name."""
    inside = posixpath.relpath(path, before)
    return path if inside.startswith("..") else posixpath.normpath(posixpath.join(after, inside))


async def _abandon(copy: Context, error: BaseException, *, made: bool) -> None:
    try:
        if made:
            await copy.machine.end_commands(KILL_GRACE_SECONDS)
            await copy.machine.stop()
    except (GitMachineError, OSError) as problem:
        error.add_note(f"the copy {copy.machine.id} may be left behind: {problem}")
        await copy.journal.update_machine(copy.key, state="running")
    else:
        await copy.end_record("failed")
    finally:
        await copy.close_state()
