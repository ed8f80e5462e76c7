"""The direct transport: git in the machine talks to the remote.

For an agent that must push by itself, a partial clone, or a host that is far away. A credential is given to one git
process at a time: it arrives on the standard input of the script that runs git, becomes descriptor 3, and a one-shot
helper (all others reset first) reads it. It is in no argument, environment, file or URL; but a hostile process of the
machine's same user could take it from git while it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import CloneError, CommandTimeoutError, GitError, PushError
from gitmachine.git.bundles import BundleOutward
from gitmachine.git.carrier import IncompleteError
from gitmachine.git.carrying import ENTER, FINISH, Delivery, carry_error, object_format, run_script, script_request
from gitmachine.git.collecting import collect
from gitmachine.git.credentials import CredentialSource, credential_config, credential_input
from gitmachine.git.host import GitResult
from gitmachine.git.lfs import direct_lfs
from gitmachine.git.mirror import make_bare
from gitmachine.git.model import Operation
from gitmachine.git.publishing import publish
from gitmachine.git.remote import PushAnswer, Remote, parse_push
from gitmachine.git.streams import StreamOutward
from gitmachine.git.submodules import (
    SETTINGS,
    Submodule,
    check_out,
    parse_submodules,
    scoped_credentials,
    walk_submodules,
)
from gitmachine.git.transport import DivergencePolicy, Populated, Transport, check_beside, unknown_base
from gitmachine.machine import Capability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine.execution import ExecResult
    from gitmachine.git.model import RemoteState, Survey
    from gitmachine.git.names import RepositoryUrl
    from gitmachine.machine import Machine
    from gitmachine.outcomes import PushResult

__all__ = ["DirectTransport"]

ATTEMPTS = 3
CREDENTIAL_FD = 3

# $helper is the option with the one-shot helper, which reads descriptor 3.
_NETWORK = r"""
export GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-ssh -o BatchMode=yes}"
network() {
  g -c credential.helper= -c "$helper" -c core.askPass= -c http.emptyAuth=false -c protocol.allow=never \
    -c "protocol.$protocol.allow=always" "$@"
}
"""
# $1 to $7 as in ENTER and FINISH  $8 helper  $9 protocol  $10 depth  $11 filter; stdin: the credential.
_FETCH = (
    _NETWORK
    + r"""
helper=$8 protocol=$9 depth=${10} filter=${11}
source=$url
[ -z "$filter" ] || source=origin
exec 3<&0 </dev/null
network fetch --progress --no-tags --prune ${depth:+"--depth=$depth"} ${filter:+"--filter=$filter"} "$source" \
  '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/gitmachine/tags/*' >/dev/null
exec 3<&-
"""
)

# $1 path  $2 commit  $3 helper  $4 protocol; stdin: the credential. What a later checkout needs is brought now.
_BLOBS = (
    _NETWORK
    + r"""
cd -- "$1" || exit 94
helper=$3 protocol=$4
exec 3<&0 </dev/null
g ls-tree -r --full-tree "$2" 3<&- | awk '$2 == "blob" { print $3 }' | sort -u |
  network -c fetch.negotiationAlgorithm=noop fetch --quiet --no-tags --filter=blob:none --stdin origin
"""
)

# $1 path  $2 address  $3 <sha>:<ref>  $4 lease option or ""  $5 helper  $6 protocol; stdin: the credential.
_PUSH = (
    _NETWORK
    + r"""
cd -- "$1" 2>/dev/null && [ -e .git ] || exit 94
helper=$5 protocol=$6
exec 3<&0 </dev/null
network push --porcelain --no-verify --no-follow-tags --recurse-submodules=no --no-signed ${4:+"$4"} -- "$2" "$3"
"""
)

# $1 path  $2 fetch or push  $3 commit  $4 helper  $5 protocol; stdin: the credential.
_LFS = (
    _NETWORK
    + r"""
cd -- "$1" || exit 94
helper=$4 protocol=$5
git lfs version >/dev/null 2>&1 || exit 0
exec 3<&0 </dev/null
network lfs "$2" origin "$3" >&2
"""
)

_PEEL = r"""
cd -- "$1" && g rev-parse --verify --quiet "$2^{commit}" || exit 96
"""

# $1 path  $2 commit  $3 "tree", or the pattern of settings in .gitmodules
_MODULES = r"""
cd -- "$1" || exit 94
if [ "$3" = tree ]; then g ls-tree -r -z --full-tree "$2" | tr '\0' '\n' | grep '^160000 ' | tr '\n' '\0'; exit 0; fi
g config --null --blob "$2:.gitmodules" --get-regexp "$3"
exit 0
"""


class DirectTransport(Transport):
    """Clone and push happen in the machine; the host asks the remote, and keeps a copy of the work."""

    mirrored = False
    _machine: Machine | None = None
    _path = ""

    async def open(self, answer: RemoteState | None = None) -> RemoteState:
        """Ask the remote from the host; nothing is fetched."""
        self.remote_state = answer if answer is not None else await self.remote.ask()
        form = object_format(self.remote_state)
        await make_bare(self.mirror.path, object_format=form)
        await self.store.open(object_format=form)
        return self.remote_state

    async def populate(self, machine: Machine, path: str, *, branch: str, base: str | None = None) -> Populated:
        """Fetch in the machine, with the credential for that one process."""
        self._machine, self._path = machine, path
        state = self.remote_state if self.remote_state is not None else await self.open()
        found = state.branch(branch)
        if found is None:
            check_beside(branch, state)
        if found is None and base is not None:
            self.base_revision(state, base)  # an unknown base is refused before anything is fetched
        options = self.setup.options
        state = await self._fetch(
            machine, path, self.setup.repository, self.remote, state, fresh=True, depth=options.depth, filtered=True
        )
        self.remote_state = state
        found = state.branch(branch)
        start = found if found is not None else await self.resolve_base(state, base)
        if start is not None and options.filter is not None:
            await self._network(machine, _BLOBS, path, start, doing="fetching the files")
        if await direct_lfs(machine, path, start, options.lfs) and start is not None:
            await self._network(machine, _LFS, path, "fetch", start, doing="fetching the files of Git LFS")
        return Populated(branch_sha=found, start_sha=start, created=found is None, upstream=found is not None)

    async def populate_submodules(self, machine: Machine, path: str, sha: str) -> Sequence[str]:
        """Each fetched in the machine; a credential goes only to the remote's own host."""
        main = self.setup.repository

        async def listing(_url: RepositoryUrl, prefix: str, commit: str) -> tuple[Submodule, ...]:
            inside = f"{path}/{prefix}".rstrip("/")
            tree = await run_script(machine, _MODULES, inside, commit, "tree", doing="listing submodules")
            if not tree:
                return ()
            return parse_submodules(
                tree, await run_script(machine, _MODULES, inside, commit, SETTINGS, doing="listing submodules")
            )

        async def bring(url: RepositoryUrl, around: str, name: str, commit: str) -> None:
            remote = Remote(url, self.host, scoped_credentials(self.setup.credentials, url, main))
            outer = f"{path}/{around}".rstrip("/")
            await self._fetch(machine, f"{outer}/{name}", url, remote, await remote.ask(), fresh=True, commit=commit)
            await check_out(machine, outer, name, commit)

        return await walk_submodules(main, sha, listing, bring)

    async def refresh(self, machine: Machine, path: str) -> RemoteState:
        """Fetch in the machine again."""
        self.remote_state = await self._fetch(
            machine, path, self.setup.repository, self.remote, await self.open(), fresh=False
        )
        return self.remote_state

    async def collect(self, machine: Machine, path: str, survey: Survey) -> None:
        """Copy the work to the host, so that it is safe there whatever becomes of the machine."""
        if self.remote_state is None:
            await self.open()
        streams = Capability.SPAWN in machine.capabilities
        outward = StreamOutward(self.host) if streams else BundleOutward(self.host)
        partial = self.setup.options.depth is not None or self.setup.options.filter is not None
        if partial and not self.mirrored:
            # What the machine itself lacks can only come from the remote.
            await self._fill_mirror()
        try:
            await collect(self.store, outward, machine, path, survey)
        except IncompleteError:
            await self._fill_mirror()
            await collect(self.store, outward, machine, path, survey)

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
        """Push from the machine; without one (it is gone), or after a replay, from the host's copy."""
        target, where = machine if machine is not None else self._machine, path if path is not None else self._path

        async def push(commit: str, to: str, expected: str | None) -> PushAnswer:
            assert target is not None
            return await self._push(target, where, commit, to, expected)

        result, state = await publish(
            self, sha, branch, policy=policy, lease=lease, push=push if target is not None else None
        )
        self.remote_state = state
        return result

    async def commit_of(self, revision: str, base: str) -> str:
        """Look in the machine."""
        assert self._machine is not None
        result = await self._machine.execute(script_request(_PEEL, self._path, revision))
        if result.exit_code != 0:
            raise unknown_base(base, self.setup.repository)
        return result.stdout.strip()

    async def _fill_mirror(self) -> None:
        await self.mirror.update(self.setup.credentials)
        self.mirrored = True

    async def _fetch(
        self,
        machine: Machine,
        path: str,
        url: RepositoryUrl,
        remote: Remote,
        state: RemoteState,
        *,
        fresh: bool,
        commit: str | None = None,
        depth: int | None = None,
        filtered: bool = False,
    ) -> RemoteState:
        """Fetch a remote into a repository of the machine, and compare with what the host was told."""
        partial = self.setup.options.filter or "" if filtered else ""
        for attempt in range(ATTEMPTS):
            delivery = Delivery(url=url.url, state=state, fresh=fresh and attempt == 0, commit=commit)
            script = ENTER + (_FETCH if state.refs else "") + FINISH
            arguments = (*delivery.arguments(path), *self._access(url), str(depth or ""), partial)
            stdin = await self._secret(remote.credentials)
            result = await self._execute(machine, script, *arguments, stdin=stdin)
            if result.exit_code == 0:
                return state
            if result.exit_code == 95 and "error:" not in result.stderr and "fatal:" not in result.stderr:
                # The remote moved between the host's question and the machine's fetch.
                state = await remote.ask()
                continue
            break
        stderr = self.host.clean(result.stderr_bytes)
        if "fatal:" in stderr:
            raise remote.clone_error(GitError("git fetch failed in the machine", stderr=stderr))
        raise carry_error(result.exit_code, stderr, path=path, doing="fetching the repository")

    async def _network(
        self, machine: Machine, script: str, *arguments: str, doing: str, operation: Operation = Operation.READ
    ) -> None:
        stdin = await self._secret(self.setup.credentials, operation)
        result = await self._execute(machine, script, *arguments, *self._access(self.setup.repository), stdin=stdin)
        if result.exit_code != 0:
            raise carry_error(result.exit_code, self.host.clean(result.stderr_bytes), path=arguments[0], doing=doing)

    async def _push(self, machine: Machine, path: str, sha: str, branch: str, lease: str | None) -> PushAnswer:
        url, ref = self.setup.repository, f"refs/heads/{branch}"
        if self.setup.options.lfs == "fetch":
            # What a pointer stands for goes first, as git-lfs's own hook would do it; hooks are off here.
            try:
                await self._network(
                    machine, _LFS, path, "push", sha, doing="pushing the files of Git LFS", operation=Operation.WRITE
                )
            except CloneError as error:
                raise PushError(str(error), stderr=error.stderr) from error
        option = f"--force-with-lease={ref}:{lease}" if lease is not None else ""
        stdin = await self._secret(self.setup.credentials, Operation.WRITE)
        arguments = (path, url.url, f"{sha}:{ref}", option, *self._access(url))
        result = await self._execute(machine, _PUSH, *arguments, stdin=stdin)
        output = self.setup.redactor.redact(result.stdout)
        flag, summary = parse_push(output, ref)
        told = GitResult(
            exit_code=result.exit_code, stdout=output.encode(), stderr=self.host.clean(result.stderr_bytes)
        )
        return PushAnswer(flag=flag, summary=summary, result=told)

    async def _execute(self, machine: Machine, script: str, *arguments: str, stdin: bytes) -> ExecResult:
        request = script_request(script, *arguments, stdin=stdin, timeout=self.host.limits.direct_seconds)
        try:
            return await machine.execute(request)
        except CommandTimeoutError as error:
            raise CloneError(f"git in the machine did not end within {self.host.limits.direct_seconds:g} s") from error

    async def _secret(self, credentials: CredentialSource, operation: Operation = Operation.READ) -> bytes:
        credential = await credentials(operation)
        return credential_input(credential) if credential is not None else b""

    @staticmethod
    def _access(url: RepositoryUrl) -> tuple[str, str]:
        """Return the helper's option and the protocol to open."""
        return credential_config(url, CREDENTIAL_FD)[1], url.protocol
