"""Carrying over a spawned process's streams: git's own protocol, nothing in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import GitError
from gitmachine.git.carrier import FSCK_CONFIG, Inward, Outward, check_fsck
from gitmachine.git.carrying import ENTER, FINISH, carry_error, run_script, script_request
from gitmachine.git.host import GitCall, GitResult, HostGit
from gitmachine.git.packs import UNPACK, bring_pack, ref_commands
from gitmachine.git.wire import WIRE_CONFIG, WireEnd, fetch_from, serve

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from gitmachine.git.carrying import Delivery
    from gitmachine.machine import Machine

__all__ = ["StreamInward", "StreamOutward"]

# $8 depth or ""  $9 "unnamed": no ref of the remote names the commit. The two fds are the wire, so nothing else may
# print to stdout or read stdin. Tags come by a namespace of their own: pruned, they would take the user's tags along.
_FETCH = r"""
depth=${8:+--depth=$8}
unnamed=${9:+"+$7:refs/gitmachine/base"}
g -c protocol.version=0 -c protocol.allow=never -c protocol.fd.allow=always fetch --progress --no-tags --prune $depth \
  fd::3,4 '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/gitmachine/tags/*' $unnamed \
  3<&0 4>&1 </dev/null >/dev/null
exec </dev/null >/dev/null
"""

_SERVE = r"""
cd -- "$1" 2>/dev/null || exit 94
if [ ! -e .git ]; then [ -f HEAD ] && export GIT_DIR=. GIT_WORK_TREE=. || exit 94; fi
exec git -c safe.directory='*' -c uploadpack.allowAnySHA1InWant=true -c uploadpack.hideRefs= -c protocol.version=0 \
  upload-pack .
"""


class StreamInward(Inward):
    """`git fetch fd::3,4` in the machine against `git upload-pack` of the mirror on the host."""

    def __init__(self, host: HostGit) -> None:
        self._host = host

    async def deliver(self, machine: Machine, path: str, view: Path, delivery: Delivery) -> None:
        """Do it in one round trip: make, fetch, verify."""
        arguments = delivery.arguments(path)
        refs = ref_commands(delivery) if delivery.pack is not None and delivery.fresh else None
        if refs is not None:
            seconds = self._host.limits.idle_seconds
            script = ENTER + UNPACK + FINISH
            doing = "unpacking the repository"
            await run_script(machine, script, *arguments, refs, stdin=delivery.pack, timeout=seconds, doing=doing)
            return
        if not delivery.state.refs:
            await run_script(machine, ENTER + FINISH, *arguments, doing="making the repository")
            return
        depth = str(delivery.depth) if delivery.depth is not None and delivery.fresh else ""
        named = delivery.commit is None or delivery.commit in delivery.state.refs.values()
        unnamed = "" if named or not depth else "unnamed"
        request = script_request(ENTER + _FETCH + FINISH, *arguments, depth, unnamed, open_stdin=True)
        call = GitCall(
            args=("upload-pack", "--strict", str(view)),
            config=(*WIRE_CONFIG, "uploadpack.allowReachableSHA1InWant=true"),
        )
        end = await serve(self._host, call, await machine.spawn(request))
        if end.exit_code != 0:
            raise carry_error(end.exit_code, self._host.clean(end.stderr), path=path, doing="fetching the repository")


class StreamOutward(Outward):
    """`git fetch fd::N` on the host against `git upload-pack` in the machine; a little work comes as a pack."""

    def __init__(self, host: HostGit, known: Collection[str] = ()) -> None:
        """Take commits that both sides are known to have; without any, everything comes by git's protocol."""
        self._host = host
        self._known = known

    async def bring_little(self, machine: Machine, path: str, target: Path, wanted: Collection[str]) -> bool:
        """Have the machine pack what is beyond the known commits."""
        return bool(self._known) and await bring_pack(self._host, machine, path, target, wanted, self._known)

    async def bring(
        self, machine: Machine, path: str, target: Path, wants: Mapping[str, str], *, check: bool, shallow: bool = False
    ) -> None:
        """Fetch by exact commit, so that a ref that moves meanwhile changes nothing."""
        lines = "".join(f"+{sha}:{ref}\n" for ref, sha in wants.items())

        def call(descriptor: int) -> GitCall:
            options: tuple[str, ...] = (
                "--no-tags",
                "--no-write-fetch-head",
                "--no-auto-maintenance",
                "--progress",
                "--stdin",
            )
            options += ("--update-shallow",) if shallow else ()
            return GitCall(
                args=("fetch", *options, f"fd::{descriptor}"),
                git_dir=target,
                protocols=("fd",),
                config=(*WIRE_CONFIG, *(FSCK_CONFIG if check else ())),
                stdin=lines.encode("utf-8", "surrogateescape"),
                fds=(descriptor,),
                idle_seconds=self._host.limits.idle_seconds,
                check=False,
            )

        process = await machine.spawn(script_request(_SERVE, path, open_stdin=True))
        result, end = await fetch_from(self._host, call, process)
        if result.exit_code != 0:
            check_fsck(result.stderr)
            raise self._error(path, result, end)

    def _error(self, path: str, result: GitResult, end: WireEnd) -> GitError:
        if end.exit_code in (90, 94):
            problem = carry_error(end.exit_code, "", path=path, doing="reading the repository")
            return GitError(str(problem), exit_code=end.exit_code)
        said = "; ".join(part for part in (result.stderr[-500:], self._host.clean(end.stderr)[-500:]) if part)
        return GitError(
            f"the work in {path!r} could not be brought out of the machine: {said}",
            argv=("git", "fetch"),
            exit_code=result.exit_code,
            stderr=result.stderr,
        )
