"""Session names and repository URLs: what is accepted, and in which form. Pure: nothing is looked up."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import attrs

from gitmachine.errors import ConfigError
from gitmachine.git.model import GitCredential

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RepositoryUrl", "check_branch", "check_repository", "check_session", "session_conflict"]

MAX_NAME_BYTES = 230
"""A ref is a file: 255 bytes, less ``.lock`` and the ``-<short sha>`` of a sibling branch."""

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_PSEUDO_REF = re.compile(r"HEAD|[A-Z_]+_HEAD|@")
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9+._-]*::")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+~-]*")
_SCP = re.compile(r"(?:([^/@:]*)@)?(\[[^\]/]*\]|[^/:\[\]]*):(.*)", re.DOTALL)
_DEFAULT_PORTS = {"https": "443", "http": "80", "ssh": "22", "git": "9418"}
_PASSWORD = re.compile(r"(?<=://).*@", re.DOTALL)
MAX_PORT = 65535
TOKEN_LENGTH = 20
"""A user name this long in a URL without a password is taken for a token."""

Kind = Literal["https", "http", "ssh", "git", "scp", "file", "path"]


def check_session(name: str) -> str:
    """Return a session's name, which is a branch's name by git's rules.

    Raises:
        ConfigError: naming what was typed and the rule that it breaks.
    """
    return check_branch(name, what="session name")


def check_branch(name: str, *, what: str = "branch name") -> str:
    """Return a branch's name; `what` is the word for it in messages.

    Stricter than `git check-ref-format --branch`: no name that git could take for something else (``HEAD``,
    ``refs/…``, a full object id), nothing unprintable, at most `MAX_NAME_BYTES`.

    Raises:
        ConfigError: naming what was typed and the rule that it breaks.
    """
    problem = _name_problem(name)
    if problem is not None:
        raise ConfigError(f"invalid {what} {name!r}: {problem}; use something like 'feature/login'")
    return name


def _name_problem(name: str) -> str | None:
    if not name:
        return "it is empty"
    forbidden = _FORBIDDEN.search(name)
    if forbidden is not None:
        return f"it holds {forbidden.group()!r}"
    if any(unicodedata.category(character) in _UNPRINTABLE for character in name):
        return "it holds a character that cannot be printed"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    return _shape_problem(name)


def _shape_problem(name: str) -> str | None:
    if name.startswith("-"):
        return "it starts with '-'"
    if _PSEUDO_REF.fullmatch(name) or name.startswith("refs/"):
        return "git gives that name a meaning of its own"
    if _OBJECT_ID.fullmatch(name):
        return "it looks like an object id"
    for sequence in ("..", "//", "@{"):
        if sequence in name:
            return f"it holds {sequence!r}"
    if name[0] == "/" or name[-1] in "/.":
        return f"it starts with '/' or ends with {name[-1]!r}" if name[-1] in "/." else "it starts with '/'"
    for part in name.split("/"):
        if part.startswith(".") or part.endswith(".lock"):
            return f"its part {part!r} starts with '.' or ends with '.lock'"
    return None


def session_conflict(name: str, branches: Iterable[str]) -> str | None:
    """Return the existing branch that cannot stand beside `name` (``agent`` and ``agent/x`` cannot), or None."""
    for branch in branches:
        if branch.startswith(f"{name}/") or name.startswith(f"{branch}/"):
            return branch
    return None


@attrs.frozen(kw_only=True)
class RepositoryUrl:
    """A repository's address, without any secret.

    Attributes:
        kind: how it was written; ``scp`` is ``user@host:path``, ``path`` a path of this host.
        url: what git is given, and what ``origin`` is in the machine; paths are absolute.
        host: ``host`` or ``host:port``, lower case; "" for files.
        path: the path part; for files the absolute path, decoded.
        username: a user name without a password from an http URL, else None.
        credential: what stood in the URL as ``user:password@``.
    """

    kind: Kind
    url: str
    host: str
    path: str
    username: str | None = None
    credential: GitCredential | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def display(self) -> str:
        """The address for messages, events and records."""
        return self.url

    @property
    def protocol(self) -> str:
        """Git's name for the protocol, as in ``protocol.<name>.allow``."""
        return {"scp": "ssh", "path": "file"}.get(self.kind, self.kind)

    @property
    def local(self) -> bool:
        """Whether it is a directory of this host."""
        return self.protocol == "file"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a credential is good for."""
        return f"{self.protocol}://{self.host}"

    @property
    def canonical(self) -> str:
        """One spelling for all that certainly mean the same repository."""
        path = self.path.rstrip("/")
        if self.local:
            return f"file://{path or '/'}"
        user, at, _ = _authority(self.url).rpartition("@") if self.kind == "ssh" else ("", "", "")
        if self.kind == "scp":
            user, at, _ = self.url.partition(":")[0].rpartition("@")
        return f"{self.protocol}://{user}{at}{self.host}{'' if path.startswith('/') else '/./'}{path}"

    @property
    def key(self) -> str:
        """A name for files about this repository."""
        return hashlib.sha256(self.canonical.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def name(self) -> str:
        """The last part of the path without ``.git``."""
        last = self.path.rstrip("/").removesuffix("/.git").rpartition("/")[2].removesuffix(".git")
        return last or "repository"

    def resolve(self, address: str) -> RepositoryUrl:
        """Return a submodule's address; ``./`` and ``../`` are relative to this repository, as for git.

        Raises:
            ConfigError: for an address that is not accepted.
        """
        if not address.startswith(("./", "../")):
            return check_repository(address)
        head, path = self.url.removesuffix(self.path), self.path.rstrip("/")
        if self.kind == "file":
            head = "file://"
        while address.startswith(("./", "../")):
            if address.startswith("../"):
                path, slash, _ = path.rpartition("/")
                if not slash:
                    raise ConfigError(f"the address {address!r} leads out of {self.display!r}")
            address = address.partition("/")[2]
        return check_repository(f"{head}{path}/{address}")


def check_repository(text: str, *, cwd: Path | None = None) -> RepositoryUrl:
    """Return the address that a user typed, its secrets split off; a relative path counts from `cwd`.

    Raises:
        ConfigError: naming what was typed (without a password) and what to write instead.
    """
    shown = _PASSWORD.sub("", text)
    problem = _text_problem(text)
    if problem is not None:
        raise ConfigError(f"invalid repository {shown!r}: {problem}")
    scheme = _SCHEME.match(text)
    if scheme is not None:
        return _from_url(text, scheme.group(1).lower(), shown)
    scp = _SCP.fullmatch(text)
    if scp is not None:
        return _from_scp(text, scp, shown)
    try:
        given = Path(text).expanduser() if text.startswith("~/") else Path(text)
        path = os.path.abspath(given if given.is_absolute() else Path(cwd or Path.cwd(), given))  # noqa: PTH100  # Path.resolve would look at links
    except (OSError, RuntimeError) as error:  # the working directory is gone, or nobody knows where ~ is
        raise ConfigError(f"invalid repository {shown!r}: {error}; write an absolute path") from error
    return RepositoryUrl(kind="path", url=path, host="", path=path)


def _text_problem(text: str) -> str | None:
    if not text.strip():
        return "it is empty; expected a URL, user@host:path or a path"
    if text.startswith("-"):
        return "it starts with '-'; write ./ before a path"
    if _HELPER.match(text):
        return "remote helpers (name::address) are not accepted; use https, ssh, file or a path"
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        return "it holds a control character or bytes that are not UTF-8"
    return None


def _authority(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _from_url(text: str, scheme: str, shown: str) -> RepositoryUrl:
    if scheme not in ("https", "http", "ssh", "git", "file"):
        raise ConfigError(f"invalid repository {shown!r}: unknown scheme {scheme!r}; use https, ssh, file or a path")
    authority = _authority(text)
    path = text[len(scheme) + 3 + len(authority) :]
    if scheme == "file":
        return _from_file(text, authority, unquote(path, errors="surrogateescape"), shown)
    userinfo, at, address = authority.rpartition("@")
    host = _checked_host(address, scheme, shown)
    if not path.strip("/"):
        raise ConfigError(f"invalid repository {shown!r}: the path of the repository is missing")
    if any(character in text for character in ' "<>\\'):
        raise ConfigError(f"invalid repository {shown!r}: write spaces and quotes in a URL as %20, %22 and so on")
    if scheme in ("https", "http"):
        username, credential = _split_userinfo(userinfo, shown)
        url = f"{scheme}://{address}{path}"
        return RepositoryUrl(
            kind=scheme,  # type: ignore[arg-type]  # one of the two
            url=url,
            host=host,
            path=path,
            username=username,
            credential=credential,
        )
    if at and not _USER.fullmatch(userinfo):
        reason = "a password in it cannot be used; ssh takes keys" if ":" in userinfo else "its user name is strange"
        raise ConfigError(f"invalid repository {shown!r}: {reason}")
    if path.startswith(("/-", "/~-")):
        raise ConfigError(f"invalid repository {shown!r}: its path starts with '-'")
    kind: Kind = "ssh" if scheme == "ssh" else "git"
    return RepositoryUrl(kind=kind, url=f"{scheme}://{authority}{path}", host=host, path=path)


def _from_file(text: str, authority: str, path: str, shown: str) -> RepositoryUrl:
    if authority not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise ConfigError(f"invalid repository {shown!r}: expected file:///absolute/path")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in path):
        raise ConfigError(f"invalid repository {shown!r}: its path holds a control character or is not UTF-8")
    return RepositoryUrl(kind="file", url=text, host="", path=path)


def _checked_host(address: str, scheme: str, shown: str) -> str:
    host, colon, port = address.rpartition(":") if not address.endswith("]") else (address, "", "")
    if not colon:
        host = address
    if not _HOST.fullmatch(host):
        raise ConfigError(
            f"invalid repository {shown!r}: expected a host name after '://' (international ones as xn--…)"
        )
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= MAX_PORT):
        raise ConfigError(f"invalid repository {shown!r}: expected a port number after the host")
    if not colon or port == _DEFAULT_PORTS[scheme]:
        return host.lower()
    return f"{host.lower()}:{port}"


def _split_userinfo(userinfo: str, shown: str) -> tuple[str | None, GitCredential | None]:
    user, colon, password = userinfo.partition(":")
    user, password = unquote(user), unquote(password)
    if any(unicodedata.category(character) in _UNPRINTABLE for character in user + password):
        raise ConfigError(f"invalid repository {shown!r}: its credential holds a control character")
    if not colon and len(user) >= TOKEN_LENGTH:
        # ``https://TOKEN@host/…`` is how tokens are pasted; the name that goes with one is free.
        return None, GitCredential("x-access-token", user)
    if colon:
        return None, GitCredential(user or "x-access-token", password)
    return user or None, None


def _from_scp(text: str, match: re.Match[str], shown: str) -> RepositoryUrl:
    user, host, path = match.groups()
    if not _HOST.fullmatch(host):
        raise ConfigError(f"invalid repository {shown!r}: {host!r} is not a host name; write ./ before a path")
    if user is not None and not _USER.fullmatch(user):
        raise ConfigError(f"invalid repository {shown!r}: its user name {user!r} is strange")
    if not path.strip("/") or path.startswith("-"):
        raise ConfigError(f"invalid repository {shown!r}: the path is missing or starts with '-'")
    return RepositoryUrl(kind="scp", url=text, host=host.lower(), path=path)
