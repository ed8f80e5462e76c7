"""Submodules through the relay: each has a mirror of its own, and reaches the machine as the main repository did.

A repository's ``.gitmodules`` is written by strangers. So a credential goes only to the remote's own scheme and host,
and a path of this host is served only when it lies beside the remote.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CloneError, ConfigError
from gitmachine.git.carrying import Delivery, run_script
from gitmachine.git.credentials import no_credential
from gitmachine.git.host import GitCall
from gitmachine.git.mirror import Mirror

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.git.carrier import Inward
    from gitmachine.git.host import HostGit
    from gitmachine.git.names import RepositoryUrl
    from gitmachine.git.transport import Transport
    from gitmachine.machine import Machine

__all__ = ["Submodule", "list_submodules", "relay_submodules"]

MAX_DEPTH = 8

# $1 the repository  $2 the submodule's path in it  $3 its commit
_CHECKOUT = r"""
cd -- "$1/$2" 2>/dev/null && [ -e .git ] || exit 94
g -c filter.lfs.smudge= -c filter.lfs.process= -c filter.lfs.required=false checkout -q --detach "$3" \
  </dev/null || exit 95
cd -- "$1" || exit 94
g submodule --quiet init -- "$2" && g submodule --quiet absorbgitdirs -- "$2"
"""


@attrs.frozen(kw_only=True)
class Submodule:
    """A submodule of a commit: where it stands, which commit it is at, and its address as written."""

    path: str
    sha: str
    url: str


async def list_submodules(host: HostGit, git_dir: Path, commit: str) -> tuple[Submodule, ...]:
    """Read a commit's submodules from a bare repository of ours.

    Raises:
        CloneError: a commit is recorded at a path for which ``.gitmodules`` has no address.
    """
    tree = await host.run(GitCall(args=("ls-tree", "-r", "-z", "--full-tree", commit), git_dir=git_dir))
    links = {}
    for entry in tree.stdout.decode("utf-8", "surrogateescape").split("\0"):
        head, _, path = entry.partition("\t")
        if head.startswith("160000 "):
            links[path] = head.split()[2]
    if not links:
        return ()
    args = ("config", "--null", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"^submodule\..*\.(path|url)$")
    listed = await host.run(GitCall(args=args, git_dir=git_dir, check=False))
    settings: dict[str, dict[str, str]] = {}
    for entry in listed.stdout.decode("utf-8", "surrogateescape").split("\0"):
        key, newline, value = entry.partition("\n")
        if newline:
            name, _, what = key.removeprefix("submodule.").rpartition(".")
            settings.setdefault(name, {})[what] = value
    urls = {found["path"]: found["url"] for found in settings.values() if {"path", "url"} <= set(found)}
    # A gitlink without an address is what `git add` of a nested repository leaves: nothing can be had for it.
    return tuple(Submodule(path=path, sha=sha, url=urls[path]) for path, sha in links.items() if path in urls)


async def relay_submodules(
    transport: Transport, inward: Inward, machine: Machine, path: str, sha: str
) -> tuple[str, ...]:
    """Check out the submodules of a commit, and theirs, below `path` in the machine; returns their paths.

    Raises:
        CloneError: one cannot be had; the message names it.
    """
    done: list[str] = []
    pending = [(transport.setup.repository, transport.mirror.path, "", sha, 0)]
    while pending:
        parent, mirror_path, prefix, commit, level = pending.pop()
        for module in await list_submodules(transport.host, mirror_path, commit):
            inside = f"{prefix}{module.path}"
            if level >= MAX_DEPTH:
                raise CloneError(f"the submodule {inside!r} is nested more than {MAX_DEPTH} deep")
            url, mirror = await _relay(transport, inward, machine, path, prefix, module, parent)
            done.append(inside)
            pending.append((url, mirror.path, f"{inside}/", module.sha, level + 1))
    return tuple(sorted(done))


async def _relay(
    transport: Transport,
    inward: Inward,
    machine: Machine,
    path: str,
    prefix: str,
    module: Submodule,
    parent: RepositoryUrl,
) -> tuple[RepositoryUrl, Mirror]:
    inside = f"{prefix}{module.path}"
    try:
        url = parent.resolve(module.url)
    except ConfigError as error:
        raise CloneError(f"the submodule {inside!r} has an address that is not accepted: {error}") from error
    main = transport.setup.repository
    _check_allowed(url, main, inside)
    mirror = Mirror(transport.setup.mirrors, url, transport.host)
    credentials = transport.setup.credentials if url.origin == main.origin else no_credential
    try:
        state = await mirror.update(credentials)
    except CloneError as error:
        raise CloneError(f"the submodule {inside!r} cannot be had: {error}", stderr=error.stderr) from error
    await transport.store.borrow(mirror.path)
    await transport.store.note_nested(inside, "submodule", mirror.path)
    base = f"{path.rstrip('/')}/{prefix}".rstrip("/")
    delivery = Delivery(url=url.url, state=state, fresh=True, commit=module.sha)
    try:
        await inward.deliver(machine, f"{base}/{module.path}", mirror.path, delivery)
        await run_script(machine, _CHECKOUT, base, module.path, module.sha, doing="checking the submodule out")
    except CloneError as error:
        raise CloneError(
            f"the submodule {inside!r} at {module.sha[:12]} cannot be checked out: {error}", stderr=error.stderr
        ) from error
    return url, mirror


def _check_allowed(url: RepositoryUrl, main: RepositoryUrl, inside: str) -> None:
    if url.local:
        beside = PurePosixPath(main.path).parent
        if main.local and PurePosixPath(url.path).is_relative_to(beside):
            return
        raise CloneError(
            f"the submodule {inside!r} is a path of this host ({url.display!r}): only paths beside the remote's are "
            "served to a machine"
        )
    if url.kind != "https" and url.origin != main.origin:
        raise CloneError(
            f"the submodule {inside!r} is at {url.display!r}: another host than the remote's is only asked over https"
        )
