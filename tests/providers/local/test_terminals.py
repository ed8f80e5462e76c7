"""Terminals of the local machine beyond the kit: their name, job control, clients that stop reading, or vanish.

Time budget: 40 s.
"""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import ExecRequest, TerminalSize
from gitmachine_local import LocalMachine

pytestmark = pytest.mark.requires("sandbox")

SIZE = TerminalSize(columns=91, rows=33)


async def on_terminal(machine, script, **fields):
    return await machine.spawn(ExecRequest(shell=script, terminal=SIZE, **fields))


async def read_all(stream):
    async with asyncio.timeout(60):
        return b"".join([data async for data in stream])


async def read_until(process, wanted):
    seen = b""
    async with asyncio.timeout(60):
        while wanted not in seen:
            seen += await anext(process.stdout)
    return seen


async def test_a_terminal_has_a_name_inside_and_is_the_controlling_one(machine):
    process = await on_terminal(machine, "tty; ps -o tty= -p $$; echo on it >/dev/tty")
    lines = (await read_all(process.stdout)).decode().split()
    assert lines[0].startswith("/dev/pts/")
    assert lines[1:] == [lines[0].removeprefix("/dev/"), "on", "it"]
    assert await process.wait() == 0


async def test_a_shell_on_a_terminal_has_job_control(machine):
    process = await machine.spawn(ExecRequest(argv=["bash", "--norc", "-i"], terminal=SIZE, env={"PS1": "ready> "}))
    await read_until(process, b"ready> ")
    await process.stdin.write(b"(echo st''arted; sleep 1000)\n")
    await read_until(process, b"started\r\n")
    await process.stdin.write(b"\x1a")
    assert b"Stopped" in await read_until(process, b"ready> ")
    # While bash has not noticed yet that the job has ended, it takes only a second `exit` seriously.
    await process.stdin.write(b"kill -9 %1; wait; exit 5; exit 5\n")
    await read_all(process.stdout)
    assert await process.wait() == 5


async def test_what_hangs_on_the_terminal_ends_with_its_first_process(machine, helpers):
    process = await on_terminal(machine, "sleep 1000 & echo on")
    assert await read_all(process.stdout) == b"on\r\n"
    assert await process.wait() == 0
    await helpers.sh(machine, "echo usable")


async def test_a_terminal_that_nobody_reads_hinders_nothing_and_can_be_killed(machine, helpers):
    process = await on_terminal(machine, "while :; do echo noise noise noise; done")
    for _ in range(3):
        assert (await helpers.sh(machine, "echo fine")).stdout == "fine\n"
    async with asyncio.timeout(60):
        await process.kill()
        assert await process.wait() == 137
    await read_all(process.stdout)


async def test_the_exit_code_is_known_before_the_output_was_read(machine):
    process = await on_terminal(machine, "head -c 3000 /dev/zero; exit 9")
    async with asyncio.timeout(60):
        assert await process.wait() == 9
    assert await read_all(process.stdout) == bytes(3000)


async def test_a_megabyte_can_be_typed(machine):
    count = 1 << 20
    process = await on_terminal(machine, 'stty raw -echo; echo ready; head -c "$N" | cksum', env={"N": str(count)})
    await read_until(process, b"ready")
    typing = asyncio.ensure_future(process.stdin.write(b"x" * count))
    shown = (await read_all(process.stdout)).split()
    async with asyncio.timeout(60):
        await typing
    assert shown[-1] == str(count).encode()
    assert await process.wait() == 0


async def test_typing_after_the_end_is_a_broken_pipe_and_resizing_nothing(machine):
    process = await on_terminal(machine, "exit 3")
    assert await process.wait() == 3
    with pytest.raises(BrokenPipeError):
        await process.stdin.write(b"x")
    await process.resize(TerminalSize())
    await read_all(process.stdout)


async def test_a_command_on_a_terminal_ends_with_its_client(sandbox, helpers):
    assert sandbox.id is not None
    other = await LocalMachine.connect(sandbox.id)
    await on_terminal(other, "while :; do echo x >> beat; sleep 0.05; done")
    await helpers.eventually(lambda: exists(sandbox), "the command writes")
    await other.close()

    async def ended():
        lines = (await helpers.sh(sandbox, "cksum beat; sleep 0.5; cksum beat")).stdout.splitlines()
        return lines[0] == lines[1]

    await helpers.eventually(ended, "the command ended with its client")


async def exists(machine):
    return "beat" in await machine.list_files()


async def test_a_timeout_ends_a_command_on_a_terminal(machine):
    process = await on_terminal(machine, "sleep 1000", timeout=0.3)
    await read_all(process.stdout)
    assert await process.wait() == 137
    assert process.timed_out


async def test_a_pause_holds_what_runs_on_a_terminal(machine):
    process = await on_terminal(machine, "read -r line; echo got $line")
    await machine.pause()
    await process.stdin.write(b"hello\n")
    assert await read_until(process, b"hello\r\n") == b"hello\r\n"  # the terminal itself echoes
    await machine.resume()
    assert await read_all(process.stdout) == b"got hello\r\n"
    assert await process.wait() == 0


async def test_many_terminals_leave_nothing_behind(sandbox, helpers):
    async def one(number):
        process = await on_terminal(sandbox, f"echo {number}")
        assert await read_all(process.stdout) == f"{number}\r\n".encode()
        return await process.wait()

    assert await asyncio.gather(*(one(number) for number in range(40))) == [0] * 40
    # Terminals are numbered anew when they are closed; one that is left open would keep its number.
    process = await on_terminal(sandbox, "tty")
    assert await read_all(process.stdout) == b"/dev/pts/0\r\n"
    missing = await sandbox.spawn(ExecRequest(argv=["no-such-program"], terminal=SIZE))
    assert await read_all(missing.stdout) == b"no-such-program: command not found\r\n"
    assert await missing.wait() == 127
    assert (await helpers.sh(sandbox, "ls /dev/pts | grep -c '[0-9]'")).stdout == "0\n"
