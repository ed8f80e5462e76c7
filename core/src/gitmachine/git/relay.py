"""The relay: the host talks to the remote, the machine talks to the host; no credential enters the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CloneError
from gitmachine.git.bundles import BundleInward, BundleOutward
from gitmachine.git.carrier import IncompleteError
from gitmachine.git.carrying import Delivery, object_format
from gitmachine.git.collecting import collect
from gitmachine.git.host import GitCall
from gitmachine.git.lfs import check_lfs, skip_lfs
from gitmachine.git.packs import pack_of
from gitmachine.git.publishing import publish
from gitmachine.git.streams import StreamInward, StreamOutward
from gitmachine.git.submodules import relay_submodules
from gitmachine.git.transport import DivergencePolicy, Populated, Transport, unknown_base
from gitmachine.machine import Capability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine.git.carrier import Inward, Outward
    from gitmachine.git.model import RemoteState, Survey
    from gitmachine.machine import Machine
    from gitmachine.outcomes import PushResult

__all__ = ["RelayTransport"]

MOST_KNOWN = 32
"""How many commits that both sides have are named to a machine that packs the others."""


@attrs.frozen(kw_only=True)
class _Prepared:
    """What `prepare` found out, and what for."""

    state: RemoteState
    branch: str
    base: str | None
    start: Populated
    pack: bytes | None = attrs.field(repr=False)


class RelayTransport(Transport):
    """Mirror and session repository on the host; streams or bundles to and from the machine."""

    mirrored = True
    _prepared: _Prepared | None = None
    _start_sha: str | None = None
    """The commit that the machine was given to start from."""

    async def ask(self) -> RemoteState:
        """Ask the remote, with an eye on the mirror."""
        return await self.mirror.ask(self.setup.credentials)

    async def open(self, answer: RemoteState | None = None) -> RemoteState:
        """Update the mirror with this session's credential."""
        self.remote_state = await self.mirror.update(self.setup.credentials, answer)
        await self.store.open(object_format=object_format(self.remote_state))
        return self.remote_state

    async def prepare(self, machine: Machine, *, branch: str, base: str | None = None) -> None:
        """Find the commit to start from, and pack a small repository for a machine that takes it by a stream."""
        state = self.remote_state if self.remote_state is not None else await self.open()
        start = await self._start(state, branch, base)
        streamed = isinstance(self.inward(machine), StreamInward) and self.setup.options.depth is None
        pack = await pack_of(self.host, self.mirror.path, state) if streamed else None
        self._prepared = _Prepared(state=state, branch=branch, base=base, start=start, pack=pack)

    async def _start(self, state: RemoteState, branch: str, base: str | None) -> Populated:
        start = await self.start_point(state, branch, base)
        await check_lfs(self.host, self.mirror.path, start.start_sha, self.setup.options.lfs)
        return start

    async def populate(self, machine: Machine, path: str, *, branch: str, base: str | None = None) -> Populated:
        """Serve the mirror to the machine, once."""
        state = self.remote_state if self.remote_state is not None else await self.open()
        ready, self._prepared = self._prepared, None
        pack = None
        if ready is not None and (ready.state, ready.branch, ready.base) == (state, branch, base):
            start, pack = ready.start, ready.pack
        else:
            start = await self._start(state, branch, base)
        await self._deliver(machine, path, state, fresh=True, commit=start.start_sha, pack=pack)
        self._start_sha = start.start_sha
        if self.setup.options.lfs == "skip":
            await skip_lfs(machine, path)
        return start

    async def populate_submodules(self, machine: Machine, path: str, sha: str) -> Sequence[str]:
        """Each through a mirror of its own."""
        return await relay_submodules(self, self.inward(machine), machine, path, sha)

    async def refresh(self, machine: Machine, path: str) -> RemoteState:
        """Update the mirror, then serve it to the machine."""
        state = await self.open()
        await self._deliver(machine, path, state, fresh=False)
        return state

    async def collect(self, machine: Machine, path: str, survey: Survey) -> None:
        """Fetch from the machine into the session repository."""
        await self.store.open()
        try:
            await collect(self.store, self.outward(machine), machine, path, survey)
        except IncompleteError:
            # An agent with a network fetches for itself: its work may stand on commits that only the remote has.
            await self.mirror.update(self.setup.credentials)
            await collect(self.store, self.outward(machine), machine, path, survey)

    async def publish(
        self,
        sha: str,
        branch: str,
        *,
        policy: DivergencePolicy = "fail",
        lease: str | None = None,
        machine: Machine | None = None,
        path: str | None = None,
    ) -> PushResult:
        """Push from the session repository."""
        del machine, path
        result, state = await publish(self, sha, branch, policy=policy, lease=lease)
        self.remote_state = state
        return result

    async def commit_of(self, revision: str, base: str) -> str:
        """Look in the mirror; a commit counts only when a ref of the remote leads to it."""
        args = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        found = await self.host.run(GitCall(args=args, git_dir=self.mirror.path, check=False))
        if found.exit_code != 0:
            raise unknown_base(base, self.setup.repository)
        sha = found.text.strip()
        holders = ("for-each-ref", "--count=1", f"--contains={sha}", "--format=%(refname)")
        holder = await self.host.run(GitCall(args=holders, git_dir=self.mirror.path, check=False))
        if not holder.text:
            raise unknown_base(base, self.setup.repository)
        return sha

    async def _deliver(
        self,
        machine: Machine,
        path: str,
        state: RemoteState,
        *,
        fresh: bool,
        commit: str | None = None,
        pack: bytes | None = None,
    ) -> None:
        url, depth = self.setup.repository.url, self.setup.options.depth
        delivery = Delivery(url=url, state=state, fresh=fresh, depth=depth, commit=commit, pack=pack)
        try:
            async with self.mirror.view(state) as view:
                await self.inward(machine).deliver(machine, path, view, delivery)
        except CloneError as error:
            error.add_note(f"while {self.setup.repository.display!r} was being brought into the machine")
            raise

    def inward(self, machine: Machine) -> Inward:
        """Return the way in: the streams need an input that can be ended while output goes on."""
        streams = {Capability.SPAWN, Capability.STDIN_EOF} <= machine.capabilities
        return StreamInward(self.host) if streams and machine.bulk_in == "stream" else BundleInward(self.host)

    def outward(self, machine: Machine) -> Outward:
        """Return the way out."""
        if Capability.SPAWN not in machine.capabilities:
            return BundleOutward(self.host)
        both = {self._start_sha} if self._start_sha is not None else set()
        return StreamOutward(self.host, both | self.store.newest(MOST_KNOWN) if both else ())
