"""What a session's store holds that the remote lacks: the list of kept work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.git.host import GitCall
from gitmachine.git.mirror import read_refs
from gitmachine.git.model import IGNORED_REF, KEEP_PREFIX, SNAPSHOT_PREFIX
from gitmachine.git.store import MACHINE, NESTED, SessionRepository
from gitmachine.git.withheld import WITHHELD
from gitmachine.outcomes import Kept, KeptKind

if TYPE_CHECKING:
    from gitmachine.git.model import RemoteState

__all__ = ["unpublished"]

MAX_TREES = 2_000
"""How far back a snapshot's content is looked for among the commits made after it."""

_KINDS = (
    (f"{KEEP_PREFIX}stash/", KeptKind.STASH),
    (f"{KEEP_PREFIX}worktree/", KeptKind.WORKTREE),
    (f"{KEEP_PREFIX}changes", KeptKind.CHANGES),
    (f"{KEEP_PREFIX}head", KeptKind.DETACHED),
    (SNAPSHOT_PREFIX, KeptKind.CHANGES),
    ("refs/gitmachine/worktree-snapshot/", KeptKind.CHANGES),
    ("refs/stash", KeptKind.STASH),
    ("refs/heads/", KeptKind.BRANCH),
    ("refs/tags/", KeptKind.TAG),
)


async def unpublished(store: SessionRepository, remote: RemoteState | None, branch: str | None) -> tuple[Kept, ...]:
    """List everything collected whose commits the remote lacks; the session branch comes first.

    `remote` None means that nothing is known of it: everything is listed.
    """
    theirs = set(remote.refs.values()) if remote is not None else set()
    found: list[Kept] = []
    seen: set[str] = set()
    refs = await store.refs(MACHINE, WITHHELD)
    for ref, sha in sorted(refs.items(), key=lambda item: _order(item[0], branch)):
        if ref.startswith(NESTED) or sha in theirs:
            continue
        kind, name = _kind(ref)
        commits = await store.count(sha, theirs)
        if commits == 0 and not (kind is KeptKind.TAG and await _annotated(store, sha)):
            continue
        if sha in seen and kind not in (KeptKind.BRANCH, KeptKind.TAG):
            continue  # a HEAD, or a name of our own, for what is listed already
        if kind is KeptKind.CHANGES and await _saved_elsewhere(store, sha, branch):
            continue
        seen.add(sha)
        found.append(Kept(kind=kind, name=name, sha=sha, ref=ref, commits=commits))
    return (*found, *await _nested(store))


def _order(ref: str, branch: str | None) -> tuple[bool, bool, bool, str]:
    # What was withheld is a commit of all changes, too: its own name comes first.
    heads, withheld = ref.startswith(f"{MACHINE}heads/"), ref.startswith(WITHHELD)
    return (ref != f"{MACHINE}heads/{branch}", not heads, not withheld, ref)


def _kind(ref: str) -> tuple[KeptKind, str]:
    if ref.startswith(WITHHELD):
        return KeptKind.WITHHELD, ref.removeprefix(WITHHELD)
    own = f"refs/{ref.removeprefix(MACHINE)}"
    if own == IGNORED_REF:
        return KeptKind.IGNORED, "ignored files"
    for prefix, kind in _KINDS:
        if own.startswith(prefix):
            rest = own.removeprefix(prefix)
            if kind in (KeptKind.BRANCH, KeptKind.TAG, KeptKind.WORKTREE):
                return kind, rest
            return kind, f"stash@{{{rest or 0}}}" if kind is KeptKind.STASH else own
    return KeptKind.OTHER, own


async def _annotated(store: SessionRepository, sha: str) -> bool:
    result = await store.host.run(GitCall(args=("cat-file", "-t", sha), git_dir=store.path, check=False))
    return result.text == "tag"


async def _saved_elsewhere(store: SessionRepository, sha: str, branch: str | None) -> bool:
    """Tell whether a snapshot holds nothing beyond its parent or a later commit of the session branch."""
    trees = set()
    parents = await store.parents(sha)
    if parents:
        trees.add(await _tree(store, parents[0]))
    tip = (await store.refs(f"{MACHINE}heads/")).get(f"{MACHINE}heads/{branch}") if branch else None
    if tip is not None:
        revisions = [tip, *(f"^{parent}" for parent in parents)]
        args = ("log", "--format=%T", f"--max-count={MAX_TREES}", *revisions, "--")
        listed = await store.host.run(GitCall(args=args, git_dir=store.path))
        trees |= set(listed.text.split())
    return await _tree(store, sha) in trees


async def _tree(store: SessionRepository, commit: str) -> str:
    args = ("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")
    return (await store.host.run(GitCall(args=args, git_dir=store.path))).text


async def _nested(store: SessionRepository) -> tuple[Kept, ...]:
    """List nested repositories; a submodule's commits that its own mirror has are not work."""
    found = []
    for key, record in store.nested().items():
        path, kind = record["path"] or "", KeptKind(record["kind"] or "nested")
        prefix = f"{NESTED}{key}/"
        aside = SessionRepository(store.nested_store(key), store.host)
        holders = [store, aside] if (aside.path / "HEAD").exists() else [store]
        mirror = record["mirror"]
        known = set((await read_refs(store.host, Path(mirror))).values()) if mirror is not None else set()
        seen: set[str] = set()
        for holder in holders:
            refs = await holder.refs(prefix)
            # Only a submodule's are collected; without a mirror they are all that is known of its remote.
            theirs = {ref: sha for ref, sha in refs.items() if ref.startswith(f"{prefix}remotes/origin/")}
            known |= set(theirs.values()) if mirror is None else set()
            for ref, sha in sorted(refs.items()):
                if ref in theirs or sha in seen or sha in known:
                    continue
                commits = await holder.count(sha, known)
                if commits == 0:
                    continue
                seen.add(sha)
                name = f"refs/{ref.removeprefix(prefix)}"
                found.append(Kept(kind=kind, name=name, sha=sha, ref=ref, commits=commits, path=path))
    return tuple(found)
