"""The records of the git side: identity, options, credentials, changes, repositories found, refs of the remote."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # attrs and cattrs resolve annotations at run time
from datetime import datetime  # noqa: TC003  # attrs and cattrs resolve annotations at run time
from enum import StrEnum
from typing import Literal, get_args

import attrs

from gitmachine.errors import ConfigError
from gitmachine.git.ignored import glob_problem

__all__ = [
    "IGNORED_REF",
    "KEEP_PREFIX",
    "SNAPSHOT_PREFIX",
    "Change",
    "Changes",
    "Commit",
    "CommitOutcome",
    "FoundRepository",
    "GitCredential",
    "GitIdentity",
    "GitOptions",
    "GuardOptions",
    "Operation",
    "PullPolicy",
    "RemoteState",
    "Snapshot",
    "Survey",
]

KEEP_PREFIX = "refs/gitmachine/keep/"
"""In the machine: names for what only a reflog or a HEAD names, so that it can be fetched.

``keep/stash/<n>`` is a stash entry, ``keep/worktree/<name>`` a worktree's HEAD, ``keep/head`` a detached HEAD.
"""

IGNORED_REF = f"{KEEP_PREFIX}ignored"
"""In the machine: a commit of the ignored files that are to be kept."""

SNAPSHOT_PREFIX = "refs/gitmachine/snapshot/"
"""In the machine: commits of a whole working tree, made beside the branch."""

PullPolicy = Literal["ff", "rebase", "merge"]
"""What a pull does when both sides have commits; ``ff`` refuses then."""


def _one_line(_owner: object, field: attrs.Attribute[str], value: str) -> None:
    # Git strips or refuses these characters in an identity (ident.c: crud, '<', '>', newline).
    if not value.strip() or any(c in value for c in "<>\n\0"):
        raise ConfigError(f"invalid identity {field.name} {value!r}: one line, not empty, without '<' and '>'")


@attrs.frozen
class GitIdentity:
    """Who the session's commits are by."""

    name: str = attrs.field(default="GitMachine", validator=_one_line)
    email: str = attrs.field(default="gitagent@machine", validator=_one_line)


@attrs.frozen(kw_only=True)
class GitOptions:
    """How the repository travels and how git behaves.

    Attributes:
        transport: ``relay``: the host talks to the remote and the machine to the host; ``direct``: git in the machine
            talks to the remote.
        depth: history to bring in, in commits; None is all of it.
        base: the branch or commit that a new session starts from; None is the remote's default branch.
        filter: a partial clone's filter such as ``blob:none`` (direct only).
        submodules: whether to check submodules out.
        lfs: what to do with files of Git LFS: ``skip`` leaves pointers, ``error`` refuses, ``fetch`` brings them.
        diverged: what a push does when the remote's branch has other commits: ``fail``, ``rebase``, or ``sibling``
            (push to ``<session>-<short sha>``).
        pull: what a pull does: ``ff`` only, ``rebase`` or ``merge``.
        keep_ignored: globs of ignored files of the main repository that are kept on the host at pause and stop
            (`gitmachine.git.ignored` says how they match).
    """

    transport: Literal["relay", "direct"] = "relay"
    depth: int | None = None
    base: str | None = None
    filter: str | None = None
    submodules: bool = False
    lfs: Literal["skip", "error", "fetch"] = "error"
    diverged: Literal["fail", "rebase", "sibling"] = "fail"
    pull: PullPolicy = "ff"
    keep_ignored: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        problems = []
        if self.filter is not None and self.transport != "direct":
            problems.append(
                'a partial clone is impossible through the relay @ git.filter: set git.transport = "direct"'
            )
        if self.depth is not None and self.depth < 1:
            problems.append(f"expected a number of commits from 1 up, not {self.depth} @ git.depth")
        found = map(glob_problem, self.keep_ignored)
        problems += [f"{problem} @ git.keep_ignored" for problem in found if problem is not None]
        choices = {
            "transport": ("relay", "direct"),
            "lfs": ("skip", "error", "fetch"),
            "diverged": ("fail", "rebase", "sibling"),
            "pull": get_args(PullPolicy),
        }
        problems += [
            f"expected one of {', '.join(allowed)}, not {getattr(self, name)!r} @ git.{name}"
            for name, allowed in choices.items()
            if getattr(self, name) not in allowed
        ]
        if problems:
            raise ConfigError(*problems)


@attrs.frozen(kw_only=True)
class GuardOptions:
    """What the guard keeps out of automatic commits and stops at a push.

    Attributes:
        max_file_bytes: larger files are withheld; 0 is no limit.
        secrets: whether to look for private keys, tokens and the like.
        allow: globs of files that the guard lets through (`gitmachine.git.ignored` says how they match).
    """

    max_file_bytes: int = 50 * 1024 * 1024
    secrets: bool = True
    allow: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        problems = [f"{problem} @ guard.allow" for problem in map(glob_problem, self.allow) if problem is not None]
        if self.max_file_bytes < 0:
            problems.append(f"expected a number of bytes from 0 up, not {self.max_file_bytes} @ guard.max_file_bytes")
        if problems:
            raise ConfigError(*problems)


@attrs.frozen
class GitCredential:
    """A user name and a secret for one remote; the secret never shows in a repr."""

    username: str
    password: str = attrs.field(repr=False)


class Operation(StrEnum):
    """What a credential is asked for."""

    READ = "read"
    WRITE = "write"


@attrs.frozen
class Change:
    """One changed path: ``status`` is a letter as `git diff --name-status` prints it (A, M, D, T)."""

    status: str
    path: str


@attrs.frozen(kw_only=True)
class Changes:
    """Everything that differs from HEAD, untracked files included.

    Attributes:
        files: the changed paths.
        nested: paths of untracked nested repositories; no commit takes them in.
        in_progress: ``merge``, ``rebase``, ``am``, ``cherry-pick``, ``revert``, ``bisect``, or ``conflicts`` (unmerged
            paths without such an operation), or None.
    """

    files: tuple[Change, ...] = ()
    nested: tuple[str, ...] = ()
    in_progress: str | None = None

    def __bool__(self) -> bool:
        return bool(self.files)


@attrs.frozen(kw_only=True)
class CommitOutcome:
    """A commit that was made.

    Attributes:
        sha: HEAD after it.
        message: as given.
        changes: what it holds, against its first parent.
        unreadable: paths that an automatic commit left out because git could not add them: the machine's user may not
            read them, or their name is forbidden (``git~1``).
        withheld: paths that it was told to leave out.
    """

    sha: str
    message: str
    changes: Changes
    unreadable: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Commit:
    """One commit of the history.

    Attributes:
        time: the author's time, in UTC.
        subject: the first paragraph, on one line.
        body: the rest of the message, exact.
    """

    sha: str
    author_name: str
    author_email: str
    time: datetime
    subject: str
    body: str = ""


@attrs.frozen(kw_only=True)
class FoundRepository:
    """A repository inside the machine: the main one (path ""), a nested one, a submodule or a worktree."""

    path: str
    kind: Literal["main", "nested", "submodule"] = "main"


@attrs.frozen(kw_only=True)
class Survey:
    """The machine's work at one instant, as compared before and after.

    Attributes:
        head: HEAD's commit, or None in an empty repository.
        branch: the checked-out branch, or None when HEAD is detached.
        tree: the tree that a commit of everything would have (tracked and untracked, ignored excluded).
        refs: every ref of the main repository by its full name (except ``refs/remotes/origin/*``, which is the
            remote's own), with `KEEP_PREFIX` and `SNAPSHOT_PREFIX` for what has no name of its own. On the host
            ``refs/X`` becomes ``refs/machine/X``.
        repositories: the main repository first, then each nested repository and submodule.
        nested_refs: for each nested repository, by its path, the same as `refs`.
        ignored: how many ignored files there are (ignored directories count once).
        in_progress: as in `Changes`.
        broken: paths of nested repositories that git could not read; nothing of them can be collected.
        unreadable: paths that git could not add, so that no commit holds them (as in `CommitOutcome`).
    """

    head: str | None
    branch: str | None
    tree: str
    refs: Mapping[str, str] = attrs.field(factory=dict)
    repositories: tuple[FoundRepository, ...] = ()
    nested_refs: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    ignored: int = 0
    in_progress: str | None = None
    broken: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Snapshot:
    """A commit of everything at one instant, made beside the user's index and branches.

    Attributes:
        sha: the commit; its first parent is `head`.
        head: HEAD's commit, or None in an empty repository.
        tree: the commit's tree.
        ref: the ref of the machine's repository that holds it, ``refs/gitmachine/snapshot/<number>``.
        number: counts from 1 in each machine.
        refs: what to collect from the main repository: this snapshot and those of linked worktrees, by ref.
        nested_refs: the same for each nested repository and submodule with uncommitted content, by its path.
        repositories: the main repository first, then those of `nested_refs`.
        dirty: whether the tree differs from HEAD's.
        skipped: untracked files left out because they exceed the cap, or because git could not add them.
        in_progress: as in `Changes`.
    """

    sha: str
    head: str | None
    tree: str
    ref: str
    number: int
    refs: Mapping[str, str] = attrs.field(factory=dict)
    nested_refs: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    repositories: tuple[FoundRepository, ...] = ()
    dirty: bool = False
    skipped: tuple[str, ...] = ()
    in_progress: str | None = None


@attrs.frozen(kw_only=True)
class RemoteState:
    """What the remote has, as it just answered.

    Attributes:
        default_branch: the branch its HEAD names, or None when it has no commits or HEAD dangles.
        refs: full ref names to object ids (``refs/heads/…``, ``refs/tags/…``).
    """

    default_branch: str | None
    refs: Mapping[str, str]

    def branch(self, name: str) -> str | None:
        """Return the commit of a branch, or None."""
        return self.refs.get(f"refs/heads/{name}")
