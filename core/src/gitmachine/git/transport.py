"""The transport: how a repository gets into a machine, its work out, and to the remote."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence  # noqa: TC003  # attrs resolves annotations at run time
from pathlib import Path  # noqa: TC003  # attrs resolves annotations at run time
from typing import TYPE_CHECKING, Any, Literal

import attrs

from gitmachine.errors import CloneError, ConfigError
from gitmachine.git.credentials import CredentialSource  # noqa: TC001  # attrs resolves annotations at run time
from gitmachine.git.host import HostGit, Limits
from gitmachine.git.mirror import Mirror
from gitmachine.git.model import GitOptions, RemoteState  # noqa: TC001  # attrs resolves annotations at run time
from gitmachine.git.names import RepositoryUrl  # noqa: TC001  # attrs resolves annotations at run time
from gitmachine.git.redaction import Redactor
from gitmachine.git.remote import Remote
from gitmachine.git.store import SessionRepository

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from gitmachine.git.model import Survey
    from gitmachine.machine import Machine
    from gitmachine.outcomes import PushResult

__all__ = ["DivergencePolicy", "Populated", "Transport", "TransportSetup", "choose_transport", "make_transport"]

DivergencePolicy = Literal["fail", "rebase", "sibling"]


@attrs.frozen(kw_only=True)
class TransportSetup:
    """What a transport is made from.

    Attributes:
        repository: the remote.
        options: how the repository travels.
        credentials: asked at each use.
        mirrors: the directory of all mirrors.
        sessions: the directory of all session repositories.
        session_id: names this session's repository: letters, digits, ``-`` and ``_``.
        redactor: knows the secrets.
        limits: deadlines and sizes.
    """

    repository: RepositoryUrl
    options: GitOptions
    credentials: CredentialSource = attrs.field(repr=False)
    mirrors: Path
    sessions: Path
    session_id: str
    redactor: Redactor = attrs.field(factory=Redactor)
    limits: Limits = attrs.field(factory=Limits)

    def __attrs_post_init__(self) -> None:
        if not self.session_id or not self.session_id.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"invalid session id {self.session_id!r}: use letters, digits, '-' and '_'")


@attrs.frozen(kw_only=True)
class Populated:
    """What a machine's repository was given; nothing is checked out yet.

    Attributes:
        branch_sha: the remote's session branch, or None when it has none.
        start_sha: the commit to check out, or None in an empty repository.
        created: True when the session branch is not on the remote.
        upstream: True when the new branch is to track ``origin/<branch>``.
    """

    branch_sha: str | None
    start_sha: str | None
    created: bool
    upstream: bool


class Transport(ABC):
    """The ways between one remote, the host and one machine.

    `open` may run while the machine is still starting. Every method may be called again.
    """

    mirrored: bool
    """Whether the mirror holds what the remote has."""

    def __init__(self, setup: TransportSetup) -> None:
        self.setup = setup
        self.host = HostGit(redactor=setup.redactor, limits=setup.limits)
        self.mirror = Mirror(setup.mirrors, setup.repository, self.host)
        self.remote = Remote(setup.repository, self.host, setup.credentials)
        self.store = SessionRepository(setup.sessions / f"{setup.session_id}.git", self.host, self.mirror.path)
        self.remote_state: RemoteState | None = None
        self._later: set[asyncio.Task[None]] = set()

    async def ask(self) -> RemoteState:
        """Ask the remote what it has, with this session's credential; `open` takes the answer.

        Raises:
            CloneError: it does not exist, does not accept the credential, or cannot be reached.
        """
        return await self.remote.ask()

    @abstractmethod
    async def open(self, answer: RemoteState | None = None) -> RemoteState:
        """Read the remote with this session's credential, and make ready what the host needs.

        Args:
            answer: what it has just answered to `ask`, so that it is not asked again.

        Raises:
            CloneError: it does not exist, does not accept the credential, or cannot be reached.
        """

    async def prepare(self, machine: Machine, *, branch: str, base: str | None = None) -> None:
        """Do what of `populate` can be done while the machine is still starting. Raises CloneError, as that does."""
        del machine, branch, base

    @abstractmethod
    async def populate(self, machine: Machine, path: str, *, branch: str, base: str | None = None) -> Populated:
        """Make the repository at an absolute path of the machine; nothing is checked out.

        ``refs/remotes/origin/*`` is what the remote has, ``origin`` its real address without a credential.

        Raises:
            CloneError: `base` is unknown, files of Git LFS are there and ``lfs = "error"``, the branch cannot stand
                beside one of the remote, or the machine could not be given the objects.
        """

    @abstractmethod
    async def populate_submodules(self, machine: Machine, path: str, sha: str) -> Sequence[str]:
        """After the checkout of `sha`: check its submodules out; returns their paths.

        Raises:
            CloneError: one cannot be had, with the reason.
        """

    @abstractmethod
    async def refresh(self, machine: Machine, path: str) -> RemoteState:
        """Make the machine's ``refs/remotes/origin/*`` what the remote has now.

        Raises:
            CloneError: as for `open`, or the machine could not be given the objects.
        """

    @abstractmethod
    async def collect(self, machine: Machine, path: str, survey: Survey) -> None:
        """Bring everything that the survey names into `store`, under ``refs/machine/``, verified by sha.

        Raises:
            GitError: something did not arrive; the machine still has it.
        """

    @abstractmethod
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
        """Bring a collected commit to a branch of the remote, and ask the remote whether it is there.

        Never forced, except under `lease`: the sha that the branch must still have. After ``rebase`` the result's
        `local_sha` may be a new commit: `refresh` brings it to the machine.

        Raises:
            PushRejectedError: the branch has other commits (``ahead`` 0: it has all of ours and more), or a rule of
                the remote forbids it.
            PushAuthenticationError: the credential may not write.
            PushUnreachableError: the remote could not be reached, or not be asked afterwards.
        """

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done on this host that nobody waits for but `close`; it raises nothing of ours."""
        task = asyncio.ensure_future(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def settle(self) -> None:
        """Wait until it is done."""
        if self._later:
            await asyncio.wait(self._later)

    async def close(self) -> None:
        """Let go of what is held; nothing is deleted."""
        await self.settle()

    async def start_point(self, state: RemoteState, branch: str, base: str | None) -> Populated:
        """Decide from which commit a session starts.

        Raises:
            CloneError: naming the base that is unknown, or the branch that `branch` cannot stand beside.
        """
        found = state.branch(branch)
        if found is not None:
            return Populated(branch_sha=found, start_sha=found, created=False, upstream=True)
        check_beside(branch, state)
        start = await self.resolve_base(state, base)
        return Populated(branch_sha=None, start_sha=start, created=True, upstream=False)

    async def resolve_base(self, state: RemoteState, base: str | None) -> str | None:
        """Return the commit that a base (branch, tag or commit; None: the default branch) stands for."""
        revision = self.base_revision(state, base)
        if revision is None or base is None or state.branch(base) == revision:
            return revision  # branches name commits
        return await self.commit_of(revision, base)

    def base_revision(self, state: RemoteState, base: str | None) -> str | None:
        """Return the object id that a base stands for (perhaps shortened, perhaps a tag's), or None."""
        if base is None:
            default = state.default_branch or only_branch(state, self.setup.repository)
            return state.branch(default) if default is not None else None
        for ref in (f"refs/heads/{base}", f"refs/tags/{base}", base):
            if ref in state.refs:
                return state.refs[ref]
        if 4 <= len(base) <= 64 and set(base.lower()) <= set("0123456789abcdef"):  # an object id
            return base
        raise unknown_base(base, self.setup.repository)

    @abstractmethod
    async def commit_of(self, revision: str, base: str) -> str:
        """Return the commit of an object id that `base` stood for; CloneError naming `base` if there is none."""


def only_branch(state: RemoteState, repository: RepositoryUrl) -> str | None:
    """Return the branch to start from where the remote's HEAD names none that exists; None in an empty repository.

    Raises:
        CloneError: there are several, and it is not for us to choose.
    """
    branches = [ref.removeprefix("refs/heads/") for ref in state.refs if ref.startswith("refs/heads/")]
    if len(branches) > 1:
        raise CloneError(
            f"the HEAD of {repository.display!r} names no branch that exists, and there are {len(branches)}: say which "
            f"one a new session starts from with git.base ({', '.join(sorted(branches)[:5])}), in the configuration "
            "or by GITMACHINE_GIT_BASE"
        )
    return branches[0] if branches else None


def check_beside(branch: str, state: RemoteState) -> None:
    """Raise `CloneError` when a new branch cannot stand beside one of the remote's."""
    from gitmachine.git.names import session_conflict

    heads = (ref.removeprefix("refs/heads/") for ref in state.refs if ref.startswith("refs/heads/"))
    clash = session_conflict(branch, heads)
    if clash is not None:
        raise CloneError(
            f"the session {branch!r} cannot stand beside the branch {clash!r} of the remote: git keeps both as files; "
            "choose another name"
        )


def unknown_base(base: str, repository: RepositoryUrl) -> CloneError:
    """Return the error for a base that the remote does not have."""
    return CloneError(f"base {base!r} is neither a branch nor a tag nor a commit of {repository.display!r} @ git.base")


def choose_transport(options: GitOptions, machine: Machine) -> type[Transport]:
    """Return the transport that the options ask for; the relay finds its own way over this machine's abilities."""
    del machine
    if options.transport == "direct":
        from gitmachine.git.direct import DirectTransport

        return DirectTransport
    from gitmachine.git.relay import RelayTransport

    return RelayTransport


def make_transport(setup: TransportSetup, machine: Machine) -> Transport:
    """Make the transport that the options ask for."""
    return choose_transport(setup.options, machine)(setup)
