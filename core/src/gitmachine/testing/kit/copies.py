"""Snapshots and forks, both ways: copies that are whole, apart from each other, and gone when they are removed."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from gitmachine.machine import Capability, MachineState
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import behaviour, check
from gitmachine.testing.kit.capabilities import refused

if TYPE_CHECKING:
    from gitmachine.testing.kit.stage import Stage

__all__ = ["CopyBehaviours"]

_BEAT = "( while :; do echo x >> beat; sleep 0.05 || sleep 1; done ) >/dev/null 2>&1 &"


class CopyBehaviours(KitBase):
    """A copy is worth something when nothing of the original is missing in it and nothing of it shows there."""

    @behaviour("can-snapshot", "snapshots are made, listed and deleted if declared, else UnsupportedOperation")
    async def test_can_snapshot(self, stage: Stage) -> None:
        """Snapshots that nobody can list cost money for ever; some stop the machine to make them."""
        if Capability.SNAPSHOT not in stage.raw.capabilities:
            await refused(stage, "snapshot", stage.raw.snapshot)
            await refused(stage, "snapshots", stage.raw.snapshots)
            await refused(stage, "delete_snapshot", lambda: stage.raw.delete_snapshot("none"))
            return
        await stage.good(f"echo kept > kept; {_BEAT}")
        await stage.grows("beat")
        before = await stage.machine.snapshots()
        made: list[str] = []
        try:
            made.append(await stage.machine.snapshot(f"gitmachine-kit-{secrets.token_hex(4)}"))
            await stage.grows("beat")
            made.append(await stage.machine.snapshot())
            listed = await stage.machine.snapshots()
            check(listed == [*before, *made], f"made were the snapshots {made}, listed are {listed}")
            check((await stage.sh("cat kept")).stdout == "kept\n", "after a snapshot the machine is not usable")
            first = made.pop(0)
            await stage.machine.delete_snapshot(first)
            await stage.machine.delete_snapshot(first)
            listed = await stage.machine.snapshots()
            check(listed == [*before, *made], f"of two snapshots the first was deleted, listed are {listed}")
        finally:
            for snapshot in made:
                await stage.machine.delete_snapshot(snapshot)

    @behaviour("can-fork", "fork makes a machine that begins as a copy if declared, else UnsupportedOperation")
    async def test_can_fork(self, stage: Stage) -> None:
        """A copy that shares a disk, a label or an end with its original is no copy."""
        if Capability.FORK not in stage.raw.capabilities:
            await refused(stage, "fork", stage.raw.fork)
            return
        await stage.good(f"mkdir -p a; echo both > a/both; chmod 750 a/both; ln -s both a/link; {_BEAT}")
        await stage.grows("beat")
        label = f"gitmachine-kit-{secrets.token_hex(4)}"
        raw = await stage.machine.fork(label=label)
        copy = stage.adopt(raw)
        check(raw is not stage.raw and raw.id not in {None, stage.raw.id}, f"the copy has the id {raw.id}")
        check(raw.state is MachineState.RUNNING, f"the copy is {raw.state.value}, not running")
        check(raw.label == label, f"the copy was to have the label {label!r}, it has {raw.label!r}")
        result = await stage.sh("cat a/link; test -x a/both && echo mode", on=copy)
        check(result.stdout == "both\nmode\n", f"the copy's files are not those of the original: {result}")
        size = len(await copy.read_file("beat"))
        await stage.good("echo original > a/both")
        await stage.sh("echo copy > a/both; echo x > only-copy", on=copy)
        await stage.grows("beat")
        check(len(await copy.read_file("beat")) == size, "what goes on in the original shows in the copy")
        seen = await stage.good("cat a/both; test -e only-copy || echo none")
        check(seen == "original\nnone\n", f"what was written in the copy shows in the original: {seen!r}")
        await stage.machine.stop()
        result = await stage.sh("cat a/both only-copy", on=copy)
        check(result.stdout == "copy\nx\n", f"when the original had stopped, the copy answered {result}")
