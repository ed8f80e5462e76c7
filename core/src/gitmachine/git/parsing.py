"""Parsers of what git and our scripts print. Pure functions over bytes.

Paths and messages come out as text with surrogate escapes for bytes that are not UTF-8, so they go back unchanged.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import attrs

from gitmachine.git.model import Change, Changes, Commit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "CommitReport",
    "Failure",
    "Gathering",
    "SeenRepository",
    "StatusReport",
    "decode",
    "encode",
    "overlap",
    "parse_commit",
    "parse_failure",
    "parse_fields",
    "parse_gathering",
    "parse_line_endings",
    "parse_log",
    "parse_names",
    "parse_raw",
    "parse_refs",
    "parse_status",
]

_OBJECT_ID_LENGTHS = (40, 64)
_KINDS: dict[str, Literal["main", "nested", "submodule"]] = {
    "main": "main",
    "nested": "nested",
    "submodule": "submodule",
}


def decode(data: bytes) -> str:
    """Return bytes of the machine as text; `encode` gives the same bytes back."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Return the bytes of a text; what has no bytes at all (a lone surrogate of another kind) becomes ``?``."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def parse_fields(output: bytes) -> list[bytes]:
    """Return the NUL-terminated fields of an output; what follows the last NUL is not a field."""
    return output.split(b"\0")[:-1]


@attrs.frozen(kw_only=True)
class Failure:
    """Why a script stopped; `fields` is what it had printed before."""

    name: str
    detail: str = ""
    fields: tuple[str, ...] = ()


def parse_failure(output: bytes) -> Failure | None:
    """Return what a failed script reported in its last three fields."""
    fields = parse_fields(output)
    if len(fields) < 3 or fields[-3] != b"@fail":
        return None
    before = tuple(decode(field) for field in fields[:-3])
    return Failure(name=decode(fields[-2]), detail=decode(fields[-1]), fields=before)


@attrs.frozen(kw_only=True)
class StatusReport:
    """``git status --porcelain=v2 -z`` against HEAD.

    Attributes:
        changes: what a commit of everything would hold.
        unmerged: paths with conflicts.
        exact: False when some path differs from the index twice, so that only `git diff` knows what differs from HEAD.
    """

    changes: Changes
    unmerged: tuple[str, ...] = ()
    exact: bool = True


def parse_status(fields: Sequence[bytes], *, operation: str | None = None) -> StatusReport:
    """Read the entries of porcelain version 2, made with ``-z --no-renames``.

    An untracked path that ends in a slash is a nested repository. The letters are those against HEAD, as far as
    status knows.
    """
    files: dict[str, str] = {}
    nested: list[str] = []
    unmerged: list[str] = []
    exact = True
    for entry in fields:
        kind, _, rest = entry.partition(b" ")
        if kind == b"1":
            states, submodule, *_others, name = rest.split(b" ", 7)
            path, letter = decode(name), _against_head(states.decode("ascii"), submodule.decode("ascii"))
            exact = exact and b"." in states
            if letter:
                files[path] = letter
        elif kind == b"u":
            path = decode(rest.split(b" ", 9)[-1])
            unmerged.append(path)
            files[path] = "M"
            exact = False
        elif kind == b"?" and rest.endswith(b"/"):
            nested.append(decode(rest[:-1]))
        elif kind == b"?":
            path = decode(rest)
            exact = exact and path not in files
            files[path] = "M" if path in files else "A"
    state = operation or ("conflicts" if unmerged else None)
    changes = Changes(files=_sorted(files.items()), nested=tuple(sorted(nested)), in_progress=state)
    return StatusReport(changes=changes, unmerged=tuple(unmerged), exact=exact)


def _against_head(states: str, submodule: str) -> str | None:
    staged, unstaged = states[0], states[1]
    if submodule.startswith("S") and submodule[1] != "C" and staged == ".":
        return None  # only the content of the submodule changed: no commit of ours takes that in
    if staged == "A":
        return None if unstaged == "D" else "A"
    return unstaged if unstaged != "." else staged


def _sorted(items: Iterable[tuple[str, str]]) -> tuple[Change, ...]:
    return tuple(Change(status, path) for path, status in sorted(items))


def parse_names(fields: Sequence[bytes]) -> tuple[Change, ...]:
    """Read ``git diff --name-status -z --no-renames``: letter and path in turn."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return _sorted((decode(path), letter.decode("ascii")[:1]) for letter, path in pairs)


def parse_raw(fields: Sequence[bytes]) -> tuple[Change, ...]:
    """Read ``git diff --raw -z --no-renames``: ``:modes ids letter`` and path in turn."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return _sorted((decode(path), entry.rsplit(b" ", 1)[-1].decode("ascii")[:1]) for entry, path in pairs)


def overlap(fields: Sequence[str]) -> tuple[str, ...]:
    """Return which locally changed paths (before the field ``//``) are, or hold, or lie below a path after it."""
    border = fields.index("//")
    mine, theirs = set(fields[:border]), set(fields[border + 1 :])
    above = {parent for path in theirs for parent in _parents(path)}
    met = {path for path in mine if path in theirs or path in above or not theirs.isdisjoint(_parents(path))}
    return tuple(sorted(met or mine))


def _parents(path: str) -> list[str]:
    return [path[:end] for end, char in enumerate(path) if char == "/"]


def parse_line_endings(fields: Sequence[bytes]) -> tuple[str, ...]:
    """Return the paths of ``git ls-files --eol -z`` whose committed line endings its attributes want changed."""
    found = []
    for entry in fields:
        about, _, path = entry.partition(b"\t")
        if about.split(b" ", 1)[0] in (b"i/crlf", b"i/mixed"):
            found.append(decode(path))
    return tuple(sorted(found))


def parse_refs(lines: bytes) -> dict[str, str]:
    """Read lines of an object id, a space and a ref's name."""
    refs = {}
    for line in lines.splitlines():
        sha, _, name = decode(line).partition(" ")
        if len(sha) in _OBJECT_ID_LENGTHS and name:
            refs[name] = sha
    return refs


@attrs.frozen(kw_only=True)
class CommitReport:
    """What the commit script did.

    Attributes:
        sha: the commit, or None when there was nothing to commit.
        changes: what it holds, and the nested repositories beside it.
        unreadable: paths that could not be added.
    """

    sha: str | None
    changes: Changes
    unreadable: tuple[str, ...] = ()


def parse_commit(fields: Sequence[bytes]) -> CommitReport:
    """Read the commit script's output: sha, what was not added and how many paths that is, the paths, raw fields."""
    sha, incomplete, count, *rest = fields
    left = sorted({decode(path) for path in rest[: int(count)]})
    raw = rest[int(count) :] if sha else []
    # After an add without errors, a path that is left was written since: no finding of ours.
    files = [path for path in left if not path.endswith("/")] if incomplete == b"errors" else []
    return CommitReport(
        sha=decode(sha) or None,
        changes=Changes(files=parse_raw(raw), nested=tuple(path[:-1] for path in left if path.endswith("/"))),
        unreadable=tuple(files),
    )


@attrs.frozen(kw_only=True)
class SeenRepository:
    """A repository as the gathering scripts saw it; `dirty` when its content differs from HEAD."""

    path: str
    kind: Literal["main", "nested", "submodule"]
    head: str | None
    branch: str | None
    tree: str
    operation: str | None
    dirty: bool
    refs: dict[str, str]


@attrs.frozen(kw_only=True)
class Gathering:
    """All that the gathering scripts saw, the main repository first."""

    repositories: tuple[SeenRepository, ...]
    ignored: int = 0
    skipped: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def parse_gathering(fields: Sequence[bytes]) -> Gathering:
    """Read the records of the gathering scripts; each begins with its kind and has a fixed number of fields."""
    seen: list[SeenRepository] = []
    others: dict[bytes, list[str]] = {b"@ignored": ["0"], b"@skipped": [], b"@broken": []}
    rest = iter(fields)
    for kind in rest:
        if kind == b"@repository":
            path, what, head, branch, tree, operation, dirty = (decode(next(rest)) for _ in range(7))
            seen.append(
                SeenRepository(
                    path=path,
                    kind=_KINDS[what],
                    head=head or None,
                    branch=branch or None,
                    tree=tree,
                    operation=operation or None,
                    dirty=bool(dirty),
                    refs=parse_refs(next(rest)),
                )
            )
        else:
            others[kind].append(decode(next(rest)))
    seen.sort(key=lambda one: (one.kind != "main", one.path))
    return Gathering(
        repositories=tuple(seen),
        ignored=int(others[b"@ignored"][-1]),
        skipped=tuple(sorted(set(others[b"@skipped"]))),
        broken=tuple(sorted(others[b"@broken"])),
    )


def parse_log(fields: Sequence[bytes]) -> tuple[Commit, ...]:
    """Read six fields for each commit: sha, author's name, email and time, subject, body."""
    commits = []
    for start in range(0, len(fields) - 5, 6):
        sha, name, email, time, subject, body = (decode(f) for f in fields[start : start + 6])
        commits.append(
            Commit(
                sha=sha,
                author_name=name,
                author_email=email,
                time=_time(time),
                subject=subject,
                body=body,
            )
        )
    return tuple(commits)


def _time(seconds: str) -> datetime:
    # Famous repositories hold absurd times; a log that fails on one is worse than a wrong date.
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
