"""What a session was asked for, validated as a whole before anything starts."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import ConfigError
from gitmachine.execution import ExecRequest
from gitmachine.git.credentials import Token
from gitmachine.git.model import GitIdentity, GitOptions, GuardOptions
from gitmachine.git.names import RepositoryUrl, check_repository, check_session

if TYPE_CHECKING:
    from gitmachine.session import AsyncGitMachine

__all__ = ["EventCallback", "LifecycleCallback", "SessionSetup", "TokenSource", "make_setup"]

LifecycleCallback = Callable[["AsyncGitMachine"], Awaitable[None] | None]
"""Called with the session; may be a plain function or a coroutine function."""

EventCallback = Callable[[str, dict[str, Any], "AsyncGitMachine"], Awaitable[None] | None]
"""Called with the event's name, its data and the session."""

TokenSource = Token | None
"""A token, or a callable that is asked for one at each use, so that it can expire."""


@attrs.frozen(kw_only=True)
class SessionSetup:
    """The validated wishes of one session; see `gitmachine.AsyncGitMachine` for each field."""

    repository: RepositoryUrl
    token: TokenSource = attrs.field(default=None, repr=False)
    session: str | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    identity: GitIdentity = attrs.field(factory=GitIdentity)
    auto_commit: bool = True
    timeout: float | None = None
    git: GitOptions = attrs.field(factory=GitOptions)
    guard: GuardOptions = attrs.field(factory=GuardOptions)
    path: str | None = None
    name: str | None = None
    on_start: LifecycleCallback | None = None
    on_pause: LifecycleCallback | None = None
    on_resume: LifecycleCallback | None = None
    on_end: LifecycleCallback | None = None
    on_event: EventCallback | None = None


_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "repository": ((str,), "a URL or a path"),
    "session": ((str,), "the name of a branch"),
    "env": ((Mapping,), "a mapping of variables to values"),
    "identity": ((GitIdentity,), "a GitIdentity(name, email)"),
    "timeout": ((int, float), "a number of seconds"),
    "git": ((GitOptions,), "GitOptions(...)"),
    "guard": ((GuardOptions,), "GuardOptions(...)"),
    "path": ((str,), "a path in the machine"),
    "name": ((str,), "a machine's name"),
}
_SECRET = ("env", "token")


def _wrong_kinds(values: Mapping[str, Any]) -> list[str]:
    """Return what is given as something else than it has to be; what may be secret is not shown."""
    problems = []
    for name, value in values.items():
        if name in _KINDS:
            kinds, expected = _KINDS[name]
            fits = isinstance(value, kinds)
        else:
            expected = "a string or a callable" if name == "token" else "a callable"
            fits = (not name.startswith("on_") and name != "token") or callable(value)
            fits = fits or (name == "token" and isinstance(value, str))
        if value is not None and not fits:
            given = f"something of type {type(value).__name__}" if name in _SECRET else repr(value)
            problems.append(f"expected {expected}, not {given} @ {name}")
    return problems


def make_setup(*, repository: str | os.PathLike[str], session: str | None, **fields: Any) -> SessionSetup:
    """Validate everything and return it.

    Raises:
        ConfigError: with every problem found.
    """
    repository = os.fspath(repository) if isinstance(repository, os.PathLike) else repository
    problems = _wrong_kinds({"repository": repository, "session": session, **fields})
    if problems:
        raise ConfigError(*problems)

    def attempt(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    url = attempt(lambda: check_repository(repository))
    if session is not None:
        attempt(lambda: check_session(session))
    env = dict(fields.pop("env") or {})
    attempt(lambda: ExecRequest(argv=("true",), env=env, timeout=fields["timeout"]))
    path = fields["path"]
    if path is not None and (not posixpath.isabs(path) or "\0" in path):
        problems.append(f"path must be absolute in the machine, not {path!r}")
    name = fields["name"]
    if name is not None and (not name.strip() or name.startswith("-") or ":" in name or not name.isprintable()):
        problems.append(f"invalid machine name {name!r}: use printable characters without ':', not beginning with '-'")
    identity = fields.pop("identity") or GitIdentity()
    git = fields.pop("git") or GitOptions()
    guard = fields.pop("guard", None) or GuardOptions()
    if problems:
        raise ConfigError(*problems)
    return SessionSetup(repository=url, session=session, env=env, identity=identity, git=git, guard=guard, **fields)
