"""Git over the machine: what arrives in it, what comes out of it, and that nothing is lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitmachine.errors import PushRejectedError
from gitmachine.git.model import GitOptions
from gitmachine.machine import Capability, MachineState
from gitmachine.session import AsyncGitMachine
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, NotApplicable, behaviour, check
from gitmachine.testing.kit.remote import EXECUTABLE, NON_ASCII, SYMLINK, SampleRemote, can_serve, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gitmachine.testing.kit.stage import Stage

__all__ = ["GitBehaviours"]

_SESSION = "kit"
_LARGE_BYTES = 9 << 20


class GitBehaviours(KitBase):
    """A session over a real repository: the machine needs git, the host has it.

    For an image without git: ``limits = {"git": "there is no git in the image"}``.
    """

    @behaviour("git-checkout", "a checkout is exact: modes, symlinks, names, line ends", started=False)
    async def test_git_checkout(self, stage: Stage) -> None:
        """A tool that copies files instead of cloning drops symlinks, modes, or the whole of `.git`."""
        async with _session(stage) as (gm, _remote):
            script = (
                f'test -x {EXECUTABLE} && test -L {SYMLINK} && test "$(readlink {SYMLINK})" = README.md && '
                f'cat "{NON_ASCII}" && git status --porcelain && git rev-parse --abbrev-ref HEAD'
            )
            result = await gm.run(script, timeout=stage.patience)
            wanted = f"hello\n{_SESSION}\n"
            check(
                (result.exit_code, result.stdout) == (0, wanted),
                f"expected the file, a clean status and the branch, not {result.exit_code} {result.stdout!r} "
                f"{result.stderr!r}",
            )
            check(await gm.diff() == "", "a fresh checkout has changes")

    @behaviour("git-work", "what a command did arrives on the remote, exactly; the next machine goes on from it")
    async def test_git_work(self, stage: Stage) -> None:
        """Two tools filter what they commit; in several, nobody looks whether the push arrived."""
        data = bytes(range(256)) + b"\r\nwindows\r\nlines\r\n"
        async with _sample() as remote:
            async with _over(stage, remote) as gm:
                await gm.run(["sh", "-c", "cat > data.bin"], stdin=data, check=True, timeout=stage.patience)
                script = (
                    "printf 'dos\\r\\nlines\\r\\n' > dos.txt; printf '#!/bin/sh\\n' > new-tool; chmod +x new-tool; "
                    "ln -s data.bin new-link; git rm -q lines.txt; echo 'in a b' > 'a b'; echo x > -dash; exit 7"
                )
                result = await gm.run(script, timeout=stage.patience)
                check(result.exit_code == 7, f"the command exited with 7, reported was {result.exit_code}")
            receipt = gm.receipt
            check(receipt is not None and receipt.pushed, f"the receipt says that it was not published: {receipt}")
            assert receipt is not None
            tip = await remote.tip(_SESSION)
            check(receipt.remote_sha == tip == receipt.local_sha, f"the remote has {tip}, the receipt says {receipt}")
            check(await remote.file(_SESSION, "data.bin") == data, "a binary file did not arrive as it was")
            dos = await remote.file(_SESSION, "dos.txt")
            check(dos == b"dos\r\nlines\r\n", f"a file with CR LF arrived as {dos!r}")
            modes = await remote.modes(_SESSION)
            wanted = {"new-tool": "100755", "new-link": "120000", "a b": "100644", "-dash": "100644"}
            seen = {name: modes.get(name) for name in wanted}
            check(seen == wanted, f"expected the modes {wanted}, the remote has {seen}")
            check("lines.txt" not in modes, "a file that was removed is still on the remote")
            raw, _ = await stage.another()
            async with _over(stage, remote, raw) as gm:
                check(await gm.hash() == tip, "the next machine does not start from the last one's commit")

    @behaviour("git-large", "a large file goes in and out unharmed", started=False)
    async def test_git_large(self, stage: Stage) -> None:
        """What works for a README breaks at the first binary: limits of requests, of lines, of buffers."""
        async with _sample() as remote:
            async with _over(stage, remote) as gm:
                await gm.run(f"head -c {_LARGE_BYTES} /dev/urandom > large", check=True, timeout=stage.patience)
                made = await gm.read_file("large")
            raw, _ = await stage.another()
            async with _over(stage, remote, raw) as gm:
                again = await gm.read_file("large")
        same = hashlib.sha256(made).digest() == hashlib.sha256(again).digest()
        check(same and len(made) == _LARGE_BYTES, f"{len(made)} random bytes came back as {len(again)} others")

    @behaviour(
        "git-paused", "git verbs work while the machine is paused, and leave it paused", needs=(Capability.PAUSE,)
    )
    async def test_git_paused(self, stage: Stage) -> None:
        """Work that was committed before a pause and stopped while paused was lost by the tool this descends from."""
        async with _sample() as remote:
            async with _over(stage, remote) as gm:
                await gm.run("echo work > work.txt", check=True, timeout=stage.patience)
                await gm.pause()
                first = await gm.hash()
                await gm.resume()
                await gm.run("echo more > more.txt", check=True, timeout=stage.patience)
                await gm.pause()
                check("more.txt" in await gm.diff() or await gm.hash() != first, "the pause lost what was written")
                await gm.push()
                check(await remote.tip(_SESSION) == await gm.hash(), "a push while paused did not arrive")
                check(gm.state is MachineState.PAUSED, f"after verbs while paused the machine is {gm.state}")
            check(await remote.file(_SESSION, "work.txt") == b"work\n", "work before the first pause is lost")
            check(await remote.file(_SESSION, "more.txt") == b"more\n", "work before the second pause is lost")

    @behaviour("git-nested", "the commits of a nested repository are kept and listed", started=False)
    async def test_git_nested(self, stage: Stage) -> None:
        """`git add` records only a link to them: the push succeeds, and a fresh clone has an empty directory."""
        async with _session(stage) as (gm, _remote):
            script = (
                "git init -q nested && cd nested && echo n > n.txt && git add n.txt && "
                "git -c user.name=n -c user.email=n@example.org commit -qm nested"
            )
            await gm.run(script, check=True, timeout=stage.patience)
            found = await gm.run("git -C nested rev-parse HEAD", timeout=stage.patience)
            sha = found.stdout.strip()
        receipt = gm.receipt
        kept = {item.sha for item in receipt.kept} if receipt is not None else set()
        check(len(sha) >= 40 and sha in kept, f"the nested repository's commit {sha!r} is not among what was kept")

    @behaviour("git-late", "what is written while the session ends is published too", started=False)
    async def test_git_late(self, stage: Stage) -> None:
        """A last hook that writes its report, after the work was pushed, writes it for nobody."""

        async def on_end(gm: AsyncGitMachine) -> None:
            await gm.write_file("late.txt", "late\n")

        async with _sample() as remote:
            async with _over(stage, remote, on_end=on_end) as gm:
                await gm.run("echo early > early.txt", check=True, timeout=stage.patience)
            late = await remote.file(_SESSION, "late.txt")
            check(late == b"late\n", f"a file written by on_end is on the remote as {late!r}")

    @behaviour("git-rejected", "a rejected push loses nothing: the machine is kept, and a bundle that clones")
    async def test_git_rejected(self, stage: Stage) -> None:
        """In most tools the push fails in silence, and the machine with the only copy is destroyed."""
        async with _sample() as remote:
            await remote.refuse()
            gm = _gm(stage.raw, remote)
            await stage.machine.stop()
            await gm.start()
            try:
                await gm.run("echo work-1 > work.txt", check=True, timeout=stage.patience)
                check(await gm.read_file("work.txt") == b"work-1\n", "a file is not what was written")
                await gm.run("echo work-2 > work.txt", check=True, timeout=stage.patience)
                await self._rejected(gm, remote)
                await remote.accept()
                receipt = await gm.stop()
                check(receipt is not None and receipt.pushed, f"once accepted, it was not published: {receipt}")
                check(await remote.file(_SESSION, "work.txt") == b"work-2\n", "what was published is not the work")
            finally:
                await _end(gm)

    async def _rejected(self, gm: AsyncGitMachine, remote: SampleRemote) -> None:
        try:
            await gm.stop()
        except PushRejectedError as error:
            rescue = error.rescue
        else:
            raise ConformanceFailure("a rejected push was not reported")
        check(rescue is not None and rescue.bundle is not None, "the error does not say where the work is")
        assert rescue is not None
        assert rescue.bundle is not None
        saved = await remote.clone_holds(rescue.bundle, _SESSION, "work.txt")
        check(saved == b"work-2\n", f"a clone of the rescue bundle has {saved!r}, not the work")
        check(gm.state is MachineState.RUNNING, f"after a rejected push the machine is {gm.state}")
        seen = await gm.read_file("work.txt")
        check(seen == b"work-2\n", f"after a rejected push the machine's file is {seen!r}")

    @behaviour("git-credential", "the credential is nowhere in the machine", started=False)
    async def test_git_credential(self, stage: Stage) -> None:
        """The rule is a token in the remote's URL in `.git/config`, for every command in the sandbox to read."""
        if not await can_serve():
            raise NotApplicable("git http-backend is not installed on this host")
        await self._canary(stage, "relay", "127.0.0.1")
        if self.host_address is not None:
            await self._canary(stage, "direct", self.host_address)

    async def _canary(self, stage: Stage, transport: Any, address: str) -> None:
        """Work with a credential over HTTP, and search the machine for it meanwhile and afterwards."""
        token = f"canary-{secrets.token_hex(12)}"
        raw, _ = await stage.another()
        async with _sample() as remote:
            with serving(remote.path.parent, token) as port:
                url = f"http://{address}:{port}/{remote.path.name}"
                gm = AsyncGitMachine(
                    raw, repository=url, token=token, session=_SESSION, git=GitOptions(transport=transport)
                )
                await gm.start()
                try:
                    await gm.run("echo work > work.txt", check=True, timeout=stage.patience)
                    await gm.commit("work")
                    await gm.push()
                    found = await gm.run(_SEARCH, cwd=raw.workdir, stdin=token[7:], timeout=stage.patience)
                finally:
                    await _end(gm)
            check(await remote.tip(_SESSION) is not None, f"the work did not arrive by {transport}")
        check(found.stdout == "", f"the credential was found in the machine ({transport}): {found.stdout.strip()}")


# The half of the token that is searched for comes by standard input: it must be in no argument of the search itself.
_SEARCH = r"""
read -r half
printf '%s\n' "$half" > .kit-pattern
for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
  if tr '\0' '\n' < "$file" | grep -q -F -f .kit-pattern; then echo "$file"; fi
done 2>/dev/null
grep -r -l -F -f .kit-pattern . 2>/dev/null | grep -v -x './.kit-pattern'
rm -f .kit-pattern
exit 0
"""


def _gm(raw: Any, remote: SampleRemote, **keywords: Any) -> AsyncGitMachine:
    return AsyncGitMachine(raw, repository=remote.url, session=_SESSION, **keywords)


@contextlib.asynccontextmanager
async def _sample() -> AsyncIterator[SampleRemote]:
    """Make a remote for the time of a ``with``."""
    if shutil.which("git") is None:
        raise NotApplicable("git is not installed on this host")
    parent = os.path.realpath(tempfile.gettempdir())  # noqa: ASYNC240  # names only
    with tempfile.TemporaryDirectory(prefix="gmk-remote-", dir=parent) as folder:
        remote = SampleRemote(Path(folder) / "sample.git")
        await remote.make()
        yield remote


@contextlib.asynccontextmanager
async def _over(stage: Stage, remote: SampleRemote, raw: Any = None, **keywords: Any) -> AsyncIterator[AsyncGitMachine]:
    """Run a session from start to stop; one that fails is forced to end."""
    if raw is None:
        raw = stage.raw
        await stage.machine.stop()
    gm = _gm(raw, remote, **keywords)
    await gm.start()
    try:
        yield gm
        await gm.stop()
    finally:
        await _end(gm)


@contextlib.asynccontextmanager
async def _session(stage: Stage) -> AsyncIterator[tuple[AsyncGitMachine, SampleRemote]]:
    """Run a session over a sample remote."""
    async with _sample() as remote, _over(stage, remote) as gm:
        yield gm, remote


async def _end(gm: AsyncGitMachine) -> None:
    """Stop a session that is still open, whatever becomes of its work."""
    if gm.state in {MachineState.RUNNING, MachineState.PAUSED}:
        await gm.stop(force=True)
