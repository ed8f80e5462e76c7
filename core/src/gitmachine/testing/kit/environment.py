"""Environment variables: exact, private to one command, and never the client's own."""

from __future__ import annotations

import os
import secrets

from gitmachine.errors import GitMachineError
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import behaviour, check
from gitmachine.testing.kit.stage import Stage, shown

__all__ = ["EnvironmentBehaviours"]

_VALUES = (
    "",
    "plain",
    " spaces ",
    "'single'",
    '"double"',
    "$HOME ${HOME} $(touch pwned)",
    "`touch pwned`",
    "back\\slash\\n",
    "two\nlines\n",
    "-n",
    "a=b=c",
    "; touch pwned #",
    "grüße 日本",
    "\udcff not utf-8",
    "%s !x *",
)
_ODD_NAMES = ("with.dot", "with-dash", "1digit", "x;touch pwned", "$(touch pwned)", "a b", "grüße")


class EnvironmentBehaviours(KitBase):
    """What a command finds in its environment."""

    @behaviour("env-exact", "values arrive exactly, whatever they hold")
    async def test_env_exact(self, stage: Stage) -> None:
        """Values put between double quotes expand `$` and backticks; values joined into a command line fall apart."""
        env = {f"VALUE_{number}": value for number, value in enumerate(_VALUES)}
        names = " ".join(f'"$VALUE_{number}"' for number in range(len(_VALUES)))
        result = await stage.sh(f"printf '%s\\0' {names}", env=env)
        seen = result.stdout_bytes.split(b"\0")[:-1]
        check(len(seen) == len(_VALUES), f"{len(_VALUES)} variables were given, {len(seen)} arrived")
        for value, arrived in zip(_VALUES, seen, strict=True):
            wanted = value.encode("utf-8", "surrogateescape")
            check(arrived == wanted, f"the value {wanted!r} arrived as {arrived!r}")
        check(await stage.size("pwned") == 0, "a value was run as a command")

    @behaviour("env-large", "a value of 128 KiB arrives exactly")
    async def test_env_large(self, stage: Stage) -> None:
        """Values that travel on a command line meet its limit sooner, or are cut off."""
        value = "0123456789abcde\n" * 8190  # with its name and the final NUL just under the kernel's 128 KiB
        result = await stage.sh('printf "%s" "$LARGE"', env={"LARGE": value})
        check(result.stdout == value, f"a value of {len(value)} bytes arrived as {shown(result.stdout)}")

    @behaviour("env-private", "what one command sets, the next does not see")
    async def test_env_private(self, stage: Stage) -> None:
        """In tools with one long-lived shell, variables, directories and options leak from command to command."""
        await stage.good("export LEAK=1; cd /; umask 077; set -f", env={"GIVEN": "1"})
        result = await stage.sh('echo "${LEAK-none} ${GIVEN-none}"; pwd -P; umask')
        lines = result.stdout.splitlines()
        where = (await stage.good('cd "$1"; pwd -P', stage.machine.workdir)).strip()
        check(lines[0] == "none none", f"variables of one command are seen by the next: {lines[0]!r}")
        check(lines[1] == where, f"a command that changed its directory moved the next one to {lines[1]!r}")
        check(lines[2][-3:] != "077", "a command that changed its umask changed it for the next one")

    @behaviour("env-names", "an odd variable name arrives exactly or is refused, and is never run")
    async def test_env_names(self, stage: Stage) -> None:
        """Values get quoted, names are forgotten: `export $name=…` runs what the name says."""
        for name in _ODD_NAMES:
            try:
                result = await stage.run(["env"], env={name: "odd value"})
            except GitMachineError:
                continue
            lines = result.stdout.splitlines()
            check(f"{name}=odd value" in lines, f"the variable {name!r} was neither refused nor did it arrive")
        names = await stage.machine.list_files()
        check("pwned" not in names, "the name of a variable was run as a command")

    @behaviour("env-client", "nothing of the client's environment is in the machine", started=False)
    async def test_env_client(self, stage: Stage) -> None:
        """The client's environment holds its credentials; local sandboxes pass it on by default."""
        name, value = f"GM_CANARY_{secrets.token_hex(4).upper()}", secrets.token_hex(8)
        os.environ[name] = value
        try:
            await stage.machine.start()
            result = await stage.run(["env"])
        finally:
            del os.environ[name]
        check(result.exit_code == 0, f"`env` exited with {result.exit_code}")
        check(value not in result.stdout, f"the client's variable {name} is seen by commands in the machine")

    @behaviour("env-basic", "a command has a PATH, and a HOME that it can write to")
    async def test_env_basic(self, stage: Stage) -> None:
        """Installers, git and shells look for their files in HOME; in bare containers it is missing, or read-only."""
        await stage.good('test -n "$PATH" && test -d "$HOME" && echo x > "$HOME/.kit-test" && cat "$HOME/.kit-test"')
