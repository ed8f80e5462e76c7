"""Git on the host: hardened, with deadlines, and with credentials that only one process can read.

Every command runs in a bare repository of ours or in none. No system or user configuration, no hooks, no helpers, no
prompts, and only the one protocol that the command needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence  # noqa: TC003  # attrs resolves annotations at run time
from pathlib import Path

import attrs

from gitmachine.errors import GitError
from gitmachine.git.credentials import credential_config, credential_input
from gitmachine.git.model import GitCredential  # noqa: TC001  # attrs resolves annotations at run time
from gitmachine.git.names import RepositoryUrl  # noqa: TC001  # attrs resolves annotations at run time
from gitmachine.git.redaction import Redactor

__all__ = ["GitCall", "GitResult", "HostGit", "Limits"]

MAX_STDERR_BYTES = 64 * 1024
KILL_SECONDS = 10.0
CHECK_SECONDS = 1.0
PIPE_SECONDS = 2.0
"""How long output may be held open after git itself has exited."""
_ANY_OWNER = Path(__file__).with_name("any_owner.gitconfig")
_PROGRESS = re.compile(
    r"(remote: )?(Enumerating|Counting|Compressing|Receiving|Resolving|Writing|Unpacking|Updating|Checking|Total)\b"
)
# Proxies and certificates belong to the network that the host is in; nothing else of the caller's environment does.
_NETWORK = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
)  # fmt: skip
_FIXED = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30",
    "GIT_SSH_VARIANT": "ssh",
}
_CONFIG = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "core.askPass=",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "init.templateDir=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "push.gpgSign=false",
    "safe.bareRepository=explicit",
    "protocol.allow=never",
)


@attrs.frozen(kw_only=True)
class Limits:
    """How long and how large things may get.

    Attributes:
        ask_seconds: for asking the remote what it has.
        idle_seconds: without a byte moved or a line of progress, before a transfer counts as hung.
        work_seconds: for a local git command.
        direct_seconds: for a git command in the machine that talks to the remote itself.
        lock_seconds: for waiting until another process has updated the mirror.
        max_output_bytes: of a git command's output.
        max_pack_bytes: that one transfer from a machine may bring.
        part_bytes: of the pieces in which bundles go through `write_file` and `read_file`.
    """

    ask_seconds: float = 60.0
    idle_seconds: float = 300.0
    work_seconds: float = 600.0
    direct_seconds: float = 3600.0
    lock_seconds: float = 900.0
    max_output_bytes: int = 512 * 1024 * 1024
    max_pack_bytes: int = 16 * 1024**3
    part_bytes: int = 32 * 1024 * 1024


@attrs.frozen(kw_only=True)
class GitCall:
    """One git command.

    Attributes:
        args: the subcommand and its arguments.
        git_dir: the bare repository it runs in, or None.
        remote: the remote it may talk to; opens that one protocol.
        credential: for the remote.
        protocols: other protocols to open (``fd``, ``file``).
        config: ``name=value`` options.
        env: more environment, never with a secret.
        stdin: its input.
        fds: descriptors to hand over; closed in this process once the command runs.
        seconds: a deadline for all of it; None when `idle_seconds` rules.
        idle_seconds: a deadline between two pieces of output.
        max_output_bytes: of its output, where that is less than the limit of all.
        check: raise `GitError` when it fails.
    """

    args: Sequence[str]
    git_dir: Path | None = None
    remote: RepositoryUrl | None = None
    credential: GitCredential | None = attrs.field(default=None, repr=False)
    protocols: Sequence[str] = ()
    config: Sequence[str] = ()
    env: Mapping[str, str] = attrs.field(factory=dict)
    stdin: bytes = attrs.field(default=b"", repr=False)
    fds: Sequence[int] = ()
    seconds: float | None = None
    idle_seconds: float | None = None
    max_output_bytes: int | None = None
    check: bool = True


@attrs.frozen(kw_only=True)
class GitResult:
    """How a git command ended; `stderr` is redacted and without progress lines."""

    exit_code: int
    stdout: bytes = attrs.field(repr=False)
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text, undecodable bytes as surrogate escapes, without the final newline."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


class HostGit:
    """Runs git on the host."""

    def __init__(self, *, redactor: Redactor | None = None, limits: Limits | None = None, program: str = "git") -> None:
        self.redactor = redactor if redactor is not None else Redactor()
        self.limits = limits if limits is not None else Limits()
        self._program = program

    def argv(self, call: GitCall, *, credential_fd: int | None = None) -> tuple[str, ...]:
        """Return the whole command line; there is no secret in it."""
        argv = [self._program]
        open_protocols = (*call.protocols, *([call.remote.protocol] if call.remote is not None else []))
        slow = int(max(1, self.limits.idle_seconds))
        settings = [*_CONFIG, "http.lowSpeedLimit=1", f"http.lowSpeedTime={slow}"]
        settings += [f"protocol.{name}.allow=always" for name in open_protocols]
        for setting in (*settings, *call.config):
            argv += ["-c", setting]
        if call.remote is not None and credential_fd is not None:
            argv += credential_config(call.remote, credential_fd)
        if call.git_dir is not None:
            argv.append(f"--git-dir={call.git_dir}")
        return (*argv, *call.args)

    def environment(self, call: GitCall) -> dict[str, str]:
        """Return the environment of a command: ours, not the caller's."""
        inherited = {name: os.environ[name] for name in ("PATH", "TMPDIR", *_NETWORK) if name in os.environ}
        # curl would read ~/.netrc, and send what it finds there in place of the session's credential.
        env = {**inherited, **_FIXED, "HOME": os.devnull}
        remote = call.remote
        if remote is not None and remote.protocol in ("ssh", "file"):
            env["HOME"] = os.environ.get("HOME", "/")
        if remote is not None and remote.protocol == "ssh" and "SSH_AUTH_SOCK" in os.environ:
            env["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
        if remote is not None and remote.local and _foreign(remote.path):
            env["GIT_CONFIG_GLOBAL"] = str(_ANY_OWNER)
        return {**env, **call.env}

    async def spawn(self, call: GitCall) -> asyncio.subprocess.Process:
        """Start a command and return the live process; the caller ends it with `end_process`.

        Raises:
            GitError: git is not installed.
        """
        secret: int | None = None
        if call.credential is not None:
            secret = _filled_pipe(credential_input(call.credential))
        try:
            pipe = asyncio.subprocess.PIPE
            return await asyncio.create_subprocess_exec(
                *self.argv(call, credential_fd=secret),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=self.environment(call),
                cwd="/",
                pass_fds=[*call.fds, *([secret] if secret is not None else [])],
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise GitError(f"{self._program} is not installed on this host: install git 2.38 or newer") from error
        finally:
            for descriptor in (*call.fds, *([secret] if secret is not None else [])):
                os.close(descriptor)

    async def run(self, call: GitCall) -> GitResult:
        """Run a command to its end.

        Raises:
            GitError: it failed (with `check`), printed too much, or a deadline passed; its processes are gone then.
        """
        process = await self.spawn(call)
        limit = self.limits.max_output_bytes
        output = _Output(process, min(limit, call.max_output_bytes) if call.max_output_bytes is not None else limit)
        seconds = call.seconds
        if seconds is None and call.idle_seconds is None:
            seconds = self.limits.work_seconds
        try:
            problem = await output.collect(call.stdin, seconds=seconds, idle_seconds=call.idle_seconds)
        finally:
            await end_process(process)
        stderr = self.clean(output.stderr)
        if problem is not None:
            raise self.error(call, problem, None, stderr)
        exit_code = process.returncode if process.returncode is not None else -1
        if call.check and exit_code != 0:
            raise self.error(call, f"exited {exit_code}", exit_code, stderr)
        return GitResult(exit_code=exit_code, stdout=bytes(output.stdout), stderr=stderr)

    def clean(self, stderr: bytes) -> str:
        """Return the end of what git printed: redacted, progress left out."""
        text = self.redactor.redact(stderr.decode("utf-8", "replace"))
        lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
        return "\n".join(line for line in lines if line and not _PROGRESS.match(line))

    def error(self, call: GitCall, problem: str, exit_code: int | None, stderr: str) -> GitError:
        """Return the error for a command; its message ends with what git said."""
        said = f": {stderr[-1000:]}" if stderr else ""
        argv = tuple(self.redactor.redact(part) for part in ("git", *call.args))
        return GitError(f"git {call.args[0]} {problem}{said}", argv=argv, exit_code=exit_code, stderr=stderr)


class _Output:
    """What a process prints, and when it last did."""

    def __init__(self, process: asyncio.subprocess.Process, limit_bytes: int) -> None:
        self._process = process
        self._limit = limit_bytes
        self._last = time.monotonic()
        self.stdout = bytearray()
        self.stderr = b""

    async def collect(self, stdin: bytes, *, seconds: float | None, idle_seconds: float | None) -> str | None:
        """Read everything until the end; returns what went wrong, or None."""
        began = self._last = time.monotonic()
        tasks = [asyncio.ensure_future(self._read_out()), asyncio.ensure_future(self._read_err())]
        tasks.append(asyncio.ensure_future(self._feed(stdin)))
        tasks.append(asyncio.ensure_future(self._wait()))
        exited: float | None = None
        try:
            while True:
                limits = [began + seconds] if seconds is not None else []
                limits += [self._last + idle_seconds] if idle_seconds is not None else []
                left = min([limit - time.monotonic() for limit in limits] + [CHECK_SECONDS])
                _, pending = await asyncio.wait(tasks, timeout=max(0.0, left))
                now = time.monotonic()
                if len(self.stdout) > self._limit:
                    return f"printed more than {self._limit} bytes"
                if not pending:
                    return None
                if self._process.returncode is not None:
                    exited = exited if exited is not None else now
                    if now > exited + PIPE_SECONDS:
                        # A helper that it left behind (git-remote-fd does so) still holds the pipes.
                        _kill_group(self._process)
                        return None
                elif seconds is not None and now >= began + seconds:
                    return f"did not end within {seconds:g} s"
                elif idle_seconds is not None and now >= self._last + idle_seconds:
                    return f"moved nothing for {idle_seconds:g} s"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self) -> None:
        await self._process.wait()

    async def _read_out(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while (data := await stream.read(65536)) and len(self.stdout) <= self._limit:
            self._last = time.monotonic()
            self.stdout += data
        if data:
            _kill_group(self._process)

    async def _read_err(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while data := await stream.read(65536):
            self._last = time.monotonic()
            self.stderr = (self.stderr + data)[-MAX_STDERR_BYTES:]

    async def _feed(self, data: bytes) -> None:
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stream.write(data)
            await stream.drain()
        stream.close()


def _filled_pipe(data: bytes) -> int:
    """Return the reading end of a pipe that holds `data` and then ends."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
    finally:
        os.close(writing)
    return reading


def _foreign(path: str) -> bool:
    try:
        return Path(path).stat().st_uid != os.geteuid()
    except OSError:
        return False


def _kill_group(process: asyncio.subprocess.Process) -> None:
    # Helpers such as git-remote-https are in the process's own session and must not outlive it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def end_process(process: asyncio.subprocess.Process) -> None:
    """Make sure that a process of `HostGit.spawn` and its helpers are gone and its pipes are closed."""
    if process.returncode is None:
        _kill_group(process)
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await asyncio.shield(process.wait())
    # A grandchild may hold a pipe open; the transport is closed so that nothing waits for it.
    process._transport.close()  # type: ignore[attr-defined]  # asyncio offers no other way
