"""The warm channel: commands in long-lived shells, for providers that can open a stream to ``sh``.

See `WarmPool` for its use, `Duplex` and `Receiver` for what a provider brings, `scripts` for what can be done to all
processes of a machine by any shell of it.
"""

from __future__ import annotations

from gitmachine.machines.channel.duplex import (
    ChannelLostError,
    Connect,
    Duplex,
    Judge,
    Plain,
    Receiver,
    StreamNumber,
)
from gitmachine.machines.channel.pool import WarmPool
from gitmachine.machines.channel.scripts import (
    freeze_script,
    kill_script,
    machine_mark,
    new_mark,
    thaw_script,
)
from gitmachine.machines.channel.shell import Shell

__all__ = [
    "ChannelLostError",
    "Connect",
    "Duplex",
    "Judge",
    "Plain",
    "Receiver",
    "Shell",
    "StreamNumber",
    "WarmPool",
    "freeze_script",
    "kill_script",
    "machine_mark",
    "new_mark",
    "thaw_script",
]
