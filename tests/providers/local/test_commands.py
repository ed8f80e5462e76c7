"""Commands in a local machine keep the contract: codes, bytes, order, environment, concurrency, background children.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource

import pytest

from gitmachine import ConfigError, ExecRequest, MachineLostError, UnsupportedOperation
from gitmachine.errors import MachineFileNotFoundError, MachineNotADirectoryError

pytestmark = pytest.mark.requires("sandbox")


@pytest.fixture
def sh(helpers):
    return helpers.sh


async def test_exit_codes_are_exact(machine, sh):
    for code in (0, 1, 2, 7, 126, 127, 128, 200, 255):
        assert (await sh(machine, f"exit {code}")).exit_code == code


async def test_death_by_a_signal_is_128_plus_its_number_and_named(machine, sh):
    for name, number in (("KILL", 9), ("TERM", 15), ("SEGV", 11), ("INT", 2), ("QUIT", 3), ("HUP", 1), ("PIPE", 13)):
        result = await sh(machine, f"kill -{name} $$")
        assert (result.exit_code, result.signal) == (128 + number, f"SIG{name}")


async def test_a_missing_program_is_a_result_of_127(machine):
    result = await machine.execute(ExecRequest(argv=["no-such-program", "x"]))
    assert result.exit_code == 127
    assert "no-such-program: command not found" in result.stderr
    assert (await machine.execute(ExecRequest(argv=["./nor/this"]))).exit_code == 127


async def test_a_program_that_cannot_be_executed_is_a_result_of_126(machine, sh):
    await sh(
        machine, "printf 'no magic' > plain; printf '#!/bin/sh\\n' > denied; chmod 755 plain; chmod 644 denied; mkdir d"
    )
    for name in ("./plain", "./denied", "./d"):
        result = await machine.execute(ExecRequest(argv=[name]))
        assert result.exit_code == 126, name
        assert name in result.stderr


async def test_a_missing_working_directory_is_an_error_that_names_it_and_nothing_runs(machine, sh):
    with pytest.raises(MachineFileNotFoundError, match="'/no/such/dir'") as caught:
        await sh(machine, f"touch {machine.workdir}/ran", cwd="/no/such/dir")
    assert isinstance(caught.value, FileNotFoundError)
    assert await machine.list_files() == []
    await machine.write_file("file", "")
    with pytest.raises(MachineNotADirectoryError):
        await sh(machine, "true", cwd="file")


async def test_commands_start_in_the_home_and_relative_directories_start_from_it(machine, sh):
    assert (await sh(machine, "pwd -P")).stdout == machine.workdir + "\n"
    await sh(machine, "mkdir -p a/b")
    assert (await sh(machine, "pwd -P", cwd="a/b")).stdout == f"{machine.workdir}/a/b\n"
    assert (await sh(machine, "pwd", cwd="/usr")).stdout == "/usr\n"


async def test_output_is_exact_bytes_on_the_right_stream(machine):
    script = "import os; [os.write(fd, bytes(range(256)) * 300) for fd in (1, 2)]; os.write(2, b'no newline')"
    result = await machine.execute(ExecRequest(argv=["python3", "-c", script]))
    assert result.stdout_bytes == bytes(range(256)) * 300
    assert result.stderr_bytes == bytes(range(256)) * 300 + b"no newline"


async def test_output_arrives_in_order_and_while_the_command_runs(machine):
    seen = []
    released = asyncio.Event()

    async def callback(text):
        seen.append(text)
        if "first" in text:
            await machine.write_file("go", "")
            released.set()

    script = "echo first; while [ ! -e go ]; do sleep 0.01; done; for i in 1 2 3; do echo $i; done"
    result = await machine.execute(ExecRequest(shell=script, on_stdout=callback, timeout=60))
    assert released.is_set()
    assert "".join(seen) == result.stdout == "first\n1\n2\n3\n"


async def test_a_text_of_many_bytes_is_decoded_across_chunks(machine):
    seen = []
    text = "äöü€😀" * 20_000
    await machine.write_file("text", text)
    await machine.execute(ExecRequest(argv=["cat", "text"], on_stdout=seen.append))
    assert "".join(seen) == text


HOSTILE = [
    "",
    " ",
    "'",
    '"',
    "$HOME",
    "`id`",
    "$(id)",
    "a\nb\n",
    "-n",
    "--",
    "*",
    "\\",
    "\x01\x7f",
    "ä😀",
    "x" * 100_000,
]


async def test_arguments_arrive_exact(machine):
    script = "import sys, os; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    arguments = [*HOSTILE, os.fsdecode(bytes(range(128, 256)))]
    result = await machine.execute(ExecRequest(argv=["python3", "-c", script, *arguments]))
    assert result.stdout_bytes.split(b"\0") == [os.fsencode(a) for a in arguments]


async def test_environment_values_arrive_exact_and_do_not_stay(machine):
    env = {f"V{i}": value for i, value in enumerate(HOSTILE)} | {"odd.name": "1", "RAW": os.fsdecode(b"\xff\xfe=x")}
    env["LARGE"] = "y" * (128 * 1024 - 7)  # with name, = and NUL exactly the kernel's limit for one string
    script = "import os; [os.write(1, k + b'=' + v + b'\\0') for k, v in os.environb.items()]"
    result = await machine.execute(ExecRequest(argv=["python3", "-c", script], env=env))
    seen = dict(pair.split(b"=", 1) for pair in result.stdout_bytes.split(b"\0") if pair)
    assert {k: seen[os.fsencode(k)] for k in env} == {k: os.fsencode(v) for k, v in env.items()}
    later = await machine.execute(ExecRequest(argv=["env"]))
    assert "V1=" not in later.stdout
    assert "LARGE" not in later.stdout


async def test_a_value_too_large_for_the_kernel_is_a_result(machine):
    result = await machine.execute(ExecRequest(argv=["true"], env={"TOO": "x" * 200_000}))
    assert result.exit_code == 126
    assert "argument list too long" in result.stderr


async def test_the_machine_has_nothing_of_the_clients_environment(machine, sh, monkeypatch):
    monkeypatch.setenv("CANARY_TOKEN", "s3cr3t-canary")
    assert "s3cr3t" not in (await sh(machine, "env; cat /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'")).stdout


async def test_invalid_requests_are_refused_before_anything_runs(machine):
    for bad in ({"argv": []}, {"argv": ["a\0b"]}, {"shell": "true", "env": {"a=b": "c"}}):
        with pytest.raises(ConfigError):
            await machine.execute(ExecRequest(**bad))
    with pytest.raises(UnsupportedOperation):
        await machine.execute(ExecRequest(shell="true", user="root"))


async def test_input_is_exact_and_can_end_while_output_goes_on(machine):
    data = os.urandom(3 << 20)
    result = await machine.execute(ExecRequest(argv=["sha256sum"], stdin=data, timeout=60))
    assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()

    async def source():
        for _ in range(5):
            yield b"line\n"

    assert (await machine.execute(ExecRequest(argv=["cat"], stdin=source(), timeout=60))).stdout == "line\n" * 5


async def test_without_input_a_command_reads_its_end_at_once(machine, sh):
    assert (await sh(machine, "cat; echo done", timeout=60)).stdout == "done\n"


async def test_input_that_nobody_reads_does_no_harm(machine, sh):
    assert (await sh(machine, "exit 3", stdin=b"x" * (1 << 20), timeout=60)).exit_code == 3
    assert (await sh(machine, "sleep 1000 & exit 4", stdin=b"x" * (1 << 20), timeout=60)).exit_code == 4
    await machine.terminate_processes()


async def test_spawn_is_interactive(machine):
    process = await machine.spawn(ExecRequest(argv=["cat"], open_stdin=True))
    stdout = process.stdout
    for word in (b"one\n", b"two\n"):
        await process.stdin.write(word)
        assert await anext(stdout) == word
    await process.stdin.close()
    await process.stdin.close()
    assert [chunk async for chunk in stdout] == []
    assert [chunk async for chunk in process.stderr] == []
    assert await process.wait() == await process.wait() == 0
    assert int(process.id) > 0
    await process.kill()


async def test_a_background_child_lives_on_and_its_output_goes_nowhere(machine, sh, helpers):
    late = "while [ ! -e go ]; do sleep 0.01; done; for i in 1 2 3; do echo late; echo late >&2; done; echo ok > said"
    script = f"({late}) & echo now"
    result = await sh(machine, script, timeout=60)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "now\n", "")
    await machine.write_file("go", "")

    async def said():
        result = await sh(machine, "cat said 2>/dev/null")
        assert "late" not in result.stdout
        return result.stdout == "ok\n"

    await helpers.eventually(said)


async def test_a_background_child_that_floods_its_output_neither_blocks_nor_dies(machine, sh, helpers):
    script = "(head -c 5000000 /dev/zero; echo $? > done) & echo now"
    assert b"now\n" in (await sh(machine, script, timeout=60)).stdout_bytes

    async def done():
        return (await sh(machine, "cat done 2>/dev/null")).stdout == "0\n"

    await helpers.eventually(done)


async def test_everything_written_before_the_exit_is_in_the_result_though_a_child_holds_the_pipe(machine, sh):
    for _ in range(20):
        result = await sh(machine, "sleep 1000 & head -c 60000 /dev/zero; echo end >&2", timeout=60)
        assert len(result.stdout_bytes) == 60000
        assert result.stderr == "end\n"
    await machine.terminate_processes()


async def test_commands_run_at_the_same_time(machine, sh):
    first = asyncio.ensure_future(sh(machine, "echo 1 > a; while [ ! -e b ]; do sleep 0.01; done", timeout=60))
    second = asyncio.ensure_future(sh(machine, "echo 1 > b; while [ ! -e a ]; do sleep 0.01; done", timeout=60))
    assert [result.exit_code for result in await asyncio.gather(first, second)] == [0, 0]


async def test_many_commands_at_once_do_not_mix(machine, sh):
    results = await asyncio.gather(
        *(sh(machine, f"echo out{i}; echo err{i} >&2; exit {i}", timeout=100) for i in range(100))
    )
    assert [(r.exit_code, r.stdout, r.stderr) for r in results] == [(i, f"out{i}\n", f"err{i}\n") for i in range(100)]


async def test_a_large_output_needs_bounded_memory(machine):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    process = await machine.spawn(ExecRequest(argv=["head", "-c", "200000000", "/dev/zero"], timeout=100))
    async for chunk in process.stdout:
        count += len(chunk)
    assert count == 200_000_000
    assert await process.wait() == 0
    assert [chunk async for chunk in process.stderr] == []
    result = await machine.execute(
        ExecRequest(shell="echo start; head -c 100000000 /dev/zero; echo end", max_output_bytes=1000, timeout=100)
    )
    assert result.truncated
    assert result.stdout_bytes.startswith(b"start\n")
    assert result.stdout_bytes.endswith(b"end\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


async def test_a_slow_reader_slows_only_its_own_command(machine, sh):
    process = await machine.spawn(ExecRequest(argv=["head", "-c", "3000000", "/dev/zero"]))
    assert (await sh(machine, "echo other", timeout=60)).stdout == "other\n"
    assert sum([len(chunk) async for chunk in process.stdout]) == 3_000_000
    assert await process.wait() == 0
    assert [chunk async for chunk in process.stderr] == []


async def test_a_command_starts_with_default_signals_three_descriptors_and_a_session_of_its_own(machine, sh):
    status = (await sh(machine, "cat /proc/self/status")).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    own = 0b11 << 31  # 32 and 33, which glibc keeps for itself and its posix_spawn leaves ignored
    assert int(fields["SigIgn"], 16) & ~own == int(fields["SigBlk"], 16) == 0
    python = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], os.getsid(0) == os.getpid())"
    assert (await machine.execute(ExecRequest(argv=["python3", "-c", python]))).stdout == "[0, 1, 2] True\n"


async def test_the_path_of_the_command_is_the_one_that_is_searched(machine, sh):
    await sh(
        machine, "mkdir -p .local/bin bin; printf '#!/bin/sh\\necho mine' > .local/bin/tool; chmod +x .local/bin/tool"
    )
    assert (await machine.execute(ExecRequest(argv=["tool"]))).stdout == "mine\n"
    assert (await machine.execute(ExecRequest(argv=["tool"], env={"PATH": "/usr/bin"}))).exit_code == 127


async def test_a_machine_that_dies_during_a_command_is_lost_at_once(machine, sh, helpers):
    import signal

    running = asyncio.ensure_future(sh(machine, "echo up; sleep 1000"))
    await helpers.eventually(lambda: _has_child(machine))
    os.kill(machine._record.first[0], signal.SIGKILL)
    with pytest.raises(MachineLostError, match=machine.id):
        async with asyncio.timeout(60):
            await running
    with pytest.raises(MachineLostError):
        await sh(machine, "true")
    with pytest.raises(MachineLostError):
        await machine.read_file("/etc/passwd")


async def _has_child(machine):
    return "sleep 1000" in (await machine.execute(ExecRequest(argv=["ps", "ax"]))).stdout
