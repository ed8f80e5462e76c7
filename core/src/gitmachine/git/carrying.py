"""The shell side of carrying objects: scripts that run in the machine while a repository travels.

Data reaches a script as positional arguments or standard input, never as text of the script. What a script found
wrong is its exit code, one of `PROBLEMS`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CloneError, CommandTimeoutError
from gitmachine.execution import ExecRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine.git.model import RemoteState
    from gitmachine.machine import Machine

__all__ = ["Delivery", "carry_error", "run_script", "script_request"]

PROBLEMS = {
    90: "git is not installed in the machine",
    91: "the directory {path!r} cannot be made in the machine",
    92: "the directory {path!r} in the machine is not empty: choose another path",
    93: "git could not make a repository in {path!r} in the machine",
    94: "there is no git repository in {path!r} in the machine",
    95: "the repository in the machine does not have what was sent",
}

PRELUDE = r"""
unset IFS CDPATH GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_NAMESPACE GIT_PROTOCOL \
  GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT GIT_SHALLOW_FILE GIT_QUARANTINE_PATH \
  GIT_TRACE GIT_TRACE_CURL GIT_TRACE2 GIT_TRACE2_EVENT GIT_TRACE2_PERF GIT_TRACE_PACKET GIT_CURL_VERBOSE
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_ASKPASS= SSH_ASKPASS=
command -v git >/dev/null 2>&1 || exit 90
g() {
  command git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c gc.auto=0 -c maintenance.auto=false \
    -c safe.directory='*' -c submodule.recurse=false -c fetch.recurseSubmodules=false -c init.defaultBranch=main \
    -c advice.detachedHead=false -c fetch.prune=false -c fetch.pruneTags=false -c fetch.writeCommitGraph=false "$@"
}
"""

# $1 path  $2 url of origin  $3 object format  $4 "fresh" or ""
ENTER = r"""
path=$1 url=$2 format=$3 fresh=$4 placed=
if [ -n "$fresh" ]; then
  mkdir -p -- "$path" 2>/dev/null && cd -- "$path" || exit 91
  [ -z "$(ls -A .)" ] || exit 92
  [ "$format" = sha1 ] || export GIT_DEFAULT_HASH="$format"
  g init -q . >/dev/null || exit 93
  # What `git config` would write, unless the address has to be escaped.
  case $url in
    *[!A-Za-z0-9._:/@~%+=,-]*)
      g config remote.origin.url "$url" && g config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*' ;;
    *) printf '[remote "origin"]\n\turl = %s\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n' "$url" >>.git/config ;;
  esac || exit 93
else
  cd -- "$path" 2>/dev/null && [ -e .git ] || exit 94
fi
"""

# $5 default branch  $6 digest of the expected refs/remotes/origin  $7 a commit that must be there, or ""
FINISH = r"""
default=$5 digest=$6 expected=$7
# Tags are in a namespace of their own, unless they are in place already.
[ -n "$placed" ] || {
  g for-each-ref --format='h %(refname:lstrip=2)' refs/tags
  g for-each-ref --format='n %(refname:lstrip=3) %(objectname)' refs/gitmachine/tags
} | awk '
  $1 == "h" { have[$2] = 1 }
  $1 == "n" && !($2 in have) { print "create refs/tags/" $2 " " $3 }
  $1 == "n" { print "delete refs/gitmachine/tags/" $2 }
' | g update-ref --stdin >&2
if [ -n "$default" ]; then g symbolic-ref refs/remotes/origin/HEAD "refs/remotes/origin/$default" || exit 95; fi
found=$(g for-each-ref --format='%(objectname) %(refname)' refs/remotes/origin | grep -v ' refs/remotes/origin/HEAD$' |
  g hash-object --stdin)
[ "$found" = "$digest" ] || exit 95
if [ -n "$expected" ]; then g cat-file -e "$expected^{commit}" 2>/dev/null || exit 95; fi
exit 0
"""


@attrs.frozen(kw_only=True)
class Delivery:
    """What a machine's repository shall have of the remote.

    Attributes:
        url: the address that `origin` gets; without any secret.
        state: the remote's refs; the mirror has them all.
        fresh: make the repository (else it is there already).
        depth: history to bring, in commits, or None.
        commit: a commit that must be there afterwards although no ref may name it, or None.
        pack: all of it as one pack, for a fresh repository that is small; see `gitmachine.git.packs`.
    """

    url: str
    state: RemoteState
    fresh: bool
    depth: int | None = None
    commit: str | None = None
    pack: bytes | None = attrs.field(default=None, repr=False)

    @property
    def heads(self) -> Mapping[str, str]:
        """The remote's branches as refs of the machine."""
        return {
            f"refs/remotes/origin/{ref.removeprefix('refs/heads/')}": sha
            for ref, sha in self.state.refs.items()
            if ref.startswith("refs/heads/")
        }

    @property
    def tags(self) -> Mapping[str, str]:
        """The remote's tags, in the namespace from which the machine takes the ones that it does not have."""
        return {
            f"refs/gitmachine/tags/{ref.removeprefix('refs/tags/')}": sha
            for ref, sha in self.state.refs.items()
            if ref.startswith("refs/tags/")
        }

    @property
    def object_format(self) -> str:
        """``sha1`` or ``sha256``."""
        return object_format(self.state)

    def arguments(self, path: str) -> tuple[str, ...]:
        """Return the positional arguments of the scripts."""
        fresh = "fresh" if self.fresh else ""
        default = self.state.default_branch or ""
        return (path, self.url, self.object_format, fresh, default, self.digest(), self.commit or "")

    def digest(self) -> str:
        """Return the id that git gives to the list of ``refs/remotes/origin``, as the machine computes it."""
        heads = {ref: sha for ref, sha in self.heads.items() if ref != "refs/remotes/origin/HEAD"}
        names = sorted((ref.encode("utf-8", "surrogateescape"), sha.encode()) for ref, sha in heads.items())
        text = b"".join(b"%b %b\n" % (sha, ref) for ref, sha in names)
        data = b"blob %d\0%b" % (len(text), text)
        algorithm = hashlib.sha256 if self.object_format == "sha256" else hashlib.sha1
        return algorithm(data).hexdigest()


def object_format(state: RemoteState) -> str:
    """Return a remote's hash function; an empty one does not tell, and gets git's default."""
    lengths = {len(sha) for sha in state.refs.values()}
    return "sha256" if lengths == {64} else "sha1"


def script_request(
    script: str, *arguments: str, stdin: bytes | None = None, open_stdin: bool = False, timeout: float | None = None
) -> ExecRequest:
    """Return the request for a script with positional arguments."""
    argv = ("sh", "-c", PRELUDE + script, "gitmachine", *arguments)
    return ExecRequest(argv=argv, stdin=stdin, open_stdin=open_stdin, timeout=timeout)


async def run_script(
    machine: Machine,
    script: str,
    *arguments: str,
    stdin: bytes | None = None,
    timeout: float | None = None,
    doing: str,
) -> bytes:
    """Run a script in the machine whose first argument is the repository's path; returns its standard output.

    Raises:
        CloneError: it failed, or took longer than `timeout` seconds; says `doing` what.
    """
    try:
        result = await machine.execute(script_request(script, *arguments, stdin=stdin, timeout=timeout))
    except CommandTimeoutError as error:
        raise CloneError(f"{doing} took longer than {timeout:g} s in the machine and was ended") from error
    if result.exit_code != 0 or result.truncated:
        raise carry_error(result.exit_code, result.stderr, path=arguments[0], doing=doing)
    return result.stdout_bytes


def carry_error(exit_code: int, stderr: str, *, path: str, doing: str) -> CloneError:
    """Return the error for a script that failed."""
    said = f" (git said: {stderr.strip()[-500:]})" if stderr.strip() else ""
    problem = PROBLEMS.get(exit_code, f"{doing} failed in the machine with exit code {exit_code}").format(path=path)
    return CloneError(problem + said, exit_code=exit_code, stderr=stderr)
