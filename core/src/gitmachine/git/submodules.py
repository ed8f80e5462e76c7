"""Submodules through the relay: each has a mirror of its own, and reaches the machine as the main repository did.

A repository's ``.gitmodules`` is written by strangers. So a credential goes only to the remote's own scheme and host,
and a path of this host is served only when it lies beside the remote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CloneError, ConfigError
from gitmachine.git.carrying import Delivery, run_script
from gitmachine.git.credentials import no_credential
from gitmachine.git.host import GitCall
from gitmachine.git.mirror import Mirror
from gitmachine.git.names import RepositoryUrl

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.git.carrier import Inward
    from gitmachine.git.credentials import CredentialSource
    from gitmachine.git.host import HostGit
    from gitmachine.git.transport import Transport
    from gitmachine.machine import Machine

__all__ = [
    "SETTINGS",
    "Submodule",
    "check_out",
    "list_submodules",
    "parse_submodules",
    "relay_submodules",
    "scoped_credentials",
    "walk_submodules",
]

MAX_DEPTH = 8

SETTINGS = r"^submodule\..*\.(path|url)$"

# $1 the repository around it  $2 the submodule's path in it  $3 its commit
_CHECKOUT = r"""
cd -- "$1/$2" 2>/dev/null && [ -e .git ] || exit 94
g -c filter.lfs.smudge= -c filter.lfs.process= -c filter.lfs.required=false checkout -q --detach "$3" \
  </dev/null || exit 95
cd -- "$1" && g submodule --quiet init -- "$2" && g submodule --quiet absorbgitdirs -- "$2"
"""


@attrs.frozen(kw_only=True)
class Submodule:
    """A submodule of a commit: where it stands, which commit it is at, and its address as written."""

    path: str
    sha: str
    url: str


Listing = Callable[[RepositoryUrl, str, str], Awaitable[tuple[Submodule, ...]]]
"""Lists the submodules of a commit: the repository's address, its path below the main one, the commit."""
Bringing = Callable[[RepositoryUrl, str, str, str], Awaitable[None]]
"""Brings a submodule into the machine: its address, the path of the repository around it below the main one, its own
path in that one, its commit."""


def parse_submodules(tree: bytes, settings: bytes) -> tuple[Submodule, ...]:
    """Parse ``ls-tree -r -z`` and ``config --null --get-regexp`` over ``.gitmodules``.

    A gitlink without an address is what `git add` of a nested repository leaves: nothing can be had for it.
    """
    links = {}
    for entry in tree.decode("utf-8", "surrogateescape").split("\0"):
        head, _, path = entry.partition("\t")
        if head.startswith("160000 "):
            links[path] = head.split()[2]
    modules: dict[str, dict[str, str]] = {}
    for entry in settings.decode("utf-8", "surrogateescape").split("\0"):
        key, newline, value = entry.partition("\n")
        if newline:
            name, _, what = key.removeprefix("submodule.").rpartition(".")
            modules.setdefault(name, {})[what] = value
    urls = {found["path"]: found["url"] for found in modules.values() if {"path", "url"} <= set(found)}
    return tuple(Submodule(path=path, sha=sha, url=urls[path]) for path, sha in links.items() if path in urls)


async def list_submodules(host: HostGit, git_dir: Path, commit: str) -> tuple[Submodule, ...]:
    """Read a commit's submodules from a bare repository of ours."""
    tree = await host.run(GitCall(args=("ls-tree", "-r", "-z", "--full-tree", commit), git_dir=git_dir))
    if b"160000 " not in tree.stdout:
        return ()
    args = ("config", "--null", "--blob", f"{commit}:.gitmodules", "--get-regexp", SETTINGS)
    return parse_submodules(tree.stdout, (await host.run(GitCall(args=args, git_dir=git_dir, check=False))).stdout)


async def walk_submodules(main: RepositoryUrl, sha: str, listing: Listing, bring: Bringing) -> tuple[str, ...]:
    """Bring the submodules of a commit, and theirs; returns their paths.

    Raises:
        CloneError: one cannot be had; the message names it.
    """
    done: list[str] = []
    pending = [(main, "", sha, 0)]
    while pending:
        parent, prefix, commit, level = pending.pop()
        for module in await listing(parent, prefix.rstrip("/"), commit):
            inside = f"{prefix}{module.path}"
            if level >= MAX_DEPTH:
                raise CloneError(f"the submodule {inside!r} is nested more than {MAX_DEPTH} deep")
            try:
                url = parent.resolve(module.url)
                check_allowed(url, main)
                await bring(url, prefix.rstrip("/"), module.path, module.sha)
            except (CloneError, ConfigError) as error:
                stderr = error.stderr if isinstance(error, CloneError) else ""
                raise CloneError(f"the submodule {inside!r} cannot be had: {error}", stderr=stderr) from error
            done.append(inside)
            pending.append((url, f"{inside}/", module.sha, level + 1))
    return tuple(sorted(done))


async def check_out(machine: Machine, around: str, name: str, sha: str) -> None:
    """Check out a submodule that was brought to `name` in the repository `around` it, and make it one of that."""
    await run_script(machine, _CHECKOUT, around, name, sha, doing="checking the submodule out")


async def relay_submodules(
    transport: Transport, inward: Inward, machine: Machine, path: str, sha: str
) -> tuple[str, ...]:
    """Check out the submodules of a commit through mirrors of their own; returns their paths.

    Raises:
        CloneError: one cannot be had; the message names it.
    """
    main, mirrors, host = transport.setup.repository, transport.setup.mirrors, transport.host

    async def listing(url: RepositoryUrl, _prefix: str, commit: str) -> tuple[Submodule, ...]:
        return await list_submodules(host, Mirror(mirrors, url, host).path, commit)

    async def bring(url: RepositoryUrl, around: str, name: str, commit: str) -> None:
        mirror = Mirror(mirrors, url, host)
        state = await mirror.update(scoped_credentials(transport.setup.credentials, url, main))
        await transport.store.borrow(mirror.path)
        await transport.store.note_nested(f"{around}/{name}".lstrip("/"), "submodule", mirror.path)
        delivery = Delivery(url=url.url, state=state, fresh=True, commit=commit)
        outer = f"{path}/{around}".rstrip("/")
        async with mirror.view(state) as view:
            await inward.deliver(machine, f"{outer}/{name}", view, delivery)
        await check_out(machine, outer, name, commit)

    return await walk_submodules(main, sha, listing, bring)


def scoped_credentials(credentials: CredentialSource, url: RepositoryUrl, main: RepositoryUrl) -> CredentialSource:
    """Return the session's credentials for a submodule on the remote's own host, none for another host's."""
    return credentials if url.origin == main.origin else no_credential


def check_allowed(url: RepositoryUrl, main: RepositoryUrl) -> None:
    """Raise `CloneError` for an address that a stranger's ``.gitmodules`` may not make us ask."""
    if url.local:
        beside = PurePosixPath(main.path).parent
        if not main.local or not PurePosixPath(url.path).is_relative_to(beside):
            raise CloneError(
                f"{url.display!r} is a path of this host, and only paths beside the remote's are served to a machine"
            )
    elif url.kind != "https" and url.origin != main.origin:
        raise CloneError(f"{url.display!r} is on another host than the remote, and such are only asked over https")
