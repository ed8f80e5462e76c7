"""From a request to a live command in a sandbox."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os
import posixpath
import secrets
from typing import TYPE_CHECKING, Any

from gitmachine import MachineError
from gitmachine.errors import file_error
from gitmachine.machines.channel import new_mark
from gitmachine_e2b._content import LOOK, escaped
from gitmachine_e2b._errors import PROBLEMS, PROVIDER, Broken, Refusal, errno_of
from gitmachine_e2b._files import Files
from gitmachine_e2b._link import MACHINE_MARK
from gitmachine_e2b._markers import new_token
from gitmachine_e2b._process import E2BProcess
from gitmachine_e2b._scripts import MAX_TEXT_BYTES, SHELL, TERMINAL_WRAPPER, WRAPPERS, command_for, is_text
from gitmachine_e2b._shell import run_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from gitmachine import ExecRequest, GitMachineError
    from gitmachine_e2b._link import Link

TERM = "xterm-256color"


async def launch(link: Link, request: ExecRequest, workdir: str, *, stdin: bytes | None = None) -> E2BProcess:
    """Start a command.

    Args:
        link: the sandbox.
        request: what to run; its `stdin` and callbacks are not looked at.
        workdir: where it starts when the request does not say.
        stdin: all of its input; None is what the request says of `open_stdin`.

    Raises:
        MachineFileNotFoundError: there is no such directory; other file errors likewise.
        MachineError: it was not started, or that is not known; then it was killed.
    """
    cwd = posixpath.join(workdir, request.cwd) if request.cwd is not None else workdir
    terminal = request.terminal is not None
    open_stdin = terminal or (request.open_stdin and stdin is None)

    async def explain(problem: Exception) -> GitMachineError:
        return await link.explain(problem, "execute")

    process = E2BProcess(
        link.envd,
        token=new_token(),
        mark=new_mark(MACHINE_MARK),
        terminal=terminal,
        open_stdin=open_stdin,
        killer=link.kill,
        explain=explain,
    )
    try:
        if not is_text(cwd):
            await _check_directory(link, cwd, request)
        way, text = await _input(link, stdin, request.user) if stdin is not None else (_way(open_stdin), "")
        message = _message(process, request, cwd, way, text)
        await _begin(link, process, message, request.user)
    except PROBLEMS as problem:
        raise await _refused(link, problem, cwd, request) from problem
    link.watch(process)
    return process


def _way(open_stdin: bool) -> str:
    return "open" if open_stdin else "none"


async def _input(link: Link, stdin: bytes, user: str | None) -> tuple[str, str]:
    """Return how an input that is known gets in, in one piece: each call that writes to a process is a round trip."""
    if not stdin:
        return "none", ""
    if len(stdin) <= MAX_TEXT_BYTES:
        return "text", base64.b64encode(stdin).decode()
    path = f"/tmp/.gitmachine-{secrets.token_hex(8)}"  # noqa: S108  # in the sandbox; the command's wrapper removes it
    await Files(link.envd).upload(path, stdin, user=user)
    return "file", path


def _message(process: E2BProcess, request: ExecRequest, cwd: str, way: str, text: str) -> dict[str, Any]:
    env = dict(request.env)
    argv = list(request.command)
    if request.terminal is not None:
        env.setdefault("TERM", TERM)
    if not is_text(cwd):
        argv = ["sh", "-c", 'cd -- "$1" && shift && exec "$@"', "sh", cwd, *argv]
    words, variables = command_for(argv, env)
    if request.terminal is not None:
        args = ["-c", TERMINAL_WRAPPER, "gitmachine", process.mark, *words]
    else:
        args = ["-c", WRAPPERS[way], "gitmachine", process.token, process.mark, text, *words]
    config: dict[str, Any] = {"cmd": SHELL, "args": args, "envs": variables}
    if is_text(cwd):
        config["cwd"] = cwd
    if request.terminal is not None:
        size = {"cols": request.terminal.columns, "rows": request.terminal.rows}
        return {"process": config, "pty": {"size": size}}
    return {"process": config, "stdin": way == "open"}


async def _begin(link: Link, process: E2BProcess, message: dict[str, Any], user: str | None) -> None:
    """Start it; where it may have been started without our knowing, it is killed."""
    try:
        await process.begin(message, user=user)
    except Refusal:
        raise
    except Broken as broken:
        if broken.sent:
            await _kill(link, process.mark)
        raise
    except BaseException:
        await _kill(link, process.mark)
        raise


_kills: set[asyncio.Task[None]] = set()
"""Kills that go on after their caller was cancelled: somebody must hold them."""


async def _kill(link: Link, mark: str) -> None:
    task = asyncio.ensure_future(link.kill(mark))
    _kills.add(task)
    task.add_done_callback(_kills.discard)
    await asyncio.shield(task)


async def _check_directory(link: Link, cwd: str, request: ExecRequest) -> None:
    """Look for a directory whose name does not come through JSON."""
    answer = await run_script(link.envd, LOOK, escaped(cwd.rstrip("/") + "/."), user=request.user)
    if answer.code != 0:
        raise _directory_error(link, cwd, request, errno_of(answer.errors))


async def _refused(link: Link, problem: Exception, cwd: str, request: ExecRequest) -> GitMachineError:
    """Return why a command was not started: its directory, its user, or something about the sandbox."""
    if isinstance(problem, Refusal) and problem.code == "unauthenticated" and "username" in problem.message:
        return MachineError(
            f"the machine has no user {request.user!r}: {problem.message}",
            machine_id=link.id,
            provider=PROVIDER,
            operation="spawn",
        )
    if isinstance(problem, Refusal) and problem.code in ("invalid_argument", "internal", "unknown"):
        with contextlib.suppress(*PROBLEMS):
            answer = await run_script(link.envd, LOOK, escaped(cwd.rstrip("/") + "/."))
            if answer.code != 0:
                return _directory_error(link, cwd, request, errno_of(answer.errors))
    return await link.explain(problem, "execute")


def _directory_error(link: Link, cwd: str, request: ExecRequest, number: int) -> MachineError:
    missing = number == errno.ENOENT
    reason = "does not exist in the machine" if missing else f"cannot be entered: {os.strerror(number).lower()}"
    return file_error(
        number,
        f"the working directory {request.cwd if request.cwd is not None else cwd!r} {reason}",
        path=cwd,
        machine_id=link.id,
        provider=PROVIDER,
        operation="spawn",
    )


async def collected(source: AsyncIterable[bytes]) -> bytes:
    """Return all of an input, for daemons that cannot be told its end."""
    try:
        return b"".join([piece async for piece in source])
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
