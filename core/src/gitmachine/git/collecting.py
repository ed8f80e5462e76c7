"""Bringing a machine's work to the host: every ref that a survey found, verified by sha, exit codes never trusted."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from gitmachine.errors import GitError
from gitmachine.git.carrier import FsckRefused, IncompleteError
from gitmachine.git.mirror import make_bare
from gitmachine.git.model import KEEP_PREFIX
from gitmachine.git.store import INCOMING, MACHINE, NESTED, SessionRepository, machine_ref, nested_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gitmachine.git.carrier import Outward
    from gitmachine.git.model import Survey
    from gitmachine.machine import Machine

__all__ = ["MAX_REFS", "IncompleteError", "collect"]

MAX_REFS = 100_000
"""More refs than this are not a repository's but an attack's."""
MAX_REF_BYTES = 1024
REMOTES_OWN = "refs/remotes/origin/"
"""What the remote itself has; a submodule's are kept all the same, to tell its own commits from the others."""


async def collect(store: SessionRepository, outward: Outward, machine: Machine, path: str, survey: Survey) -> None:
    """Fetch everything that the survey names into the store: the main repository, then each nested one.

    Raises:
        GitError: something did not arrive. What git's check refused is kept, unchecked and never pushed, in a
            repository of its own that the message names.
    """
    expected = {ref: sha for ref, sha in survey.refs.items() if not ref.startswith(REMOTES_OWN)}
    if survey.head is not None and survey.head not in expected.values():
        expected[f"{KEEP_PREFIX}head"] = survey.head
    wanted = {machine_ref(ref): sha for ref, sha in _checked(expected).items()}
    await _bring(store, outward, machine, path, wanted, little=True)
    await store.settle(wanted, below=MACHINE)
    keys, problems = set(), []
    for repository in survey.repositories:
        if repository.kind == "main":
            continue
        refs = survey.nested_refs.get(repository.path, {})
        if repository.kind == "nested":
            refs = {ref: sha for ref, sha in refs.items() if not ref.startswith(REMOTES_OWN)}
        key = await store.note_nested(repository.path, repository.kind)
        keys.add(key)
        inside = posixpath.join(path, repository.path)
        try:
            await _collect_nested(store, outward, machine, inside, key, _checked(refs))
        except GitError as error:
            # One broken nested repository must not keep the others from being saved.
            problems.append(f"{repository.path!r}: {error}")
    keys |= {nested_key(broken) for broken in survey.broken}
    await store.forget_nested(keys)
    if problems:
        raise GitError("nested repositories could not be brought out of the machine: " + "; ".join(problems))


def _checked(refs: Mapping[str, str]) -> Mapping[str, str]:
    if len(refs) > MAX_REFS:
        raise GitError(f"the machine's repository has {len(refs)} refs; more than {MAX_REFS} are not collected")
    for ref, sha in refs.items():
        odd = len(sha) not in (40, 64) or not set(sha) <= set("0123456789abcdef")
        if odd or not ref.startswith("refs/") or len(ref) > MAX_REF_BYTES or any(c in ref for c in "\n\0 :"):
            raise GitError(f"the machine's repository names a strange ref: {ref!r} {sha!r}")
    return refs


async def _collect_nested(
    store: SessionRepository, outward: Outward, machine: Machine, inside: str, key: str, refs: Mapping[str, str]
) -> None:
    wanted = {machine_ref(ref, key): sha for ref, sha in refs.items()}
    below = f"{NESTED}{key}/"
    aside = SessionRepository(store.nested_store(key), store.host)
    if not aside.path.exists():
        try:
            await _bring(store, outward, machine, inside, wanted)
        except IncompleteError:
            # A shallow clone: its gaps must not become the store's, or the main branch could not be bundled any more.
            lengths = {len(sha) for sha in refs.values()}
            await make_bare(aside.path, object_format="sha256" if lengths == {64} else "sha1")
        else:
            await store.settle(wanted, below=below)
            return
    await _bring(aside, outward, machine, inside, wanted, shallow=True)
    await aside.settle(wanted, below=below)


async def _bring(
    store: SessionRepository,
    outward: Outward,
    machine: Machine,
    path: str,
    wanted: Mapping[str, str],
    *,
    shallow: bool = False,
    little: bool = False,
) -> None:
    shas = set(wanted.values())
    missing = sorted(shas - await store.present(shas))
    there = not missing or (little and await outward.bring_little(machine, path, store.path, missing))
    if there and await store.connected(shas):
        return
    wants = {f"{INCOMING}{number}": sha for number, sha in enumerate(missing or sorted(shas))}
    try:
        await outward.bring(machine, path, store.path, wants, check=True, shallow=shallow)
    except FsckRefused as refusal:
        kept = await _quarantine(store, outward, machine, path, wants)
        raise GitError(f"{refusal}; it is kept, unchecked, in {str(kept)!r}", stderr=refusal.stderr) from refusal
    if not await store.connected(shas):
        raise IncompleteError(f"the work in {path!r} did not arrive completely: its history has gaps")


async def _quarantine(
    store: SessionRepository, outward: Outward, machine: Machine, path: str, wants: Mapping[str, str]
) -> Path:
    """Keep what the check refused: work is never dropped, but nothing reads it either."""
    number = 1
    while (place := store.path / "quarantine" / f"{number}.git").exists():
        number += 1
    await make_bare(place, alternates=store.path)
    await outward.bring(machine, path, place, wants, check=False, shallow=False)
    return place
