"""Commands and terminals."""

from __future__ import annotations

from typing import Any

import e2b
from calls import MODE, got, raises, until


async def commands_give_output_and_exit_codes(sandbox: Any) -> None:
    result = await got(sandbox.commands.run("echo out; echo err >&2; pwd; id -un"))
    assert (result.exit_code, result.stderr) == (0, "err\n"), result
    assert result.stdout == "out\n/home/user\nuser\n", result
    error = await raises(e2b.CommandExitException, lambda: sandbox.commands.run("echo no; exit 3"))
    assert (error.exit_code, error.stdout) == (3, "no\n"), error
    error = await raises(e2b.CommandExitException, lambda: sandbox.commands.run("no-such-program"))
    assert error.exit_code == 127, error
    error = await raises(e2b.CommandExitException, lambda: sandbox.commands.run("kill -9 $$"))
    assert error.exit_code == -1, error


async def commands_take_environment_user_and_directory(sandbox: Any) -> None:
    result = await got(sandbox.commands.run("echo $ONE $TWO; id -un; pwd", envs={"TWO": "2"}, user="root", cwd="/tmp"))
    assert result.stdout == "one 2\nroot\n/tmp\n", result
    result = await got(sandbox.commands.run("echo $E2B_SANDBOX_ID $HOME"))
    assert result.stdout == f"{sandbox.sandbox_id} /home/user\n", result
    await raises(e2b.InvalidArgumentException, lambda: sandbox.commands.run("true", cwd="/nowhere"))
    await raises(e2b.AuthenticationException, lambda: sandbox.commands.run("true", user="nobody-here"))


async def output_is_told_while_it_comes(sandbox: Any) -> None:
    seen: list[str] = []
    text = "for i in 1 2 3; do echo $i; sleep 0.05; done; echo err >&2"
    await got(sandbox.commands.run(text, on_stdout=seen.append, on_stderr=seen.append))
    assert "".join(seen) == "1\n2\n3\nerr\n", seen


async def much_output_and_odd_characters_arrive_whole(sandbox: Any) -> None:
    result = await got(sandbox.commands.run("for i in $(seq 20000); do echo żółć-$i; done"))
    assert result.stdout == "".join(f"żółć-{number}\n" for number in range(1, 20001))


async def a_timeout_kills_the_command(sandbox: Any) -> None:
    script = "echo $$ > t; mv t timed; exec sleep 100"
    for seconds in (1, 5, 25):  # a busy machine may need more to get as far as the file
        await raises(e2b.TimeoutException, lambda seconds=seconds: sandbox.commands.run(script, timeout=seconds))
        if await got(sandbox.files.exists("timed")):
            break
    pid = int(await got(sandbox.files.read("timed")))

    async def gone() -> bool:
        return pid not in [process.pid for process in await got(sandbox.commands.list())]

    await until(gone)


async def background_commands_are_listed_read_and_killed(sandbox: Any) -> None:
    handle = await got(sandbox.commands.run("echo begun; sleep 100", background=True, timeout=0))
    listed = {process.pid: process for process in await got(sandbox.commands.list())}
    assert listed[handle.pid].args[-1] == "echo begun; sleep 100", listed
    assert await got(sandbox.commands.kill(handle.pid)) is True
    error = await raises(e2b.CommandExitException, handle.wait)
    assert error.exit_code == -1, error
    assert await got(sandbox.commands.kill(handle.pid)) is False


async def input_reaches_a_command(sandbox: Any) -> None:
    handle = await got(sandbox.commands.run("read line; echo got $line; cat", background=True, stdin=True, timeout=0))
    await got(sandbox.commands.send_stdin(handle.pid, "hello\n"))
    await got(sandbox.commands.send_stdin(handle.pid, "more"))
    await got(sandbox.commands.close_stdin(handle.pid))
    result = await got(handle.wait())
    assert result.stdout == "got hello\nmore", result


async def a_second_client_connects_to_a_command(sandbox: Any) -> None:
    first = await got(sandbox.commands.run("read line; echo $line", background=True, stdin=True, timeout=0))
    second = await got(sandbox.commands.connect(first.pid, timeout=0))
    await got(sandbox.commands.send_stdin(first.pid, "both\n"))
    results = [await got(handle.wait()) for handle in (first, second)]
    assert [result.stdout for result in results] == ["both\n", "both\n"], results
    # The end is retained for those who come late.
    late = await got(sandbox.commands.connect(first.pid, timeout=0))
    assert (await got(late.wait())).exit_code == 0


async def a_command_outlives_its_client(sandbox: Any) -> None:
    handle = await got(
        sandbox.commands.run("while [ ! -e go ]; do sleep 0.05; done; echo after", background=True, timeout=0)
    )
    await got(handle.disconnect())
    again = await got(sandbox.commands.connect(handle.pid, timeout=0))
    await got(sandbox.files.write("go", ""))
    result = await got(again.wait())
    assert result.stdout == "after\n", result


async def a_terminal_takes_input_and_sizes(sandbox: Any) -> None:
    size = e2b.PtySize(rows=24, cols=80)
    seen = bytearray()
    if MODE == "async":
        handle = await got(sandbox.pty.create(size, on_data=seen.extend, timeout=0))
    else:
        handle = sandbox.pty.create(size, timeout=0)
    await got(sandbox.pty.resize(handle.pid, e2b.PtySize(rows=30, cols=100)))
    await got(sandbox.pty.send_stdin(handle.pid, b"stty size; tty; echo $TERM; exit 7\n"))
    options = {} if MODE == "async" else {"on_pty": seen.extend}
    error = await raises(e2b.CommandExitException, lambda: handle.wait(**options))
    assert error.exit_code == 7, error
    assert b"30 100" in seen, seen
    assert b"/dev/pts/" in seen, seen
    assert b"xterm-256color" in seen, seen


async def a_terminal_is_killed(sandbox: Any) -> None:
    options = {"on_data": lambda data: None} if MODE == "async" else {}
    handle = await got(sandbox.pty.create(e2b.PtySize(rows=24, cols=80), timeout=0, **options))
    assert await got(sandbox.pty.kill(handle.pid)) is True
    await raises(e2b.CommandExitException, handle.wait)
    assert await got(sandbox.pty.kill(handle.pid)) is False
