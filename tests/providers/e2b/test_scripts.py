"""The wrapper around a command, run as it is by the shells there are. Time budget: 20 s."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess

import pytest

from gitmachine_e2b._content import LIST, PLACE, READ, escaped
from gitmachine_e2b._markers import Notice, Scanner
from gitmachine_e2b._scripts import TERMINAL_WRAPPER, WRAPPERS, command_for, is_text

SHELLS = {
    "dash": ["/bin/dash"],
    "bash": ["/bin/bash", "--posix"],
    "busybox": [shutil.which("busybox") or "/bin/busybox", "sh"],
}
TOKEN, MARK = "0123456789abcdef01234567", "123456789012345678"


@pytest.fixture(params=SHELLS)
def shell(request):
    argv = SHELLS[request.param]
    if not os.access(argv[0], os.X_OK):
        pytest.skip(f"there is no {request.param}")
    return argv


def run(shell, argv, *, way="none", text="", env=None, stdin=None, cwd=None):
    """Run a command in a wrapper; return its exit code, output, errors, and the notices of both streams."""
    words, plain = command_for(argv, env or {})
    assert json.loads(json.dumps(words, ensure_ascii=False).encode().decode()) == words  # it travels in JSON
    done = subprocess.run(
        [*shell, "-c", WRAPPERS[way], "gitmachine", TOKEN, MARK, text, *words],
        env={"PATH": os.environ["PATH"], **plain},
        input=stdin,
        capture_output=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )
    streams = []
    for data in (done.stdout, done.stderr):
        found = Scanner(TOKEN).feed(data)
        streams.append(b"".join(one for one in found if isinstance(one, bytes)))
        streams.append([one for one in found if isinstance(one, Notice)])
    output, out_notices, errors, error_notices = streams
    assert error_notices == [Notice(b"e", "")]
    assert out_notices == [Notice(b"e", str(done.returncode))]
    return done.returncode, output, errors


def test_output_errors_and_the_exit_code_come_through(shell):
    assert run(shell, ["sh", "-c", "printf out; printf err >&2; exit 7"]) == (7, b"out", b"err")


def test_death_by_a_signal_is_128_and_more_without_a_comment(shell):
    assert run(shell, ["sh", "-c", "kill -9 $$"]) == (137, b"", b"")
    assert run(shell, ["sh", "-c", "kill -SEGV $$"]) == (139, b"", b"")


def test_a_missing_program_is_127(shell):
    code, output, errors = run(shell, ["no-such-program-here"])
    assert (code, output) == (127, b"")
    assert b"no-such-program-here" in errors


def test_a_command_leads_a_session_and_carries_the_mark(shell):
    script = "read -r pid x x x group session x </proc/$$/stat; echo $pid $group $session; grep locks /proc/self/limits"
    _, output, _ = run(shell, ["sh", "-c", script])
    ids, _, limits = output.partition(b"\n")
    assert len(set(ids.split())) == 1
    assert MARK.encode() in limits


def test_a_command_has_no_descriptors_but_three(shell):
    _, output, _ = run(shell, ["ls", "/proc/self/fd"])
    assert set(output.split()) <= {b"0", b"1", b"2", b"3"}  # the last is ls's own


def test_a_kill_of_the_own_group_leaves_the_wrapper(shell):
    assert run(shell, ["sh", "-c", "kill -TERM 0; sleep 60"]) == (143, b"", b"")


@pytest.mark.parametrize("size", [0, 1, 5000, 32 << 10])
def test_a_known_input_comes_as_an_argument(shell, size):
    data = os.urandom(size)
    text = base64.b64encode(data).decode()
    assert run(shell, ["cat"], way="text" if size else "none", text=text) == (0, data, b"")


def test_an_input_that_nobody_reads_is_no_error(shell):
    text = base64.b64encode(bytes(32 << 10)).decode()
    assert run(shell, ["true"], way="text", text=text) == (0, b"", b"")
    assert run(shell, ["sh", "-c", "exit 9"], way="text", text=text)[0] == 9


def test_a_large_input_comes_as_a_file_that_is_removed(shell, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(bytes(300_000))
    assert run(shell, ["wc", "-c"], way="file", text=str(path))[1].strip() == b"300000"
    assert not path.exists()


def test_an_open_input_is_the_wrappers_own(shell):
    assert run(shell, ["cat"], way="open", stdin=b"hello")[1] == b"hello"
    assert run(shell, ["cat"], way="none", stdin=b"hello")[1] == b""


WORDS = [
    "",
    " ",
    "a'b",
    '"',
    "$HOME",
    "`x`",
    "two\nlines\n",
    "-n",
    "--",
    "%s",
    "ü",
    "\udcff\udcfe\n",
    "\udc81\udc88x",
    "\\",
]


def test_words_arrive_exactly_whatever_they_hold(shell):
    _, output, _ = run(shell, ["printf", "%s|", *WORDS])
    assert output == b"".join(os.fsencode(word) + b"|" for word in WORDS)


ENV = {
    "PLAIN": "a b",
    "NEWLINES": "\n\n",
    "odd.name": "x",
    "BYTES": "\udcff\n",
    "OPTIND": "abc",
    "PATH": "/nowhere:/usr/bin:/bin",
    "LC_ALL": "C",
}


def test_variables_arrive_exactly_whatever_they_hold(shell):
    _, output, errors = run(shell, ["env", "-0"], env=ENV)
    found = dict(entry.split(b"=", 1) for entry in output.split(b"\0") if entry)
    assert errors == b""
    assert {name: found[name.encode()] for name in ENV} == {name: os.fsencode(value) for name, value in ENV.items()}


def test_only_what_changes_shells_or_is_no_text_travels_as_an_argument():
    words, plain = command_for(["true"], ENV)
    assert set(plain) == {"PLAIN", "NEWLINES"}
    assert all(map(is_text, words))
    assert command_for(["true"], {"A": "b"}) == (["true"], {"A": "b"})


def test_a_program_named_like_an_option_or_a_variable_is_looked_for(shell):
    assert run(shell, ["a=b", "x"], env={"odd.name": "1"})[0] == 127
    assert run(shell, ["-x"])[0] != 0


def test_a_terminals_wrapper_marks_and_becomes_the_command(shell):
    script = 'echo "$1"; grep "Max file locks" /proc/self/limits'
    done = subprocess.run(
        [*shell, "-c", TERMINAL_WRAPPER, "gitmachine", MARK, "sh", "-c", script, "sh", "a  b"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(b"a  b\n")
    assert MARK.encode() in done.stdout


# The scripts about files


def script(shell, text, *arguments, cwd):
    return subprocess.run(
        [*shell, "-c", text, "gitmachine", *map(str, arguments)],
        capture_output=True,
        timeout=60,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        check=False,
    )


@pytest.mark.parametrize(
    "name", ["plain", "with space", "two\nlines\n", "-dash", "$(touch pwned)", "ü", "\udcff", "a\\0b"]
)
def test_a_file_of_any_name_is_placed_read_and_listed(shell, tmp_path, name):
    path = f"{tmp_path}/new/{name}"
    data = bytes(range(256))
    done = script(shell, PLACE, escaped(path), "", base64.b64encode(data).decode(), ".temp", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert script(shell, READ, escaped(path), 1000, cwd=tmp_path).stdout == data
    listed = script(shell, LIST, escaped(f"{tmp_path}/new"), cwd=tmp_path).stdout
    assert listed == os.fsencode(name) + b"\0"
    assert not (tmp_path / "pwned").exists()


def test_a_link_is_written_through_and_a_mode_is_kept(shell, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o750)
    (tmp_path / "link").symlink_to("file")
    upload = tmp_path / "upload"
    upload.write_bytes(b"new")
    done = script(shell, PLACE, escaped(f"{tmp_path}/link"), upload, "", ".temp", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_each_failure_ends_with_the_kernels_words(shell, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for text, path, words in (
        (PLACE, "dir", b"Is a directory"),
        (PLACE, "file/below", b"Not a directory"),
        (READ, "dir", b"Is a directory"),
        (READ, "nowhere", b"No such file or directory"),
        (READ, "file/below", b"Not a directory"),
        (READ, "pipe", b"Not a regular file"),
        (LIST, "nowhere", b"No such file or directory"),
        (LIST, "file", b"Not a directory"),
    ):
        done = script(shell, text, escaped(f"{tmp_path}/{path}"), "", "eA==", ".temp", cwd=tmp_path)
        assert done.returncode != 0, path
        assert words in done.stderr, (path, done.stderr)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "file", "pipe"]
