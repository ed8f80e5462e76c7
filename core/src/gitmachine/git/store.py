"""The session repository: a bare repository on the host with everything that a machine made.

It borrows the mirror's objects, receives under ``refs/machine/``, and pushes to the remote. No machine is ever served
from it: one could otherwise fetch what another session made.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gitmachine.errors import GitError
from gitmachine.git.host import GitCall, HostGit
from gitmachine.git.mirror import make_bare, read_refs, update_refs
from gitmachine.outcomes import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gitmachine.git.model import RemoteState
    from gitmachine.outcomes import Kept, Rescue

__all__ = ["CHECKPOINTS", "INCOMING", "MACHINE", "SessionRepository", "machine_ref"]

MACHINE = "refs/machine/"
INCOMING = "refs/incoming/"
CHECKPOINTS = "refs/gitmachine/"
NESTED = "refs/machine/nested/"


def machine_ref(ref: str, nested: str | None = None) -> str:
    """Return the name on the host of a machine's ref; `nested` is the key of a nested repository."""
    rest = ref.removeprefix("refs/")
    if nested is not None:
        return f"{NESTED}{nested}/{rest}"
    # A ref that the machine itself calls refs/nested/… must not pass for a nested repository's.
    return f"{MACHINE}own-{rest}" if rest.startswith(("nested/", "own-")) else f"{MACHINE}{rest}"


def nested_key(path: str) -> str:
    """Return the name that a nested repository has in ``refs/machine/nested/<key>/``."""
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:12]


class SessionRepository:
    """One session's repository on the host."""

    def __init__(self, path: Path, host: HostGit, mirror: Path | None = None) -> None:
        self.path = path
        self.mirror = mirror
        self.host = host
        self._whole: dict[str, None] = {}
        """Objects that were found here with everything they need: nothing ever leaves a session repository."""

    async def open(self, *, object_format: str = "sha1") -> None:
        """Make it when it is missing.

        Raises:
            GitError: it cannot be made.
        """
        await make_bare(self.path, alternates=self.mirror, object_format=object_format)

    async def borrow(self, repository: Path) -> None:
        """Use the objects of another repository on this host too (a submodule's mirror)."""
        await asyncio.to_thread(self._borrow, os.fsencode(repository / "objects") + b"\n")

    def _borrow(self, line: bytes) -> None:
        file = self.path / "objects" / "info" / "alternates"
        known = file.read_bytes() if file.exists() else b""
        if line not in known.splitlines(keepends=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(known + line)

    async def refs(self, *prefixes: str) -> dict[str, str]:
        """Return its refs below some prefixes (that of the machine's), by full name."""
        return await read_refs(self.host, self.path, prefixes or (MACHINE,))

    async def present(self, shas: Iterable[str]) -> set[str]:
        """Return those of the objects that are here (or in the mirror); their history may not be."""
        wanted = sorted(set(shas))
        if not wanted:
            return set()
        data = "".join(f"{sha}\n" for sha in wanted).encode()
        call = GitCall(args=("cat-file", "--batch-check=%(objectname)"), git_dir=self.path, stdin=data)
        lines = (await self.host.run(call)).text.splitlines()
        return {line for line in lines if not line.endswith(" missing")}

    async def has(self, sha: str) -> bool:
        """Tell whether a commit is here with everything that it needs."""
        return sha in self._whole or await self.connected([sha])

    async def connected(self, shas: Iterable[str]) -> bool:
        """Tell whether the objects and all they need are here; of what is here, what refs name is taken as complete."""
        wanted = set(shas)
        data = "".join(f"{sha}\n" for sha in sorted(wanted))
        # An interrupted transfer can leave a pack without what it needs, so presence alone proves nothing.
        args = ("rev-list", "--objects", "--quiet", "--stdin", "--not", "--all", "--alternate-refs")
        call = GitCall(args=args, git_dir=self.path, stdin=data.encode(), check=False)
        if (await self.host.run(call)).exit_code != 0:
            return False
        self._whole |= dict.fromkeys(wanted)
        return True

    def newest(self, count: int) -> set[str]:
        """Return the last objects that were found here with everything they need."""
        return set(list(self._whole)[-count:])

    async def settle(self, wanted: Mapping[str, str], *, below: str) -> None:
        """Set refs to what was verified, drop the others of a namespace, and forget `INCOMING`.

        Raises:
            GitError: a ref could not be set, or does not have its sha afterwards.
        """
        both = await read_refs(self.host, self.path, (below, INCOMING))
        have = {ref: sha for ref, sha in both.items() if ref.startswith(below)}
        stale = [ref for ref in have if ref not in wanted and (below != MACHINE or not ref.startswith(NESTED))]
        if stale:
            # First on its own: a branch that is gone stands in the way of one below its name.
            await update_refs(self.host, self.path, "".join(f"delete {ref}\0\0" for ref in stale))
        changes = [f"update {ref}\0{sha}\0\0" for ref, sha in wanted.items() if have.get(ref) != sha]
        changes += [f"delete {ref}\0\0" for ref in both if ref.startswith(INCOMING)]
        if not changes:
            return
        await update_refs(self.host, self.path, "".join(changes))
        now = await self.refs(below)
        wrong = [ref for ref, sha in wanted.items() if now.get(ref) != sha]
        if wrong:
            raise GitError(f"{len(wrong)} refs of the machine did not arrive in {str(self.path)!r}: {wrong[0]!r}")

    async def set_ref(self, ref: str, sha: str) -> None:
        """Set one ref of the store."""
        await update_refs(self.host, self.path, f"update {ref}\0{sha}\0\0")

    async def parents(self, sha: str) -> tuple[str, ...]:
        """Return a commit's parents."""
        call = GitCall(args=("rev-list", "--parents", "--max-count=1", sha, "--"), git_dir=self.path)
        return tuple((await self.host.run(call)).text.split()[1:])

    async def count(self, sha: str, without: Iterable[str]) -> int:
        """Return how many commits `sha` has beyond those of `without` (what is not here is left out)."""
        data = "".join([f"{sha}\n", *(f"^{other}\n" for other in sorted(set(without)))])
        call = GitCall(
            args=("rev-list", "--count", "--ignore-missing", "--stdin"), git_dir=self.path, stdin=data.encode()
        )
        return int((await self.host.run(call)).text)

    async def ahead_behind(self, ours: str, theirs: str) -> tuple[int, int] | None:
        """Return how many commits each side has alone, or None when one of them is not here."""
        if await self.present([ours, theirs]) != {ours, theirs}:
            return None
        args = ("rev-list", "--left-right", "--count", f"{ours}...{theirs}", "--")
        ahead, behind = (await self.host.run(GitCall(args=args, git_dir=self.path))).text.split()
        return int(ahead), int(behind)

    async def unpublished(self, remote: RemoteState | None, branch: str | None) -> tuple[Kept, ...]:
        """List everything collected whose commits the remote lacks; the session branch comes first.

        `remote` None means that nothing is known of it: everything is listed.
        """
        from gitmachine.git.unpublished import unpublished

        return await unpublished(self, remote, branch)

    async def rescue(self, *, bundles: Path, branch: str, sha: str | None, reason: str, machine_kept: bool) -> Rescue:
        """Bundle everything that was collected, proven by cloning; `sha` becomes the branch that a clone checks out.

        Raises:
            GitError: the bundle could not be made or proven. The store has the work all the same.
        """
        from gitmachine.git.rescue import rescue

        return await rescue(self, bundles=bundles, branch=branch, sha=sha, reason=reason, machine_kept=machine_kept)

    async def add_checkpoint(self, sha: str) -> Checkpoint:
        """Keep a collected snapshot under the next number.

        Raises:
            GitError: the commit was not collected.
        """
        if not await self.has(sha):
            raise GitError(f"the snapshot {sha} was not collected from the machine")
        number = max((checkpoint.number for checkpoint in await self.checkpoints()), default=0) + 1
        await self.set_ref(f"{CHECKPOINTS}{number}", sha)
        return (await self.checkpoints())[-1]

    async def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Return the snapshots kept by `add_checkpoint`, the oldest first."""
        fields = "%(refname:lstrip=2)%00%(objectname)%00%(parent)%00%(committerdate:unix)%00%(contents:subject)"
        call = GitCall(args=("for-each-ref", f"--format={fields}", CHECKPOINTS.rstrip("/")), git_dir=self.path)
        found = []
        for line in (await self.host.run(call)).text.splitlines():
            number, sha, parents, stamp, message = line.split("\0", 4)
            head = parents.split()[0] if parents else None
            time = datetime.fromtimestamp(int(stamp), UTC)
            found.append(Checkpoint(number=int(number), sha=sha, head=head, time=time, message=message))
        return tuple(sorted(found, key=lambda checkpoint: checkpoint.number))

    async def note_nested(self, path: str, kind: str, mirror: Path | None = None) -> str:
        """Remember a nested repository; returns its key in ``refs/machine/nested/<key>/``."""
        key = nested_key(path)
        await asyncio.to_thread(
            self._note, key, {"path": path, "kind": kind, "mirror": str(mirror) if mirror else None}
        )
        return key

    async def forget_nested(self, keep: set[str]) -> None:
        """Drop the refs of nested repositories that the machine has no more; the objects stay."""
        gone = {key for key in self.nested() if key not in keep}
        if not gone:
            return
        refs = [ref for ref in await self.refs(NESTED) if ref.removeprefix(NESTED).partition("/")[0] in gone]
        if refs:
            await update_refs(self.host, self.path, "".join(f"delete {ref}\0\0" for ref in refs))
        for key in gone:
            aside = self.nested_store(key)
            if aside.exists():
                await asyncio.to_thread(aside.rename, aside.with_suffix(f".gone-{os.urandom(4).hex()}"))

    def nested(self) -> dict[str, dict[str, str | None]]:
        """Return what is known of nested repositories, by key: ``path``, ``kind``, ``mirror``."""
        file = self.path / "nested.json"
        if not file.exists():
            return {}
        found: dict[str, dict[str, str | None]] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def _note(self, key: str, record: dict[str, str | None]) -> None:
        known = self.nested()
        if record["mirror"] is None and key in known:
            record["mirror"] = known[key]["mirror"]
        if known.get(key) == record:
            return
        fresh = self.path / "nested.json.new"
        fresh.write_text(json.dumps({**known, key: record}), encoding="utf-8")
        fresh.replace(self.path / "nested.json")

    def nested_store(self, key: str) -> Path:
        """Return where a nested repository is kept that is shallow: its gaps must not become the store's."""
        return self.path / "nested" / f"{key}.git"
