"""The warm channel as a provider uses it: a pool of long-lived shells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitmachine.execution import ExecRequest, ExecResult, Process
    from gitmachine.machines.channel.duplex import Connect, Judge, Plain
    from gitmachine.machines.channel.shell import Shell

__all__ = ["WarmPool"]


class WarmPool:
    """Runs commands in long-lived shells, one at a time in each, at the price of a fork and two execs.

    ::

        pool = WarmPool(self._connect, plain=self._spawn_plain, judge=self._judge, mark=machine_mark(self.id))
        await pool.warm()                                          # optional: opens the first shell now

        async def execute(self, request):
            return await self._pool.execute(request, cwd=self._directory(request), env=request.env)

        async def spawn(self, request):
            return await self._pool.spawn(request, cwd=self._directory(request), env=request.env)

    What the channel cannot serve (another user, a terminal, live input), and what comes while all shells are busy and
    no more can be opened, goes the provider's plain way. A pool belongs to one event loop.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        plain: Plain,
        judge: Judge | None = None,
        mark: str | None = None,
        limit: int = 16,
        hello_seconds: float = 10.0,
    ) -> None:
        """Make a pool that has no shell yet.

        Args:
            connect: opens a stream to a new shell.
            plain: starts a command without the channel. It has to honour everything in the request.
            judge: says what a lost stream means; None raises `ChannelLostError`, which is a `MachineLostError`.
            mark: what `machine_mark` returned for this machine, so that every client finds its processes; None is
                a random one.
            limit: how many shells may be open for commands (one more may be opened to kill, so keep one in reserve
                where the server counts sessions).
            hello_seconds: how long a new shell may take to answer.
        """

    @property
    def shell(self) -> Shell | None:
        """What the shells of this machine can do; None before the first has answered."""

    async def warm(self) -> bool:
        """Open a shell if there is none; return whether the channel can be used. Raises nothing of the connection."""

    def serves(self, request: ExecRequest) -> bool:
        """Whether the channel can run this command (else `execute` and `spawn` take the plain way)."""

    async def execute(self, request: ExecRequest, *, cwd: str, env: Mapping[str, str]) -> ExecResult:
        """Run a command to its end, as `Machine.execute` does.

        Args:
            request: what to run; its own `cwd` and `env` are not looked at, unless it goes the plain way.
            cwd: an absolute path.
            env: what is added to the shells' environment for this command.

        Raises:
            CommandTimeoutError: the timeout passed on the machine's clock; the whole tree was killed.
            MachineFileNotFoundError: there is no such directory, and nothing ran (or its siblings, as errno says).
            ChannelLostError: or what `judge` made of it.
        """

    async def spawn(self, request: ExecRequest, *, cwd: str, env: Mapping[str, str]) -> Process:
        """Start a command and return the live process, as `Machine.spawn` does; with `open_stdin` the plain way.

        A missing directory is raised by `wait` and by the end of both streams.
        """

    def new_mark(self) -> str:
        """Return a mark of this machine for a command that is started the plain way; see `marked`."""

    def marked(self, argv: Sequence[str], mark: str) -> list[str]:
        """Return a command that puts the mark on itself and becomes `argv`; `argv` itself where there are no marks."""

    async def kill(self, mark: str) -> None:
        """Kill every process that carries a mark of `new_mark`, whatever it did to get away; waits until it is done.

        Raises:
            MachineError: no shell could be had for it.
        """

    async def kill_everything(self) -> None:
        """Kill all commands of this machine, and all that they left behind, whichever client started them.

        The pool's own shells stay. Running commands end with 137.
        """

    async def close(self) -> None:
        """Close every shell. Commands that are running go on in the machine; whoever waits for them is told."""
