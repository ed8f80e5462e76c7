"""A verified push: whatever git says, the remote is asked afterwards, and only its answer counts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from gitmachine.errors import (
    CloneError,
    GitError,
    PushAuthenticationError,
    PushError,
    PushRejectedError,
    PushUnreachableError,
    StateError,
)
from gitmachine.git.model import Operation
from gitmachine.git.remote import Failure, PushAnswer, classify, last_words
from gitmachine.git.replay import replay
from gitmachine.outcomes import PushResult, PushStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from gitmachine.git.mirror import Mirror
    from gitmachine.git.model import RemoteState
    from gitmachine.git.remote import Remote
    from gitmachine.git.store import SessionRepository
    from gitmachine.git.transport import DivergencePolicy, TransportSetup

__all__ = ["publish"]

ATTEMPTS = 3
"""How often work is replayed onto a branch that keeps moving."""


class Publisher(Protocol):
    """What a push needs of a transport."""

    mirrored: bool
    setup: TransportSetup
    remote: Remote
    mirror: Mirror
    store: SessionRepository
    remote_state: RemoteState | None

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that nobody waits for."""


async def publish(
    publisher: Publisher,
    sha: str,
    branch: str,
    *,
    policy: DivergencePolicy,
    lease: str | None,
    push: Callable[[str, str, str | None], Awaitable[PushAnswer]] | None = None,
) -> tuple[PushResult, RemoteState]:
    """Push a commit of the store, by the policy when the remote's branch has other commits.

    `push` replaces the push from the host (sha, branch, lease).

    Raises:
        PushError: one of its kinds, as `Transport.publish` says.
    """
    if push is None and not await publisher.store.has(sha):
        raise PushError(f"the commit {sha} was not collected from the machine, so it cannot be pushed to {branch!r}")
    for attempt in range(ATTEMPTS):
        try:
            return await _push(publisher, sha, branch, lease, push)
        except _DivergedError as diverged:
            if policy == "sibling" and diverged.ahead != 0:
                # The remote's branch stays as it is; ours goes beside it.
                return await _push(publisher, sha, f"{branch}-{sha[:8]}", None, push)
            if policy != "rebase" or attempt == ATTEMPTS - 1 or diverged.theirs is None:
                raise diverged.public() from diverged.__cause__
            if diverged.ahead == 0:
                state = diverged.state
                same = diverged.theirs
                result = PushResult(status=PushStatus.UP_TO_DATE, branch=branch, local_sha=same, remote_sha=same)
                return result, state
            sha = await replay(publisher.store, sha, onto=diverged.theirs, branch=branch)
            push = None  # the new commits are on the host only
    raise PushRejectedError(f"the branch {branch!r} of the remote keeps moving")  # the loop always ends before


async def _push(
    publisher: Publisher,
    sha: str,
    branch: str,
    lease: str | None,
    push: Callable[[str, str, str | None], Awaitable[PushAnswer]] | None,
) -> tuple[PushResult, RemoteState]:
    before = publisher.remote_state
    answer: PushAnswer | None = None
    broken: GitError | None = None
    try:
        if push is not None:
            answer = await push(sha, branch, lease)
        else:
            answer = await publisher.remote.push(publisher.store.path, sha, branch, lease=lease)
    except PushError:
        raise
    except GitError as error:
        broken = error  # a deadline, a cut connection: the remote may have taken it all the same
    counting = asyncio.ensure_future(publisher.store.count(sha, before.refs.values() if before is not None else ()))
    try:
        state = await _ask(publisher, sha, branch, answer, broken)
        if state.branch(branch) == sha:
            status = PushStatus.UP_TO_DATE if answer is not None and answer.flag == "=" else PushStatus.PUSHED
            commits = await counting if status is PushStatus.PUSHED else 0
            if publisher.mirrored:
                with contextlib.suppress(GitError):  # the remote has it, whatever else is wrong
                    await publisher.store.set_ref(f"refs/published/heads/{branch}", sha)
                publisher.later(_adopt(publisher, sha, branch))
            return PushResult(status=status, branch=branch, local_sha=sha, remote_sha=sha, commits=commits), state
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
    raise await _refusal(publisher, sha, branch, answer, broken, state)


async def _ask(
    publisher: Publisher, sha: str, branch: str, answer: PushAnswer | None, broken: GitError | None
) -> RemoteState:
    try:
        return await publisher.remote.ask(Operation.WRITE)
    except CloneError as error:
        said = answer.result.stderr if answer is not None else str(broken)
        kind = classify(f"{error.stderr} {error}")
        cls = PushAuthenticationError if kind is Failure.AUTHENTICATION else PushUnreachableError
        raise cls(
            f"the remote {publisher.setup.repository.display!r} could not be asked whether it has {sha[:12]} on "
            f"{branch!r}: {error}" + (f"; the push itself said: {last_words(said, 300)}" if said else ""),
            argv=error.argv,
            exit_code=error.exit_code,
            stderr=error.stderr,
        ) from error


async def _adopt(publisher: Publisher, sha: str, branch: str) -> None:
    """Give the mirror what the remote has now from here: the network has carried it once already.

    Without it the next update fetches it, so nobody waits for this, and no failure of it matters.
    """
    with contextlib.suppress(GitError, StateError):
        await publisher.mirror.adopt(publisher.store.path, branch, sha)


class _DivergedError(Exception):
    """The remote's branch is not an ancestor of ours."""

    def __init__(self, error: PushRejectedError, theirs: str | None, state: RemoteState) -> None:
        super().__init__(str(error))
        self._error = error
        self.ahead = error.ahead
        self.theirs = theirs
        self.state = state

    def public(self) -> PushRejectedError:
        """Return the error for the caller."""
        return self._error


async def _refusal(
    publisher: Publisher,
    sha: str,
    branch: str,
    answer: PushAnswer | None,
    broken: GitError | None,
    state: RemoteState,
) -> Exception:
    """Return the error for a push after which the remote does not have our commit."""
    if answer is not None and answer.flag == "!" and "[remote rejected]" not in answer.summary:
        return await _diverged(publisher, sha, branch, answer, state)
    shown = repr(publisher.setup.repository.display)
    stderr = answer.result.stderr if answer is not None else broken.stderr if broken is not None else ""
    exit_code = answer.result.exit_code if answer is not None else None
    said = f" (git said: {last_words(stderr)})" if stderr else f" ({broken})" if broken is not None else ""
    kind = classify(f"{stderr} {broken or ''}")
    cls: type[PushError] = PushError
    if answer is not None and answer.flag == "!" and "currently checked out" in answer.summary:
        return PushRejectedError(
            f"{shown} refused the push to {branch!r}, which is checked out there: check out another branch there, or "
            "take another session name",
            exit_code=exit_code,
            stderr=stderr,
        )
    if answer is not None and answer.flag == "!":
        cls, sentence = PushRejectedError, f"{shown} refused the push to {branch!r}: {answer.summary}"
    elif kind in (Failure.AUTHENTICATION, Failure.MISSING):
        cls = PushAuthenticationError
        sentence = f"{shown} did not accept the credential for a push to {branch!r}: give a token that may write"
    elif kind is Failure.UNREACHABLE or broken is not None:
        cls = PushUnreachableError
        sentence = f"the push to {branch!r} of {shown} broke off, and the remote does not have {sha[:12]}"
    else:
        sentence = f"the push to {branch!r} of {shown} failed"
    return cls(sentence + said, exit_code=exit_code, stderr=stderr)


async def _diverged(
    publisher: Publisher, sha: str, branch: str, answer: PushAnswer, state: RemoteState
) -> _DivergedError:
    theirs = state.branch(branch)
    counted = await _compare(publisher, sha, theirs)
    ahead, behind = counted if counted is not None else (None, None)
    words = f"ahead {ahead}, behind {behind}" if counted is not None else answer.summary
    error = PushRejectedError(
        f"the branch {branch!r} of {publisher.setup.repository.display!r} has other commits ({words}): pull them first "
        "(with the policy 'rebase' or 'merge'), or choose git.diverged = 'rebase' or 'sibling' for a session",
        ahead=ahead,
        behind=behind,
        exit_code=answer.result.exit_code,
        stderr=answer.result.stderr,
    )
    return _DivergedError(error, theirs, state)


async def _compare(publisher: Publisher, sha: str, theirs: str | None) -> tuple[int, int] | None:
    """Count the commits of both sides; theirs is fetched into the mirror first."""
    if theirs is None:
        return None
    try:
        await publisher.mirror.update(publisher.setup.credentials)
    except GitError:
        return None  # only a better message is lost
    return await publisher.store.ahead_behind(sha, theirs)
