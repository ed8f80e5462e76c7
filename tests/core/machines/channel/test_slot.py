"""What a command gets from a slot: the same as from a process of its own. On dash, bash, busybox, and as nobody.

Time budget: 60 s.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitmachine.errors import MachineFileNotFoundError, MachineNotADirectoryError
from gitmachine.machines.channel.preamble import parse_hello, preamble
from gitmachine.machines.channel.turn import Turn, TurnKind, turns

pytestmark = pytest.mark.requires("linux", "dash", "bash", "busybox", "setpriv", "setsid")

EVERY_BYTE = bytes(range(256))


async def test_output_is_exact_whatever_it_is(rig):
    octal = "".join(f"\\{number:03o}" for number in range(256))
    result = await rig.sh(f"printf '{octal}'; printf '{octal}' >&2")
    assert (result.stdout_bytes, result.stderr_bytes) == (EVERY_BYTE, EVERY_BYTE)
    for text in ("", "x", "\n\n\n", "x\n", "\x1e", "\x1e" * 40):
        assert (await rig.run("printf", "%s", text)).stdout == text
    assert (await rig.run("head", "-c", "3000000", "/dev/zero")).stdout_bytes == bytes(3_000_000)


async def test_streams_that_alternate_are_kept_apart_and_in_order(rig):
    script = "i=0; while [ $i -lt 300 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    result = await rig.sh(script)
    assert result.stdout == "".join(f"o{number}\n" for number in range(300))
    assert result.stderr == "".join(f"e{number}\n" for number in range(300))


async def test_every_exit_code_is_exact(rig):
    for code in range(0, 256, 17):
        assert (await rig.sh(f"exit {code}")).exit_code == code
    assert (await rig.sh("exit 255")).exit_code == 255


async def test_death_by_a_signal_is_128_and_the_signal_and_says_nothing(rig):
    for number in (1, 2, 6, 9, 11, 13, 15):
        result = await rig.run("sh", "-c", f"kill -{number} $$")
        assert (result.exit_code, result.stdout, result.stderr) == (128 + number, "", "")


async def test_broken_scripts_break_nothing_else(rig):
    for script in ("echo 'unbalanced", 'echo "unbalanced', "if true; then", "(", "cat <<END\nnever ended", "echo )"):
        await rig.sh(script)
        assert (await rig.sh("echo fine")).stdout == "fine\n"
    assert (await rig.sh("echo a # comment")).stdout == "a\n"
    plain = subprocess.run(["sh", "-c", "echo a \\"], capture_output=True, check=True, timeout=60)
    assert (await rig.sh("echo a \\")).stdout_bytes == plain.stdout


async def test_nothing_that_a_command_does_to_its_shell_is_seen_by_the_next(rig):
    for script in (
        "exec true",
        "exit 3",
        "set -e; false",
        "trap 'echo bye' EXIT; exit 0",
        "trap '' INT; true",
        "exec 1>&-",
        "kill 0",
        "ulimit -n 50",
        "umask 077",
        "cd /",
        "export LEAK=1; LEAK2=1",
        "alias echo=false",
    ):
        await rig.sh(script)
    where = os.path.realpath(rig.home)
    result = await rig.sh('echo "${LEAK-}${LEAK2-}"; pwd; umask; ulimit -n; trap')
    assert result.stdout.split("\n")[:2] == ["", where]
    assert "077" not in result.stdout
    assert "\n50\n" not in result.stdout
    assert len(rig.slots._all) == 1


async def test_without_input_a_command_reads_the_end_at_once(rig):
    assert (await rig.sh("cat; read x; echo $?")).stdout == "1\n"


async def test_a_missing_directory_is_named_and_nothing_runs(rig, open_path):
    missing = f"{rig.home}/no such"
    with pytest.raises(MachineFileNotFoundError, match="no such") as caught:
        await rig.sh("echo x > ran", cwd=missing)
    assert caught.value.filename == missing
    assert not any(Path(rig.home).iterdir())
    (open_path / "file").write_text("")
    with pytest.raises(MachineNotADirectoryError):
        await rig.sh("true", cwd=str(open_path / "file"))
    assert (await rig.sh("echo on")).stdout == "on\n"


async def test_a_command_has_the_three_usual_descriptors_and_no_others(rig):
    # A `ls` that is built into its shell has the directory itself open, there.
    result = await rig.sh("ls -l /proc/$$/fd")
    open_files = [line.split(" -> ")[1] for line in result.stdout.splitlines() if " -> " in line]
    others = [target for target in open_files if not target.endswith("/fd")]
    assert others[0] == "/dev/null"
    assert len(others) == 3
    assert others[1] != others[2]


async def test_a_command_leads_its_session_and_its_group(rig):
    # Field 1 is the process, 5 its group, 6 its session.
    pid, group, session = (await rig.sh("set -- $(cat /proc/$$/stat); echo $1 $5 $6")).stdout.split()
    assert pid == group == session


async def test_a_command_ignores_and_blocks_no_signal(rig):
    result = await rig.run("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    values = [int(line.split()[1], 16) for line in result.stdout.splitlines()]
    # Signal 32 is the C library's own, and what it starts by posix_spawn, as make does, ignores it.
    assert [value & 0x7FFF_FFFF for value in values] == [0, 0]


VALUES = {
    "SINGLE": "it's",
    "DOUBLE": '"quoted"',
    "LINES": "two\nlines\n",
    "CONTROL": "\x01\x7f\t\r",
    "NOT_UTF8": os.fsdecode(b"\x80\x81\x82\x88\xff\xfe"),
    "EMPTY": "",
    "DOLLAR": "$HOME ${HOME} $(touch pwned) `touch pwned`",
}


async def test_hostile_values_arrive_exactly(rig):
    result = await rig.run("sh", "-c", "printf '%s\\0' " + " ".join(f'"${name}"' for name in VALUES), env=VALUES)
    assert result.stdout_bytes.split(b"\0")[:-1] == [os.fsencode(value) for value in VALUES.values()]
    assert not any(Path(rig.home).iterdir())


async def test_names_that_shells_do_not_like_arrive_too(rig):
    names = [
        "FOO.BAR",
        "-u",
        "1X",
        "OPTIND",
        "UID",
        "PPID",
        "IFS",
        "SHELLOPTS",
        "_gm_s",
        "LC_ALL",
        "LANG",
        "a b",
        "x;y",
    ]
    env = {name: f"value of {name}" for name in names}
    result = await rig.run("env", "-0", env=env) if rig.shell[0] != "busybox" else await rig.run("env", env=env)
    lines = result.stdout.replace("\0", "\n").splitlines()
    for name, value in env.items():
        assert f"{name}={value}" in lines


async def test_a_path_of_its_own_is_where_its_program_is_looked_for(rig, open_path):
    tool = open_path / "tool"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    assert (await rig.run("tool", env={"PATH": str(open_path)})).stdout == "found\n"
    missing = await rig.run("python3", env={"PATH": str(open_path)})
    assert missing.exit_code == 127


async def test_variables_of_one_command_are_not_seen_by_the_next(rig):
    assert (await rig.sh("echo $ONE", env={"ONE": "1", "T.W": "2"})).stdout == "1\n"
    assert "ONE" not in (await rig.run("env")).stdout
    assert "T.W" not in (await rig.run("env")).stdout


async def test_a_value_may_be_as_large_as_a_program_can_take(rig):
    value = secrets.token_hex(65500)
    assert (await rig.sh('printf %s "$LARGE"', env={"LARGE": value})).stdout == value


async def test_hundreds_of_values_arrive(rig):
    env = {f"NAME_{number}": secrets.token_hex(200) for number in range(400)}
    lines = (await rig.run("env", env=env)).stdout.splitlines()
    assert {f"{name}={value}" for name, value in env.items()} <= set(lines)


async def test_more_than_a_program_can_take_is_126_and_the_slot_lives(rig):
    result = await rig.sh("echo never", env={"LARGE": "x" * 140_000})
    assert result.exit_code == 126
    assert (await rig.sh("echo on")).stdout == "on\n"


async def test_a_script_of_300_kilobytes_runs_like_a_short_one(rig):
    script = f'# {"x" * 300_000}\ncat; echo "$# $0 ${{_gm_x-none}}"; exit 9'
    result = await rig.sh(script)
    assert (result.exit_code, result.stdout) == (9, "0 sh none\n")
    assert (await rig.sh("exec echo 'it''s'; " + "#" * 200_000)).stdout == "its\n"


async def test_input_arrives_exactly_at_every_size(rig):
    for size in (1, 255, 4096, 16 << 10, (16 << 10) + 1, 60_000, 3_000_000):
        data = (EVERY_BYTE + os.urandom(1000)) * (size // 1256 + 1)
        assert (await rig.run("cat", stdin=data[:size])).stdout_bytes == data[:size]


async def test_input_that_is_unread_or_half_read_leaves_the_stream_in_step(rig):
    for size in (10_000, 2_000_000):
        data = b"echo wrong; exit 9\n" * (size // 19)
        assert (await rig.run("true", stdin=data)).exit_code == 0
        assert (await rig.run("head", "-n", "1", stdin=data)).stdout == "echo wrong; exit 9\n"
        assert (await rig.sh("exec <&-; exit 4", stdin=data)).exit_code == 4
        assert (await rig.sh("echo on")).stdout == "on\n"


async def test_input_and_a_missing_directory(rig):
    for size in (100, 100_000):
        with pytest.raises(MachineFileNotFoundError):
            await rig.run("cat", stdin=b"x" * size, cwd="/no/such")
        assert (await rig.run("cat", stdin=b"x" * size)).stdout == "x" * size


async def test_a_missing_program_is_127(rig):
    assert (await rig.run("no-such-program")).exit_code == 127
    assert (await rig.run("/no/such/program")).exit_code == 127
    assert (await rig.run("no-such-program", env={"A.B": "1"})).exit_code == 127


async def test_arguments_arrive_exactly(rig):
    words = ["", " ", "-n", "--", "'", "\\", "$HOME", "two\nlines\n", os.fsdecode(b"\xff\x81"), "*", "%s"]
    result = await rig.run("sh", "-c", 'printf "%s\\0" "$@"', "sh", *words)
    assert result.stdout_bytes.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


async def test_output_kept_for_the_result_is_bounded(dash):
    result = await dash.run("head", "-c", "5000000", "/dev/zero", max_output_bytes=1000)
    assert result.truncated
    assert len(result.stdout_bytes) == 1000


@settings(max_examples=30)
@given(st.integers(1, 1 << 22), st.sampled_from("xw-"), st.sampled_from("01"), st.sampled_from("01"))
def test_what_a_shell_says_of_itself_is_understood(pid, option, reopens, head):
    shell = parse_hello(f"hello {pid} {option} {reopens} 1 {head} -")
    assert (shell.pid, shell.mark_option, shell.reopens) == (pid, option.strip("-"), reopens == "1")
    assert shell.takes_input is (head == "1")
    assert shell.problem == ""


def test_a_shell_that_lacks_something_is_understood():
    assert "setsid" in parse_hello("hello 1 - 0 0 0 no-setsid,").problem
    assert "/proc" in parse_hello("hello 1 - 0 0 0 no-proc,no-setsid,").problem
    with pytest.raises(ValueError, match="bonjour"):
        parse_hello("bonjour 1 - 0 0 0 -")


def test_the_preamble_is_short_enough_to_be_sent_again_and_again():
    assert len(preamble(Turn(kind=TurnKind.HELLO, next=turns(1, 16, str)))) < 6000
