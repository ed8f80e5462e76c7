"""Work that could not be published, saved on this host: listed, looked at, brought to the remote, dropped."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import GitError, StateError
from gitmachine.git import rescue as bundles
from gitmachine.git.credentials import credential_source
from gitmachine.git.host import GitCall
from gitmachine.git.mirror import make_bare
from gitmachine.git.model import Change, Commit, GitCredential, GitOptions
from gitmachine.git.names import check_branch, check_repository
from gitmachine.git.parsing import parse_fields, parse_log, parse_names
from gitmachine.git.redaction import Redactor
from gitmachine.git.relay import RelayTransport
from gitmachine.git.store import SessionRepository, machine_ref
from gitmachine.git.transport import TransportSetup
from gitmachine.state.journal import Journal
from gitmachine.state.origins import recall_origin
from gitmachine.state.places import Places, make_private
from gitmachine.upkeep.hoard import Hoard, lenders, size_of
from gitmachine.upkeep.plain import as_plain

if TYPE_CHECKING:
    from gitmachine.git.credentials import CredentialSource
    from gitmachine.git.model import Operation
    from gitmachine.git.names import RepositoryUrl
    from gitmachine.outcomes import Kept, PushResult, Rescue
    from gitmachine.plugins.host import PluginHost
    from gitmachine.steps.setup import TokenSource

__all__ = ["Published", "RescueDetails", "SavedWork", "drop_rescue", "push_rescue", "rescues", "show_rescue"]

MAX_COMMITS = 1000


@attrs.frozen(kw_only=True)
class Published:
    """Where a rescue was published: a branch of its remote, verified by asking it."""

    branch: str
    sha: str
    time: datetime


@attrs.frozen(kw_only=True)
class SavedWork:
    """One rescue.

    Attributes:
        name: what it is called.
        key: the session's key.
        branch: the session branch.
        repository: the session repository on this host.
        remote: the URL of the remote, without a credential; None when it is not known.
        sha: the session branch's commit, or None when it had none.
        reason: why the work could not be published.
        time: when it was made (UTC).
        bundle: a git bundle with all of it, or None when there was nothing to bundle.
        size_bytes: of the bundle.
        machine_kept: whether a live machine has the work too.
        machine: what that machine is called.
        published: where `push_rescue` published it, or None.
    """

    name: str
    key: str
    branch: str
    repository: str
    remote: str | None
    sha: str | None
    reason: str
    time: datetime
    bundle: str | None
    size_bytes: int
    machine_kept: bool
    machine: str | None = None
    published: Published | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return as_plain(self)


@attrs.frozen(kw_only=True)
class RescueDetails:
    """What is in a rescue.

    Attributes:
        work: the rescue.
        commits: those of the session branch that the remote is not known to have, newest first.
        files: what they change altogether.
        kept: everything that the remote is not known to have; each entry's `ref` can be pushed by itself.
    """

    work: SavedWork
    commits: tuple[Commit, ...]
    files: tuple[Change, ...]
    kept: tuple[Kept, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return as_plain(self)


async def rescues() -> tuple[SavedWork, ...]:
    """Return the rescues of this host, the oldest first.

    Raises:
        StateError: a record of one, or the journal, cannot be read.
    """
    places = Places.default()
    saved = await asyncio.to_thread(bundles.list_rescues, places.bundles)
    hoard = await _hoard(places)
    return tuple([await _work(hoard, one.name, one.rescue) for one in saved])


async def show_rescue(name: str) -> RescueDetails:
    """Look into a rescue; `name` may be the beginning of its name.

    Raises:
        StateError: there is none of that name, or several.
        GitError: what this host has of it is damaged.
    """
    work, hoard = await _find(name)
    store = await _store(hoard, work)
    known = set((await hoard.published(store.path)).refs.values())
    kept = await hoard.unpublished(store.path, work.branch)
    sha = await _tip(store, work)
    if sha is None:
        return RescueDetails(work=work, commits=(), files=(), kept=kept)
    theirs = sorted(await store.present(known))
    commits = await _commits(store, sha, theirs)
    return RescueDetails(work=work, commits=commits, files=await _files(store, sha, theirs), kept=kept)


async def push_rescue(
    name: str,
    *,
    branch: str | None = None,
    ref: str | None = None,
    token: TokenSource = None,
    plugins: PluginHost | None = None,
) -> PushResult:
    """Publish a rescue, never forced, and ask the remote whether it has it; then it is marked as published.

    Args:
        name: the rescue's name, or its beginning.
        branch: the remote's branch to publish to; None is the session branch.
        ref: the ref of one entry of `show_rescue`'s `kept`; None is the session branch's commit.
        token: the credential for the repository, as for a session.
        plugins: the plugins; None loads the installed ones.

    Raises:
        StateError: there is no such rescue or ref, nothing in it to push, or its remote is not known.
        PushError: the remote did not take it; the rescue is as it was.
        CloneError: the remote cannot be read.
    """
    target = None if branch is None else check_branch(branch)
    work, hoard = await _find(name)
    if work.remote is None:
        raise StateError(f"the remote of the rescue {work.name!r} is not known: fetch from its bundle {work.bundle!r}")
    transport = _transport(hoard.places, work, token, plugins)
    await transport.open()
    store = await _store(hoard, work)
    sha = await _tip(store, work) if ref is None else (await store.refs("refs/")).get(ref)
    if sha is None:
        kept = await hoard.unpublished(store.path, work.branch)
        refs = ", ".join(item.ref for item in kept) or "none"
        raise StateError(f"the rescue {work.name!r} has no commit {ref or 'of its branch'}; it has these refs: {refs}")
    try:
        result = await transport.publish(sha, target or work.branch, policy="fail")
    finally:
        await transport.close()
    published = Published(branch=result.branch, sha=result.remote_sha, time=datetime.now(UTC))
    await asyncio.to_thread(_mark, hoard.places.bundles / f"{work.name}.published", published)
    return result


async def drop_rescue(name: str, *, force: bool = False) -> SavedWork:
    """Delete a rescue; with `force` also one that is the only copy of its work. Returns what it was.

    The session repository goes with it when no live machine and no other rescue needs it.

    Raises:
        StateError: there is none of that name, or it holds work that the remote is not known to have; lists it.
    """
    work, hoard = await _find(name)
    path = Path(work.repository)
    if not force:
        await _refuse_only_copy(work, hoard)
    others = [one for one in await rescues() if one.key == work.key and one.name != work.name]
    await asyncio.to_thread(bundles.drop_rescue, hoard.places.bundles, work.name)
    await asyncio.to_thread((hoard.places.bundles / f"{work.name}.published").unlink, missing_ok=True)
    unused = path in hoard.stores() and not others and hoard.live(work.key) is None
    if unused and (force or await hoard.why_needed(path) is None):
        await hoard.remove(path)
    return work


async def _refuse_only_copy(work: SavedWork, hoard: Hoard) -> None:
    try:
        store = await _store(hoard, work)
        left = await hoard.unpublished(store.path, work.branch)
    except GitError as error:
        raise StateError(
            f"whether the work of the rescue {work.name!r} is published is not known ({error}): push it, or drop it "
            "by force"
        ) from error
    if left:
        listing = ", ".join(f"{item.kind} {item.name} ({item.sha[:10]})" for item in left)
        raise StateError(
            f"the rescue {work.name!r} holds work that the remote lacks: {listing}; push it, or drop it by force"
        )


async def _hoard(places: Places) -> Hoard:
    async with await Journal.aopen(places.ensure()) as journal:
        records = await journal.machines(include_ended=True)
    return Hoard(places, {record.key: record for record in records})


async def _find(name: str) -> tuple[SavedWork, Hoard]:
    places = Places.default()
    saved = await asyncio.to_thread(bundles.list_rescues, places.bundles)
    fitting = [one for one in saved if one.name == name] or [one for one in saved if name and one.name.startswith(name)]
    if len(fitting) != 1:
        names = ", ".join(one.name for one in (fitting or saved)) or "none"
        what = "fits several rescues" if fitting else "is no rescue's name; there are"
        raise StateError(f"{name!r} {what}: {names}")
    hoard = await _hoard(places)
    return await _work(hoard, fitting[0].name, fitting[0].rescue), hoard


async def _work(hoard: Hoard, name: str, made: Rescue) -> SavedWork:
    key = Path(made.repository).stem
    origin = await recall_origin(hoard.places, key)
    record = hoard.records.get(key)
    live = hoard.live(key)
    remote = origin.repository if origin is not None else record.repository if record is not None else None
    size = 0 if made.bundle is None else await asyncio.to_thread(size_of, Path(made.bundle))
    return SavedWork(
        name=name,
        key=key,
        branch=made.branch,
        repository=made.repository,
        remote=remote,
        sha=made.sha,
        reason=made.reason,
        time=made.time,
        bundle=made.bundle,
        size_bytes=size,
        machine_kept=live is not None,
        machine=None if live is None else live.label,
        published=await asyncio.to_thread(_read_mark, hoard.places.bundles / f"{name}.published"),
    )


def _mark(file: Path, published: Published) -> None:
    fresh = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(as_plain(published)), encoding="utf-8")
    fresh.replace(file)


def _read_mark(file: Path) -> Published | None:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Published(**data | {"time": datetime.fromisoformat(data["time"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(f"{str(file)!r} cannot be read: remove it, then push the rescue again") from error


async def _store(hoard: Hoard, work: SavedWork) -> SessionRepository:
    """Return the session repository; one that is gone is made again from the bundle.

    Raises:
        GitError: neither is there.
    """
    path = Path(work.repository)
    mirror = next(iter(lenders(path)), None)
    store = SessionRepository(path, hoard.host, mirror)
    if (path / "HEAD").exists() and await store.refs("refs/"):
        return store
    if work.bundle is None or not await asyncio.to_thread(Path(work.bundle).exists):
        raise GitError(f"neither the session repository {work.repository!r} nor a bundle of it is there any more")
    if work.remote is not None:
        mirror = hoard.places.mirrors / f"{check_repository(work.remote).key}.git"
    await make_bare(path, alternates=mirror)
    args = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", work.bundle, "+refs/*:refs/*")
    await hoard.host.run(GitCall(args=args, git_dir=path, protocols=("file",)))
    return SessionRepository(path, hoard.host, mirror)


async def _tip(store: SessionRepository, work: SavedWork) -> str | None:
    if work.sha is not None:
        return work.sha
    return (await store.refs()).get(machine_ref(f"refs/heads/{work.branch}"))


async def _commits(store: SessionRepository, sha: str, theirs: list[str]) -> tuple[Commit, ...]:
    data = "".join([f"{sha}\n", *(f"^{other}\n" for other in theirs)]).encode()
    form = "--format=%H%x00%an%x00%ae%x00%at%x00%s%x00%b"
    args = (
        "log",
        "--no-show-signature",
        "--no-notes",
        "--no-color",
        f"--max-count={MAX_COMMITS}",
        "-z",
        form,
        "--stdin",
    )
    result = await store.host.run(GitCall(args=args, git_dir=store.path, stdin=data))
    return parse_log(parse_fields(result.stdout))


async def _files(store: SessionRepository, sha: str, theirs: list[str]) -> tuple[Change, ...]:
    """Compare the tip with the newest commit below it that the remote has."""
    data = "".join([f"{sha}\n", *(f"^{other}\n" for other in theirs)]).encode()
    listed = await store.host.run(GitCall(args=("rev-list", "--boundary", "--stdin"), git_dir=store.path, stdin=data))
    boundary = [line[1:] for line in listed.text.splitlines() if line.startswith("-")]
    if not listed.text:
        return ()
    if boundary:
        base = boundary[0]
    else:
        empty = GitCall(args=("hash-object", "-t", "tree", "--stdin"), git_dir=store.path)
        base = (await store.host.run(empty)).text.strip()
    args = ("diff-tree", "-r", "--no-commit-id", "--name-status", "--no-renames", "-z", base, sha, "--")
    result = await store.host.run(GitCall(args=args, git_dir=store.path))
    return parse_names(parse_fields(result.stdout))


def _transport(places: Places, work: SavedWork, token: TokenSource, plugins: PluginHost | None) -> RelayTransport:
    url = check_repository(work.remote or "")
    redactor = Redactor()
    if isinstance(token, str):
        redactor.add(token)
    return RelayTransport(
        TransportSetup(
            repository=url,
            options=GitOptions(),
            credentials=credential_source(url, token, fallback=_plugins(url, plugins, redactor), redactor=redactor),
            mirrors=make_private(places.mirrors),
            sessions=make_private(places.sessions),
            session_id=work.key,
            redactor=redactor,
        )
    )


def _plugins(url: RepositoryUrl, plugins: PluginHost | None, redactor: Redactor) -> CredentialSource:
    async def ask(operation: Operation) -> GitCredential | None:
        from gitmachine.catalog import default_host
        from gitmachine.plugins.dispatch import Dispatcher

        dispatcher = Dispatcher(plugins or default_host(), redact=redactor.redact)
        return await dispatcher.decide(
            "gitmachine_git_credentials", GitCredential, repository=url.display, operation=str(operation)
        )

    return ask
