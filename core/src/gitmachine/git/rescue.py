"""Rescue: work that could not be published, as a bundle proven by cloning it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import GitError, StateError
from gitmachine.git.host import GitCall
from gitmachine.git.mirror import read_refs
from gitmachine.git.store import CHECKPOINTS, MACHINE, machine_ref
from gitmachine.git.withheld import WITHHELD
from gitmachine.outcomes import Rescue

if TYPE_CHECKING:
    from gitmachine.git.host import HostGit
    from gitmachine.git.store import SessionRepository

__all__ = ["SavedRescue", "drop_rescue", "list_rescues", "rescue"]


@attrs.frozen(kw_only=True)
class SavedRescue:
    """A rescue that is kept on this host, by its name."""

    name: str
    rescue: Rescue


async def rescue(
    store: SessionRepository, *, bundles: Path, branch: str, sha: str | None, reason: str, machine_kept: bool
) -> Rescue:
    """Bundle everything that was collected; a clone checks `sha` out, or else what the branch had last.

    Raises:
        GitError: the bundle could not be made, or a clone of it lacks the work. The store has it all the same.
    """
    await asyncio.to_thread(bundles.mkdir, mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC)
    if sha is None:
        # Of a machine that is gone, what came last is known all the same.
        sha = (await store.refs(MACHINE)).get(machine_ref(f"refs/heads/{branch}"))
    if sha is not None:
        await store.set_ref(f"refs/heads/{branch}", sha)
        args = ("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        await store.host.run(GitCall(args=args, git_dir=store.path))
    refs = {**await store.refs(MACHINE), **await store.refs(CHECKPOINTS), **await store.refs(WITHHELD)}
    if sha is not None:
        refs[f"refs/heads/{branch}"] = sha
    name = await _known(store, bundles, refs, branch if sha is not None else None)
    if name is None:
        name = f"{store.path.stem}-{now:%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"
        if refs:
            await _make(store, bundles / f"{name}.bundle", refs, branch if sha is not None else None)
    bundle = bundles / f"{name}.bundle" if refs else None
    made = Rescue(
        repository=str(store.path),
        bundle=str(bundle) if bundle is not None else None,
        sha=sha,
        branch=branch,
        reason=store.host.redactor.redact(reason),
        machine_kept=machine_kept,
        time=now,
    )
    await asyncio.to_thread(_write, bundles / f"{name}.json", made)
    return made


async def _known(store: SessionRepository, bundles: Path, refs: dict[str, str], branch: str | None) -> str | None:
    """Return the name of an earlier rescue that holds exactly this: repeated failures must not fill the disk."""
    try:
        saved = await asyncio.to_thread(list_rescues, bundles)
    except StateError:
        return None  # a damaged record of another rescue
    for one in reversed(saved):
        if one.rescue.repository == str(store.path) and one.rescue.bundle and refs:
            call = GitCall(args=("bundle", "list-heads", one.rescue.bundle), git_dir=store.path, check=False)
            lines = [line.partition(" ") for line in (await store.host.run(call)).text.splitlines()]
            if {name: sha for sha, _, name in lines if name != "HEAD"} == refs:
                with contextlib.suppress(GitError):  # it was damaged since: another one is made
                    await _prove(store.host, Path(one.rescue.bundle), refs, branch)
                    return one.name
    return None


async def _make(store: SessionRepository, bundle: Path, refs: dict[str, str], branch: str | None) -> None:
    fresh = bundle.with_suffix(".part")
    revisions = "".join(f"{ref}\n" for ref in (*(["HEAD"] if branch is not None else []), *refs))
    data = revisions.encode("utf-8", "surrogateescape")
    try:
        args = ("bundle", "create", "--quiet", str(fresh), "--stdin")
        await store.host.run(GitCall(args=args, git_dir=store.path, stdin=data))
        await _prove(store.host, fresh, refs, branch)
        await asyncio.to_thread(_publish, fresh, bundle)
    finally:
        await asyncio.to_thread(fresh.unlink, missing_ok=True)


async def _prove(host: HostGit, bundle: Path, refs: dict[str, str], branch: str | None) -> None:
    """Clone the bundle, and look for every ref in the clone."""
    scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="proof-", dir=bundle.parent))
    try:
        clone = scratch / "clone.git"
        await host.run(GitCall(args=("clone", "--quiet", "--bare", str(bundle), str(clone)), protocols=("file",)))
        fetch = ("fetch", "--quiet", "--no-tags", str(bundle), "+refs/*:refs/proof/*")
        await host.run(GitCall(args=fetch, git_dir=clone, protocols=("file",)))
        have = await read_refs(host, clone, ("refs/proof/", "refs/heads/"))
        lost = [ref for ref, sha in refs.items() if have.get(f"refs/proof/{ref.removeprefix('refs/')}") != sha]
        if lost or (branch is not None and f"refs/heads/{branch}" not in have):
            raise GitError(f"a clone of the rescue bundle lacks {lost[0] if lost else branch!r}")
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def _publish(fresh: Path, bundle: Path) -> None:
    fresh.chmod(0o600)
    with fresh.open("rb") as stream:
        os.fsync(stream.fileno())
    fresh.replace(bundle)


def _write(file: Path, made: Rescue) -> None:
    record = attrs.asdict(made) | {"time": made.time.isoformat()}
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(record), encoding="utf-8")
    fresh.replace(file)


def list_rescues(bundles: Path) -> tuple[SavedRescue, ...]:
    """Return the rescues kept in a directory, the oldest first.

    Raises:
        StateError: a record of one cannot be read.
    """
    found = []
    for file in sorted(bundles.glob("*.json")) if bundles.is_dir() else []:
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            made = Rescue(**record | {"time": datetime.fromisoformat(record["time"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StateError(f"the record of a rescue in {str(file)!r} cannot be read: move it away") from error
        found.append(SavedRescue(name=file.stem, rescue=made))
    return tuple(sorted(found, key=lambda saved: saved.rescue.time))


def drop_rescue(bundles: Path, name: str) -> None:
    """Delete a rescue's bundle and record.

    Raises:
        StateError: there is none of that name.
    """
    known = [saved.name for saved in list_rescues(bundles)]
    if name not in known:
        raise StateError(f"no rescue is called {name!r}; there are: {', '.join(known) or 'none'}")
    (bundles / f"{name}.bundle").unlink(missing_ok=True)
    (bundles / f"{name}.json").unlink()
