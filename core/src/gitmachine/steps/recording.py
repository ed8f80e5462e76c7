"""What a session writes down of itself, for whoever comes after this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitmachine.state.memory import SessionMemory, forget, recall, remember
from gitmachine.state.origins import Origin, remember_origin
from gitmachine.state.owner import this_process

if TYPE_CHECKING:
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places
    from gitmachine.steps.setup import SessionSetup

__all__ = ["Recording"]


class Recording:
    """The half of `Context` that writes to the journal and beside it."""

    setup: SessionSetup
    places: Places
    journal: Journal
    env: dict[str, str]
    key: str
    branch: str
    start_sha: str | None
    created: bool
    attached: bool = False
    """Whether the session only acts on a machine that may be somebody else's."""

    async def remember(self) -> None:
        """Keep what another process needs to go on with this session."""
        setup = self.setup
        memory = SessionMemory(
            repository=setup.repository.url,
            identity=setup.identity,
            auto_commit=setup.auto_commit,
            timeout=setup.timeout,
            git=setup.git,
            guard=setup.guard,
            env=self.env,
            start_sha=self.start_sha,
            created=self.created,
        )
        await remember(self.places, self.key, memory)
        await remember_origin(self.places, self.key, Origin(repository=setup.repository.url, session=self.branch))

    async def recall(self) -> None:
        """Take up what the process that started this session kept of it."""
        memory = await recall(self.places, self.key)
        self.start_sha, self.created = memory.start_sha, memory.created

    async def intend(self, operation: str, **detail: Any) -> int:
        """Write that an operation is about to happen, and who does it: when that process dies, it is half done."""
        pid, started = this_process()
        return await self.journal.intend(self.key, operation, {"pid": pid, "started": started, **detail})

    async def own(self, **fields: Any) -> None:
        """Write that this session drives the machine."""
        self.attached = False
        pid, started = this_process()
        await self.journal.update_machine(self.key, owner_pid=pid, owner_start=started, **fields)

    async def disown(self) -> None:
        """Write that nobody drives the machine, if it was this session."""
        if self.attached:
            return
        record = await self.journal.machine(self.key)
        if (record.owner_pid, record.owner_start) == this_process():
            await self.journal.update_machine(self.key, owner_pid=None, owner_start=None)

    async def end_record(self, state: str) -> None:
        """Have the journal and the host forget the machine."""
        await self.journal.end_machine(self.key, state)
        await forget(self.places, self.key)
