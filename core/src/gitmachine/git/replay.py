"""Replaying commits onto another one inside a bare repository: a rebase without a working tree.

Each commit is merged by ``git merge-tree --write-tree`` (git 2.38). That command takes no merge base before 2.40, so it
gets a helper commit with the new parent's tree and the old parent as its parent: their merge base is the old parent.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from gitmachine.errors import GitError, PushRejectedError
from gitmachine.git.host import GitCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine.git.store import SessionRepository

__all__ = ["replay", "rewrite_commit"]

_IDENTITY = re.compile(rb"(?P<who>.*>) (?P<when>\d+) (?P<zone>[+-]\d{4})", re.DOTALL)
# A signature covers the old content; a merge's embedded tag and an encoding stay true only in the old commit.
_DROPPED = (b"gpgsig ", b"gpgsig-sha256 ", b"mergetag ")
MAX_COMMITS = 5_000


def rewrite_commit(raw: bytes, *, tree: str, parent: str, committed: int) -> bytes:
    """Return a commit object with another tree and its only parent replaced; author and message stay exact.

    Args:
        raw: the commit object.
        tree: the new tree.
        parent: the new parent.
        committed: the new committer time, in seconds since 1970.
    """
    head, gap, message = raw.partition(b"\n\n")
    fields: list[bytes] = []
    for line in head.split(b"\n"):
        if line.startswith(b" ") and fields:
            fields[-1] += b"\n" + line
        else:
            fields.append(line)
    kept = [b"tree " + tree.encode(), b"parent " + parent.encode()]
    for field in fields:
        if field.startswith((b"tree ", b"parent ", *_DROPPED)):
            continue
        if field.startswith(b"committer "):
            match = _IDENTITY.fullmatch(field)
            if match is not None:
                field = b"%b %d %b" % (match["who"], committed, match["zone"])  # noqa: PLW2901  # rewritten on purpose
        kept.append(field)
    return b"\n".join(kept) + gap + message


async def replay(store: SessionRepository, sha: str, *, onto: str, branch: str) -> str:
    """Replay what `sha` has beyond `onto`; returns the new commit. The old ones stay in the store.

    Raises:
        PushRejectedError: a conflict (naming the files), or merges whose resolution a replay would lose.
    """
    counted = await store.ahead_behind(sha, onto)
    ahead, behind = counted if counted is not None else (None, None)

    def rejected(why: str) -> PushRejectedError:
        return PushRejectedError(
            f"the commits of {branch!r} cannot be replayed onto the remote's: {why}", ahead=ahead, behind=behind
        )

    args = (
        "rev-list",
        "--reverse",
        "--topo-order",
        "--parents",
        "--cherry-pick",
        "--right-only",
        f"{onto}...{sha}",
        "--",
    )
    listed = await store.host.run(GitCall(args=args, git_dir=store.path))
    commits = [line.split() for line in listed.text.splitlines()]
    if len(commits) > MAX_COMMITS:
        raise rejected(f"they are {len(commits)}, more than {MAX_COMMITS}")
    for commit, *parents in commits:
        if len(parents) != 1:
            raise rejected(
                f"{commit[:12]} is a merge or has no parent; pull with 'merge', or choose diverged = 'sibling'"
            )
    tip = onto
    for commit, parent in commits:
        tip = await _replay_one(store, commit, parent, tip, rejected)
    await store.set_ref(f"refs/replayed/{sha}", tip)
    return tip


async def _replay_one(
    store: SessionRepository, commit: str, parent: str, tip: str, rejected: Callable[[str], PushRejectedError]
) -> str:
    base_tree, old_tree, tip_tree = [await _tree(store, name) for name in (parent, commit, tip)]
    if base_tree == tip_tree:
        tree = old_tree
    else:
        helper = await _store_commit(store, _helper_commit(tip_tree, parent))
        args = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", helper, commit)
        merged = await store.host.run(GitCall(args=args, git_dir=store.path, check=False))
        tree, *files = merged.text.split("\0")
        if merged.exit_code == 1:
            names = ", ".join(repr(name) for name in dict.fromkeys(files) if name)
            raise rejected(f"conflicts in {names} at {commit[:12]}")
        if merged.exit_code != 0:
            raise GitError(
                f"git merge-tree failed ({merged.stderr}); diverged = 'rebase' needs git 2.38 or newer on this host",
                exit_code=merged.exit_code,
                stderr=merged.stderr,
            )
        if tree == tip_tree and old_tree != base_tree:
            return tip  # the remote has this change already
    raw = (await store.host.run(GitCall(args=("cat-file", "commit", commit), git_dir=store.path))).stdout
    return await _store_commit(store, rewrite_commit(raw, tree=tree, parent=tip, committed=int(time.time())))


def _helper_commit(tree: str, parent: str) -> bytes:
    who = b"GitMachine <gitagent@machine> 0 +0000"
    return b"tree %b\nparent %b\nauthor %b\ncommitter %b\n\nhelper\n" % (tree.encode(), parent.encode(), who, who)


async def _tree(store: SessionRepository, commit: str) -> str:
    call = GitCall(args=("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}"), git_dir=store.path)
    return (await store.host.run(call)).text.strip()


async def _store_commit(store: SessionRepository, raw: bytes) -> str:
    call = GitCall(args=("hash-object", "-t", "commit", "-w", "--stdin"), git_dir=store.path, stdin=raw)
    return (await store.host.run(call)).text.strip()
