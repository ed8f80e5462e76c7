"""Commands: exit codes, arguments, directories, input, and many at once."""

from __future__ import annotations

import asyncio
import posixpath
from typing import TYPE_CHECKING

from gitmachine.errors import MachineFileNotFoundError
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check
from gitmachine.testing.kit.stage import Stage, await_file, script_request, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["CommandBehaviours"]

_CODES = (0, 1, 2, 3, 7, 77, 100, 125, 126, 127, 128, 129, 200, 254, 255)
_HOSTILE = (
    "",
    " ",
    "a b",
    "'",
    '"',
    "\\",
    "$HOME",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "two\nlines",
    "ends with newline\n",
    "-n",
    "--",
    "*",
    "~",
    "!x",
    "%s\\n",
    "grüße 日本",
    "\udcff\udcfe not utf-8",
    "\t\r\x01\x7f",
)


class CommandBehaviours(KitBase):
    """What becomes of a command."""

    @behaviour("exit-codes", "every exit code is reported as it is")
    async def test_exit_codes(self, stage: Stage) -> None:
        """Codes get lost in pipelines, are read as signed bytes, or are taken for those of the wrapper around."""
        for code in _CODES:
            result = await stage.sh(f"exit {code}")
            check(result.exit_code == code, f"a command that exited with {code} was reported with {result.exit_code}")

    @behaviour("exit-code-streamed", "a failing command fails with callbacks, too")
    async def test_exit_code_streamed(self, stage: Stage) -> None:
        """One library reports exit code 0 for every command as soon as a callback for its output is given."""
        result = await stage.sh("echo out; exit 3", on_stdout=lambda _: None, on_stderr=lambda _: None)
        check(result.exit_code == 3, f"with a callback, exit code 3 was reported as {result.exit_code}")

    @behaviour("exit-signal", "death by signal N is exit code 128 + N, with the signal named")
    async def test_exit_signal(self, stage: Stage) -> None:
        """A command that the kernel killed for its memory looks like one that failed, or like a success."""
        for name, code in (("KILL", 137), ("TERM", 143)):
            result = await stage.run(["sh", "-c", f"kill -{name} $$"])
            check(result.exit_code == code, f"death by SIG{name} was reported as {result.exit_code}, not {code}")
            check(result.signal == f"SIG{name}", f"exit code {code} names the signal {result.signal}")

    @behaviour("missing-program", "a program that does not exist is exit code 127, a result")
    async def test_missing_program(self, stage: Stage) -> None:
        """Whether it is an exception, a hang or a code depends on the tool and on how the command was written."""
        for argv in (["no-such-program-here", "x"], ["/no/such/program"]):
            result = await stage.run(argv)
            check(result.exit_code == 127, f"{argv[0]!r} does not exist; exit code {result.exit_code}, not 127")

    @behaviour("missing-directory", "a working directory that does not exist is an error, and nothing runs elsewhere")
    async def test_missing_directory(self, stage: Stage) -> None:
        """A tool that joins `cd X` and the command by a semicolon runs it in the wrong place: think of `rm -rf *`."""
        name = stage.path("no-such-directory")
        try:
            await stage.machine.execute(
                script_request('echo x > ran; echo x > "$HOME/ran"', cwd=name, timeout=stage.patience)
            )
        except MachineFileNotFoundError as error:
            check("no-such-directory" in str(error), f"the error has to name the directory: {error}")
        else:
            raise ConformanceFailure("a command in a directory that does not exist was not refused")
        check(await stage.size("ran") == 0, "a command whose directory does not exist ran in the working directory")

    @behaviour("directory", "a command runs in its directory; relative ones start from the machine's")
    async def test_directory(self, stage: Stage) -> None:
        """One provider of a multi-provider kit ignores the directory altogether."""
        where = (await stage.good("pwd -P")).rstrip("\n")
        workdir = (await stage.good('cd "$1" && pwd -P', stage.machine.workdir)).rstrip("\n")
        check(where == workdir, f"without a directory a command runs in {where!r}, not in workdir {workdir!r}")
        await stage.good("mkdir -p sub/deeper")
        for cwd, expected in (("sub", "sub"), ("sub/deeper", "sub/deeper"), (stage.path("sub"), "sub"), (".", "")):
            result = (await stage.good("pwd -P", cwd=cwd)).rstrip("\n")
            wanted = posixpath.normpath(f"{workdir}/{expected}")
            check(result == wanted, f"a command with cwd {cwd!r} ran in {result!r}, not in {wanted!r}")

    @behaviour("directory-names", "a directory may have any name")
    async def test_directory_names(self, stage: Stage) -> None:
        """Where `cd` is put in front of the command, a name with `$()` in it is a command of its own."""
        for name in ("with space", "quo'te\"s", "$(touch pwned)", "two\nlines", "-dash", "grüße"):
            await stage.good('mkdir -- "$1"', name)
            result = await stage.good('printf "%s" "${PWD##*/}"', cwd=stage.path(name))
            check(result == name, f"a command in the directory {name!r} ran in {result!r}")
        check(await stage.size("pwned") == 0, "the name of a directory was run as a command")

    @behaviour("arguments", "arguments arrive exactly, whatever they hold")
    async def test_arguments(self, stage: Stage) -> None:
        """Half of the tools have no way to run a program without a shell; the others quote by hand, and wrongly."""
        result = await stage.run(["sh", "-c", 'printf "%s\\0" "$@"', "sh", *_HOSTILE])
        seen = result.stdout_bytes.split(b"\0")[:-1]
        wanted = [text.encode("utf-8", "surrogateescape") for text in _HOSTILE]
        for text, argument in zip(wanted, seen, strict=False):
            check(text == argument, f"the argument {text!r} arrived as {argument!r}")
        check(len(seen) == len(wanted), f"{len(wanted)} arguments were given, {len(seen)} arrived")
        check(await stage.size("pwned") == 0, "an argument was run as a command")

    @behaviour("arguments-large", "an argument of 128 KiB arrives exactly")
    async def test_arguments_large(self, stage: Stage) -> None:
        """What is passed on a command line within a command line meets its limit sooner."""
        text = "0123456789abcde\n" * 8191  # with the final NUL, just under the kernel's 128 KiB for one argument
        result = await stage.run(["printf", "%s", text])
        check(result.exit_code == 0, f"an argument of {len(text)} bytes: exit code {result.exit_code}, {result.stderr}")
        check(result.stdout == text, f"an argument of {len(text)} bytes arrived with {len(result.stdout)} bytes")

    @behaviour("scripts", "a script may have several lines, here-documents and comments")
    async def test_scripts(self, stage: Stage) -> None:
        """Here-documents hang in tools that feed scripts to a long-lived shell, or append their marker to the line."""
        cases = (
            ("cat <<'END'\none $HOME\nEND\n", "one $HOME\n"),
            ("cat <<END\ntwo\nEND", "two\n"),
            ("echo three # a comment", "three\n"),
            ("if true\nthen\n  echo four\nfi", "four\n"),
            ("echo five |\n  cat", "five\n"),
            ("set -- x y\necho $#\n\n", "2\n"),
            ("exec echo six", "six\n"),
        )
        for script, expected in cases:
            result = await stage.sh(script)
            check(
                (result.exit_code, result.stdout) == (0, expected),
                f"the script {script!r} printed {result.stdout!r} and exited with {result.exit_code}",
            )

    @behaviour("input", "input arrives exactly, and its end is seen")
    async def test_input(self, stage: Stage) -> None:
        """Input that goes through text loses its line ends, and what is not UTF-8."""
        data = bytes(range(256)) * 2048 + b"no newline at the end"
        result = await stage.run(["cat"], stdin=data)
        check(result.stdout_bytes == data, f"{len(data)} bytes of input came back as {shown(result.stdout_bytes)}")

    @behaviour("input-stream", "input may be a stream that waits for the command's answers")
    async def test_input_stream(self, stage: Stage) -> None:
        """Where input is collected first, a dialogue with a command is a deadlock."""
        answered, first = asyncio.Event(), "first" * 40

        async def lines() -> AsyncIterator[bytes]:
            yield b"%b\n" % first.encode()
            await answered.wait()
            yield b"second\n"

        def heard(text: str) -> None:
            if "first" in text:
                answered.set()

        script = "read a; echo $a; read b; echo $b"
        if not _streams(stage):
            answered.set()
        result = await stage.sh(script, stdin=lines(), on_stdout=heard)
        check(result.stdout == f"{first}\nsecond\n", f"a dialogue gave {result.stdout!r}")

    @behaviour("input-empty", "without input a command finds the end at once")
    async def test_input_empty(self, stage: Stage) -> None:
        """Commands that read an inherited input wait for ever, or eat the script that comes after them."""
        result = await stage.sh("cat; echo end")
        check(result.stdout == "end\n", f"without input `cat; echo end` printed {result.stdout!r}")
        result = await stage.run(["cat"], stdin=b"")
        check((result.exit_code, result.stdout) == (0, ""), f"with an empty input `cat` printed {result.stdout!r}")

    @behaviour("input-unread", "input that nobody reads is no error")
    async def test_input_unread(self, stage: Stage) -> None:
        """`head -1` stops reading when it has enough; the broken pipe is not the user's business."""
        data = b"line\n" * 500_000
        result = await stage.run(["head", "-n", "1"], stdin=data)
        check((result.exit_code, result.stdout) == (0, "line\n"), f"`head` gave {result.exit_code} {result.stdout!r}")
        result = await stage.sh("exec true", stdin=data)
        check(result.exit_code == 0, f"`true` with unread input exited with {result.exit_code}")

    @behaviour("parallel", "commands at once really run at once")
    async def test_parallel(self, stage: Stage) -> None:
        """A server inside the sandbox that runs one command at a time makes the second one wait for the first."""
        count = 5
        others = "; ".join(await_file(f"here-{number}") for number in range(count))
        meetings = (stage.sh(f"echo x > here-{number}; {others}; echo met") for number in range(count))
        results = await asyncio.gather(*meetings)
        check([r.stdout for r in results] == ["met\n"] * count, "commands that wait for each other did not meet")

    @behaviour("many", "twenty commands at once each get their own output and code")
    async def test_many(self, stage: Stage) -> None:
        """Where connections or buffers are shared, answers get mixed up under load, and only then."""
        script = 'i=0; while [ $i -lt 50 ]; do echo "$1-$i"; i=$((i+1)); done; exit "$1"'
        results = await asyncio.gather(*(stage.sh(script, str(number)) for number in range(20)))
        for number, result in enumerate(results):
            wanted = "".join(f"{number}-{line}\n" for line in range(50))
            check(result.stdout == wanted, f"command {number} of 20 got the output {shown(result.stdout)}")
            check(result.exit_code == number, f"command {number} of 20 exited with {result.exit_code}")


def _streams(stage: Stage) -> bool:
    """Whether input and output go on side by side: live processes do."""
    return any(capability.value == "spawn" for capability in stage.raw.capabilities)
