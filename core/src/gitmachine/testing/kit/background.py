"""Children that outlive their command."""

from __future__ import annotations

from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import behaviour, check
from gitmachine.testing.kit.stage import NAP, Stage, await_file

__all__ = ["BackgroundBehaviours"]


class BackgroundBehaviours(KitBase):
    """What becomes of ``server &``."""

    @behaviour("background-returns", "a command is over when its shell exits, even while a child keeps the pipes open")
    async def test_background_returns(self, stage: Stage) -> None:
        """Whoever reads output to its end waits for the server to stop: the classic hang of subprocess pipes."""
        result = await stage.sh(f"( {await_file('go')} ) & echo started")
        check(result.stdout == "started\n", f"the output was {result.stdout!r}")
        await stage.signal("go")

    @behaviour("background-lives", "a child lives on after its command, and can go on writing")
    async def test_background_lives(self, stage: Stage) -> None:
        """Tools that clean up after each command, or close the pipes, kill the server that was just started."""
        noise = "i=0; while [ $i -lt 3000 ]; do echo a line of forty characters or about so; i=$((i+1)); done"
        result = await stage.sh(f"( {await_file('go')}; {noise}; echo done > done ) 2>/dev/null & echo started")
        check(result.stdout == "started\n", f"the output was {result.stdout!r}")
        await stage.signal("go")

        async def done() -> bool:
            return await stage.size("done") > 0

        await stage.until("a background child goes on after its command was over", done)

    @behaviour("background-late", "what a child writes late is in no other command's output")
    async def test_background_late(self, stage: Stage) -> None:
        """Where commands share a shell and its pipes, the server's log is found in the next command's result."""
        await stage.sh(f"( {await_file('go')}; echo late; echo done > done ) 2>/dev/null & echo started")
        await stage.signal("go")

        async def done() -> bool:
            return await stage.size("done") > 0

        await stage.until("a background child writes", done)
        for _ in range(3):
            result = await stage.sh(f"echo mine; {NAP}; echo mine >&2")
            check(
                (result.stdout, result.stderr) == ("mine\n", "mine\n"),
                f"a command that prints 'mine' got the output {result.stdout!r} and {result.stderr!r}",
            )

    @behaviour("background-detached", "a detached child with files of its own is left alone")
    async def test_background_detached(self, stage: Stage) -> None:
        """`setsid` or `nohup`, and output to a file, is how people start servers everywhere."""
        script = f"{await_file('go')}; echo done; echo done > done"
        await stage.good('setsid sh -c "$1" </dev/null >log 2>&1 &', script)
        await stage.signal("go")

        async def done() -> bool:
            return await stage.size("done") > 0

        await stage.until("a detached child goes on", done)
