"""Shells for the warm channel: each an exec of ``sh`` that stays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gitmachine import MachineError
from gitmachine.machines.channel import ChannelLostError, WarmPool
from gitmachine_local_docker._errors import PROVIDER, machine_errors

if TYPE_CHECKING:
    from gitmachine.machines.channel import Duplex, Plain, Receiver
    from gitmachine_local_docker._container import Container
    from gitmachine_local_docker._gate import Hold
    from gitmachine_local_docker._hijack import Hijacked

__all__ = ["warm_pool"]


class _Shell:
    """One exec's streams, as the pool wants them."""

    def __init__(self, stream: Hijacked, hold: Hold) -> None:
        self._stream = stream
        self._hold = hold
        self.write = stream.write
        self.drain = stream.drain

    def pause_reading(self) -> None:
        """Let nothing arrive."""
        self._stream.hold(True)

    def resume_reading(self) -> None:
        """Let it arrive again."""
        self._stream.hold(False)

    async def close(self) -> None:
        """Close the connection; the engine ends the shell's input, and it exits."""
        self._stream.close()
        self._hold.release()


def warm_pool(container: Container, user: str, plain: Plain) -> WarmPool:
    """Return a pool of shells in a container.

    Args:
        container: where.
        user: whom the shells belong to.
        plain: how to run what the pool cannot serve.
    """

    async def connect(receiver: Receiver) -> Duplex:
        engine = container.engine
        hold = await container.starts.gate.enter()

        def feed(number: int, data: bytes) -> None:
            hold.release()  # what says something is not half started any more
            receiver.feed(1 if number == 1 else 2, data)

        def ended(error: Exception | None = None) -> None:
            hold.release()
            receiver.ended(error)

        try:
            with machine_errors(engine.dialer, container.id, "execute"):
                exec_id = await engine.create_exec(container.id, ["sh"], env=[], user=user, stdin=True, tty=False)
                stream = await engine.start_exec(exec_id, tty=False)
        except BaseException:
            hold.release()
            raise
        stream.deliver(feed, ended)
        return _Shell(stream, hold)

    async def judge(error: ChannelLostError) -> Exception:
        if not await container.is_alive():
            return await container.death("execute")
        if await container.ran_out_of_memory(time.monotonic() - 60):
            what = "the container ran out of memory, and the kernel killed the shell that ran the command: give it more"
            return MachineError(what, machine_id=container.id, provider=PROVIDER, operation="execute")
        return MachineError(
            "the shell that ran the command was killed, by the command or by somebody else; the container goes on",
            machine_id=container.id,
            provider=PROVIDER,
            operation="execute",
        )

    return WarmPool(connect, plain=plain, judge=judge, mark=container.mark)
