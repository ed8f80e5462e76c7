"""Carrying as bundles, for machines without usable streams: in by `write_file`, out by `read_file`.

The objects are the bundle; which refs they belong to is said by the host, and verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.errors import CloneError, GitError
from gitmachine.git.carrier import FSCK_CONFIG, IncompleteError, Inward, Outward, check_fsck
from gitmachine.git.carrying import ENTER, FINISH, run_script
from gitmachine.git.host import GitCall, HostGit
from gitmachine.git.mirror import make_bare, read_refs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from gitmachine.git.carrying import Delivery
    from gitmachine.machine import Machine

__all__ = ["BundleInward", "BundleOutward"]

# Prints the repository's directory, and the commits that the repository already has of the remote.
_HAVES = r"""
g rev-parse --absolute-git-dir || exit 93
g for-each-ref --format='%(objectname)' refs/remotes/origin refs/heads refs/tags
exit 0
"""

# $8 the directory with the parts, or ""; stdin: lines of the refs, "<sha> <name>", and of the ends of a cut history,
# "shallow <sha>".
_UNBUNDLE = r"""
parts=$8
gitdir=$(g rev-parse --absolute-git-dir) || exit 93
refs=$(cat) || exit 93
if [ -n "$parts" ]; then
  cat "$parts"/* >"$gitdir/gitmachine.bundle" || exit 93
  rm -rf -- "$parts"
  shallow=$(printf '%s\n' "$refs" | sed -n 's/^shallow //p')
  if [ -n "$shallow" ]; then printf '%s\n' "$shallow" >"$gitdir/shallow"; fi
  g bundle unbundle "$gitdir/gitmachine.bundle" >/dev/null; code=$?
  rm -f -- "$gitdir/gitmachine.bundle"
  [ $code = 0 ] || exit 95
fi
{ printf '%s\n' "$refs"; g for-each-ref --format='old %(refname)' refs/remotes/origin; } | awk '
  $1 == "old" { old[$2] = 1; next }
  $1 != "shallow" && NF == 2 { new[$2] = $1 }
  END { for (r in old) if (!(r in new) && r != "refs/remotes/origin/HEAD") print "delete " r }
' | g update-ref --no-deref --stdin || exit 95
printf '%s\n' "$refs" | awk '$1 != "shallow" && NF == 2 { print "update " $2 " " $1 }' | g update-ref --stdin || exit 95
"""

# $1 path  $2 bytes in a part; stdin: "want <sha>" and "have <sha>" by line. Prints the directory and the parts' names.
_BUNDLE = r"""
cd -- "$1" 2>/dev/null || exit 94
if [ ! -e .git ]; then [ -f HEAD ] && export GIT_DIR=. GIT_WORK_TREE=. || exit 94; fi
gitdir=$(g rev-parse --absolute-git-dir) || exit 94
out=$gitdir/gitmachine-out
rm -rf -- "$out"
mkdir -p -- "$out" || exit 93
list=$(cat)
number=0
printf '%s\n' "$list" | sed -n 's/^want //p' | while read -r sha; do
  g update-ref "refs/gitmachine/out/$number" "$sha" || exit 95
  echo "refs/gitmachine/out/$number"
  number=$((number + 1))
done >"$out/revs" || exit 95
printf '%s\n' "$list" | sed -n 's/^have //p' | g cat-file --batch-check='^%(objectname) %(objecttype)' |
  sed -n 's/ commit$//p' >>"$out/revs"
g bundle create "$out/bundle" --stdin <"$out/revs" >/dev/null; code=$?
g for-each-ref --format='delete %(refname)' refs/gitmachine/out | g update-ref --stdin
[ $code = 0 ] || exit 95
printf '%s\n' "$out"
if [ "$(wc -c <"$out/bundle")" -le "$2" ]; then echo bundle; exit 0; fi
cd -- "$out" && split -b "$2" -a 4 bundle part. && rm -f bundle && ls part.*
"""

_CLEAN = r"""
cd -- "$1" 2>/dev/null || exit 94
[ -e .git ] || export GIT_DIR=. GIT_WORK_TREE=.
gitdir=$(g rev-parse --absolute-git-dir) && rm -rf -- "$gitdir/gitmachine-out"
"""

_SHALLOW = r"""
cd -- "$1" 2>/dev/null || exit 94
[ -e .git ] || export GIT_DIR=. GIT_WORK_TREE=.
file=$(g rev-parse --git-common-dir)/shallow
[ ! -f "$file" ] || cat "$file"
"""


class BundleInward(Inward):
    """A bundle of what the machine lacks, written in parts by `write_file`."""

    def __init__(self, host: HostGit) -> None:
        self._host = host

    async def deliver(self, machine: Machine, path: str, view: Path, delivery: Delivery) -> None:
        """Ask what is there, write the rest, unpack and verify."""
        arguments = delivery.arguments(path)
        answer = await run_script(machine, ENTER + _HAVES, *arguments, doing="making the repository")
        git_dir, *haves = answer.decode("utf-8", "surrogateescape").splitlines()
        refs = {**delivery.heads, **delivery.tags}
        lines = [f"{sha} {ref}" for ref, sha in refs.items() if ref != "refs/remotes/origin/HEAD"]
        async with _scratch() as scratch:
            source = view
            shallow: list[str] = []
            if delivery.depth is not None and delivery.fresh and refs:
                source, shallow = await self._shallow(scratch, view, delivery)
            file = await self._bundle(scratch, source, {*delivery.state.refs.values()}, haves)
            parts = ""
            if file is not None:
                parts = f"{git_dir}/gitmachine-in"
                await _write_parts(machine, parts, file, self._host.limits.part_bytes)
        text = "\n".join([*lines, *(f"shallow {sha}" for sha in shallow)])
        stdin = text.encode("utf-8", "surrogateescape")
        again = list(arguments)
        again[3] = ""
        script = ENTER + _UNBUNDLE + FINISH
        await run_script(machine, script, *again, parts, stdin=stdin, doing="unpacking the repository")

    async def _shallow(self, scratch: Path, view: Path, delivery: Delivery) -> tuple[Path, list[str]]:
        """Cut the history on the host: a bundle itself cannot say where history ends."""
        cut = scratch / "shallow.git"
        await make_bare(cut, object_format=delivery.object_format)
        refspecs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        if delivery.commit is not None and delivery.commit not in delivery.state.refs.values():
            refspecs.append(f"+{delivery.commit}:refs/gitmachine/base")
        call = GitCall(
            args=("fetch", "--quiet", "--no-tags", f"--depth={delivery.depth}", view.as_uri(), *refspecs),
            git_dir=cut,
            protocols=("file",),
        )
        await self._host.run(call)
        shallow = await asyncio.to_thread((cut / "shallow").read_text) if (cut / "shallow").exists() else ""
        return cut, shallow.split()

    async def _bundle(self, scratch: Path, source: Path, shas: set[str], haves: Iterable[str]) -> Path | None:
        """Make the bundle; None when the machine lacks nothing."""
        lacking = shas - set(haves)
        if not lacking:
            return None
        data = "".join(f"{sha}\n" for sha in sorted(set(haves)) if sha.isalnum())
        check = GitCall(args=("cat-file", "--batch-check=%(objectname)"), git_dir=source, stdin=data.encode())
        known = [line for line in (await self._host.run(check)).text.splitlines() if not line.endswith("missing")]
        file = scratch / "in.bundle"
        revisions = "".join(f"^{sha}\n" for sha in known)
        call = GitCall(
            args=("bundle", "create", "--quiet", str(file), "--all", "--stdin"),
            git_dir=source,
            stdin=revisions.encode(),
            check=False,
        )
        result = await self._host.run(call)
        if result.exit_code != 0:
            if "empty bundle" in result.stderr:
                return None
            raise CloneError(
                f"the repository could not be bundled for the machine: {result.stderr}", stderr=result.stderr
            )
        return file


class BundleOutward(Outward):
    """A bundle made in the machine, read in parts by `read_file`."""

    def __init__(self, host: HostGit) -> None:
        self._host = host

    async def bring(
        self, machine: Machine, path: str, target: Path, wants: Mapping[str, str], *, check: bool, shallow: bool = False
    ) -> None:
        """Bundle what the host lacks; unpack it aside, then fetch from there with git's check."""
        haves = await self._haves(target)
        lines = [f"want {sha}" for sha in dict.fromkeys(wants.values())] + [f"have {sha}" for sha in haves]
        size = str(self._host.limits.part_bytes)
        stdin = "\n".join(lines).encode()
        try:
            answer = await run_script(machine, _BUNDLE, path, size, stdin=stdin, doing="bundling the work")
        except CloneError as error:
            raise GitError(
                f"the work in {path!r} could not be brought out of the machine: {error}", stderr=error.stderr
            ) from error
        directory, *names = answer.decode("utf-8", "surrogateescape").splitlines()
        async with _scratch() as scratch:
            file = scratch / "out.bundle"
            await self._read_parts(machine, directory, names, file)
            await run_script(machine, _CLEAN, path, doing="tidying up")
            ends = b""
            if shallow:
                ends = await run_script(machine, _SHALLOW, path, doing="reading where the history ends")
            await self._unpack(scratch, file, target, wants, check=check, ends=ends)

    async def _haves(self, target: Path) -> list[str]:
        own = (await read_refs(self._host, target)).values()
        alternates = target / "objects" / "info" / "alternates"
        borrowed: list[str] = []
        if alternates.exists():
            for line in alternates.read_text().splitlines():
                borrowed += (await read_refs(self._host, Path(line).parent)).values()
        return sorted({*own, *borrowed})

    async def _read_parts(self, machine: Machine, directory: str, names: list[str], file: Path) -> None:
        total = 0
        for name in names:
            if "/" in name:
                raise GitError(f"the machine names a strange part of a bundle: {name!r}")
            data = await machine.read_file(f"{directory}/{name}", max_bytes=self._host.limits.part_bytes)
            total += len(data)
            if total > self._host.limits.max_pack_bytes:
                raise GitError(f"the machine sent more than {self._host.limits.max_pack_bytes} bytes: ended")
            await asyncio.to_thread(_append, file, data)

    async def _unpack(
        self, scratch: Path, file: Path, target: Path, wants: Mapping[str, str], *, check: bool, ends: bytes
    ) -> None:
        # Git before 2.45 checks no objects that come as a bundle, so they are fetched once more, from a repository
        # that borrows the target's objects.
        aside = scratch / "aside.git"
        length = {len(sha) for sha in wants.values()}
        await make_bare(aside, alternates=target, object_format="sha256" if length == {64} else "sha1")
        call = GitCall(args=("bundle", "unbundle", str(file)), git_dir=aside, check=False)
        result = await self._host.run(call)
        if result.exit_code != 0:
            raise GitError(f"the machine's bundle could not be unpacked: {result.stderr}", stderr=result.stderr)
        if ends:
            await asyncio.to_thread((aside / "shallow").write_bytes, ends)
        await self._name(aside, wants)
        options = ["--no-tags", "--no-write-fetch-head", "--quiet", *(["--update-shallow"] if ends else [])]
        call = GitCall(
            args=("fetch", *options, aside.as_uri(), *(f"+{ref}:{ref}" for ref in wants)),
            git_dir=target,
            protocols=("file",),
            config=FSCK_CONFIG if check else (),
            check=False,
        )
        result = await self._host.run(call)
        if result.exit_code != 0:
            check_fsck(result.stderr)
            raise IncompleteError(f"the work could not be stored: {result.stderr[-500:]}", stderr=result.stderr)

    async def _name(self, aside: Path, wants: Mapping[str, str]) -> None:
        script = "".join(f"update {ref}\0{sha}\0\0" for ref, sha in wants.items())
        call = GitCall(args=("update-ref", "--stdin", "-z"), git_dir=aside, stdin=script.encode(), check=False)
        result = await self._host.run(call)
        if result.exit_code != 0:
            raise GitError(
                f"the machine's bundle lacks what was asked for: {result.stderr[-500:]}", stderr=result.stderr
            )


async def _write_parts(machine: Machine, directory: str, file: Path, size: int) -> None:
    number = 0
    with contextlib.closing(await asyncio.to_thread(file.open, "rb")) as stream:
        while data := await asyncio.to_thread(stream.read, size):
            await machine.write_file(f"{directory}/{number:06d}", data)
            number += 1


def _append(file: Path, data: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(data)


@contextlib.asynccontextmanager
async def _scratch() -> AsyncIterator[Path]:
    """A private directory for the time of a transfer."""
    path = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="gitmachine-"))
    try:
        yield path
    finally:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
