"""Git credentials: where one comes from, and how it reaches exactly one git process.

A secret is never in an argument, the environment, a file or a URL. It waits in a pipe that git inherits; a helper
given by ``-c`` (after the list of helpers was emptied) reads the pipe once. The helper is scoped to the remote's
scheme and host, so a redirect to somebody else gets nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gitmachine.errors import ConfigError
from gitmachine.git.model import GitCredential, Operation

if TYPE_CHECKING:
    from gitmachine.git.names import RepositoryUrl
    from gitmachine.git.redaction import Redactor

__all__ = [
    "CredentialSource",
    "Token",
    "credential_config",
    "credential_input",
    "credential_source",
    "no_credential",
    "token_credential",
]

CredentialSource = Callable[[Operation], Awaitable[GitCredential | None]]
"""Asked each time a credential is needed, so that it may expire and be renewed."""

Token = str | GitCredential | Callable[[], "str | GitCredential | Awaitable[str | GitCredential | None] | None"]
"""What a user gives as token: the text, a credential, or a callable (plain or async) that returns one of them."""

DEFAULT_USERNAME = "x-access-token"
"""GitHub, GitLab, Gitea and Bitbucket take any name beside a token; GitHub documents this one."""
MAX_SHELL_FD = 9
MAX_SECRET_BYTES = 16 * 1024
"""A pipe holds 64 KiB: the whole credential is written before anybody reads."""


async def no_credential(_operation: Operation) -> GitCredential | None:
    """Offer nothing."""
    return None


def token_credential(token: str, username: str | None = None) -> GitCredential:
    """Return the credential for a token.

    Raises:
        ConfigError: the token or the name has a line break or a NUL, or is far too long; neither is shown.
    """
    name = username or DEFAULT_USERNAME
    if any(character in name + token for character in "\n\r\0"):
        raise ConfigError("the git token or its user name holds a line break or a NUL character")
    if not token:
        raise ConfigError("the git token is empty: give one, or leave it out")
    if len((name + token).encode("utf-8", "surrogateescape")) > MAX_SECRET_BYTES:
        raise ConfigError(f"the git token is longer than {MAX_SECRET_BYTES} bytes")
    return GitCredential(name, token)


def credential_source(
    url: RepositoryUrl,
    token: Token | None,
    *,
    fallback: CredentialSource = no_credential,
    redactor: Redactor | None = None,
) -> CredentialSource:
    """Return the source for a repository: the token, else what stood in its URL, else `fallback`.

    Every secret that it hands out is made known to the redactor first.
    """

    async def source(operation: Operation) -> GitCredential | None:
        if not url.protocol.startswith("http"):
            return None  # ssh has keys, files have owners
        found = await _resolve(token, url.username)
        if found is None:
            found = url.credential
        if found is None:
            found = await fallback(operation)
        if found is None or not found.password:
            return None
        found = token_credential(found.password, found.username)
        return redactor.add_credential(found) if redactor is not None else found

    return source


async def _resolve(token: Token | None, username: str | None) -> GitCredential | None:
    given = token() if callable(token) else token
    if inspect.isawaitable(given):
        given = await given
    if given is None or isinstance(given, GitCredential):
        return given
    if not isinstance(given, str):
        raise ConfigError(f"the git token must be text, not {type(given).__name__}")
    return token_credential(given, username)


def credential_input(credential: GitCredential) -> bytes:
    """Return what the one-shot helper reads, in the format of `git credential`."""
    checked = token_credential(credential.password, credential.username)
    return f"username={checked.username}\npassword={checked.password}\n".encode("utf-8", "surrogateescape")


def credential_config(url: RepositoryUrl, fd: int) -> tuple[str, ...]:
    """Return git's options for a helper that reads descriptor `fd` once, for this remote's scheme and host only."""
    # dash reads no descriptor above 9 by "<&"; a small container may have no /dev/fd.
    source = f"<&{fd}" if fd <= MAX_SHELL_FD else f"</dev/fd/{fd}"
    helper = f'!f() {{ test "$1" = get && cat {source}; }}; f'
    return ("-c", f"credential.{url.origin}.helper={helper}")
