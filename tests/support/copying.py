"""A provider of machines that are directories, which can be copied and outlive their process; and a plugin of it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import attrs

from gitmachine import MachineLostError, MachineState, PluginHost, ProviderSpec, hookimpl
from gitmachine.machine import Capability
from support.machines import StreamMachine

LABEL = ".label"


@attrs.frozen(kw_only=True)
class CopyingConfig:
    """Where the directories are."""

    root: str


class CopyingMachine(StreamMachine):
    """A directory that says what it is labelled, before there is anything else in it."""

    provider = "copying"
    capabilities = StreamMachine.capabilities | {Capability.FORK}

    def __init__(self, config: CopyingConfig) -> None:
        super().__init__(Path(config.root))
        self.config = config

    async def start(self) -> None:
        self.adopt(self._make(self.label))

    async def fork(self, *, label: str | None = None) -> CopyingMachine:
        """Copy the directory with the repository, one entry of that after the other."""
        copy = CopyingMachine(self.config)
        copy.label = label
        made = self._make(label)
        source, target = Path(self.workdir, "repo"), Path(made, "repo")
        target.mkdir()
        for entry in sorted(source.iterdir()):
            await copy_entry(entry, target)
        copy.adopt(made)
        return copy

    def adopt(self, directory: str) -> None:
        """Be this directory."""
        self.workdir = directory
        self._state = MachineState.RUNNING

    def _make(self, label: str | None) -> str:
        directory = tempfile.mkdtemp(prefix="machine-", dir=self.config.root)
        Path(directory, LABEL).write_text(label or "")
        return directory


async def copy_entry(entry: Path, target: Path) -> None:
    """Copy one entry of a directory: where a copy can be cut off half way."""
    if entry.is_dir():
        await asyncio.to_thread(shutil.copytree, entry, target / entry.name, symlinks=True)
    else:
        shutil.copy2(entry, target)


async def connect(machine_id: str, config: CopyingConfig) -> CopyingMachine:
    if not Path(machine_id).is_dir():
        raise MachineLostError(f"there is no directory {machine_id}", machine_id=machine_id, provider="copying")
    machine = CopyingMachine(config)
    machine.adopt(machine_id)
    return machine


async def find(label: str, config: CopyingConfig) -> str | None:
    return next((machine_id for machine_id, text in (await inventory(config)).items() if text == label), None)


async def inventory(config: CopyingConfig) -> dict[str, str]:
    return {
        str(path): label
        for path in Path(config.root).glob("machine-*")
        if (path / LABEL).is_file() and (label := (path / LABEL).read_text())
    }


class Plugin:
    """Offers the provider."""

    @hookimpl
    def gitmachine_register_providers(self) -> list[ProviderSpec]:
        here = "support.copying"
        return [
            ProviderSpec(
                name="copying",
                factory=f"{here}:CopyingMachine",
                config=f"{here}:CopyingConfig",
                connect=f"{here}:connect",
                find=f"{here}:find",
                inventory=f"{here}:inventory",
            )
        ]


def host() -> PluginHost:
    """Return a host with this plugin and no other."""
    made = PluginHost(entry_points=())
    made.register(Plugin(), "copying")
    return made
