"""The E2B machine: a sandbox of E2B's service, over its REST API and the daemon inside."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import secrets
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine import MachineError
from gitmachine.archives import look_at, plain
from gitmachine.execution import run_process
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, MachineState
from gitmachine_e2b import _births, _commands
from gitmachine_e2b._connected import ConnectedMachine
from gitmachine_e2b._envd import Envd
from gitmachine_e2b._errors import PROBLEMS, PROVIDER, Refusal, machine_errors
from gitmachine_e2b._hosts import Sandboxed, address_of, host_of
from gitmachine_e2b._snapshots import FORK_NAME, drop_snapshot, is_for_a_fork, remove
from gitmachine_e2b._starting import begin, find_workdir, start_error

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine import ExecRequest, ExecResult, Process
    from gitmachine.archives import Transfer
    from gitmachine.machine import Host
    from gitmachine_e2b._link import Link
    from gitmachine_e2b._records import Metric, SandboxInfo
    from gitmachine_e2b.config import E2BConfig, E2BNetwork

__all__ = ["E2BMachine", "connect", "find", "inventory"]


class E2BMachine(ConnectedMachine):
    """Commands run in a sandbox of E2B: a small virtual machine with a disk of its own.

    The sandbox lives until `stop`, or until its timeout passes while nobody extends it. A machine that is in use
    extends it; when the service grants no more, `on_expiry` is called with the end, and the log says so.
    """

    @classmethod
    async def connect(cls, machine_id: str, config: E2BConfig | None = None) -> E2BMachine:
        """Take over a sandbox that exists, running or paused; a paused one stays so until `resume`.

        Raises:
            MachineLostError: there is none.
        """
        machine = cls(config)
        api = machine._control_plane()
        try:
            with machine_errors(machine_id, "connect"):
                info = await api.get(machine_id)
                paused = info.state == "paused"
                # a running one is asked in the way that extends it, and that tells the tokens
                sandbox = info if paused else await api.connect(machine_id, machine.config.timeout)
        except BaseException:
            await api.close()
            raise
        machine._adopt(Sandboxed.of(sandbox, info.metadata))
        machine._state = MachineState.PAUSED if paused else MachineState.RUNNING
        machine._hold(api, Envd(address_of(machine.config, machine._known()), seconds=machine.config.seconds))
        try:
            if not paused:
                async with machine._asking("connect") as link:
                    await machine._look_around(link)
        except BaseException:
            await machine.close()
            raise
        return machine

    async def _look_around(self, link: Link) -> None:
        """Find out what is known only when the sandbox runs, unless that was done."""
        if not self._seen:
            self.workdir = link.content.workdir = await find_workdir(link.envd)
            self._seen = True

    # Life

    async def start(self) -> None:
        """Make a sandbox and wait until commands can run in it."""
        body = _births.creation(self.config, label=self.label, template=self.config.template)
        await self._begin(body, "start")

    async def _begin(self, body: dict[str, Any], operation: str) -> None:
        api = self._control_plane()
        try:
            sandbox, envd, self.workdir = await begin(api, self.config, body)
        except PROBLEMS as problem:
            await api.close()
            raise start_error(problem, body["templateID"], operation) from problem
        except BaseException:
            await api.close()
            raise
        self._adopt(Sandboxed.of(sandbox, body["metadata"]))
        self._state, self._seen = MachineState.RUNNING, True
        self._hold(api, envd)

    async def stop(self) -> None:
        """End the sandbox, running or paused, and a snapshot that was made for it alone."""
        if self._sandbox is not None:
            async with self._asking("stop") as link:
                await link.lifetime.stop()
                await link.api.kill(self._sandbox.id)
                snapshot = self._sandbox.metadata.get(_births.SOURCE)
                if snapshot is not None:
                    await link.api.delete_snapshot(snapshot)
        await self._disconnect("the machine was stopped")
        self._sandbox = None
        self._state = MachineState.STOPPED

    async def pause(self) -> None:
        """Save the sandbox with its processes; it costs nothing but storage then, and its time stands still."""
        async with self._asking("pause") as link:
            await link.lifetime.stop()
            try:
                self._frozen = await link.freeze()
                await link.api.pause(link.id)
            except BaseException:
                await asyncio.shield(self._go_on(link))
                raise
            self._state = MachineState.PAUSED
            await link.envd.close()

    async def _go_on(self, link: Link) -> None:
        """Undo the beginning of a pause that did not come about."""
        frozen, self._frozen = self._frozen, []
        with contextlib.suppress(*PROBLEMS):
            await link.thaw(frozen)
        link.lifetime.start()

    async def resume(self) -> None:
        """Let the sandbox, its processes and the commands of this machine go on."""
        async with self._asking("resume") as link:
            sandbox = await link.api.connect(link.id, self.config.timeout)
            self._adopt(Sandboxed.of(sandbox, self._known().metadata))
            await link.envd.close()
            link.use(Envd(address_of(self.config, self._known()), seconds=self.config.seconds), self.workdir)
            self._state = MachineState.RUNNING
            frozen, self._frozen = self._frozen, []
            await link.thaw(frozen)
            await self._look_around(link)
            link.lifetime.start()

    async def terminate_processes(self) -> None:
        """Kill what commands of GitMachine left behind; also those that are running."""
        async with self._asking("terminate_processes") as link:
            await link.terminate()

    async def close(self) -> None:
        """Let go of the sandbox; it lives on until its timeout, and so do its commands."""
        await self._disconnect("the machine was let go")

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end. An input that is known goes in as a whole."""
        stdin = request.stdin
        if stdin is None or request.terminal is not None:
            return await super().execute(request)
        if not isinstance(stdin, bytes):
            if Capability.STDIN_EOF in self.capabilities:
                return await super().execute(request)
            stdin = await _commands.collected(stdin)
        process = await _commands.launch(self._link(), request, self.workdir, stdin=stdin)
        return await run_process(process, attrs.evolve(request, stdin=None, open_stdin=False))

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command and return the live process."""
        return await _commands.launch(self._link(), request, self.workdir)

    # Files

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        async with self._asking("read_file") as link:
            return await link.content.read(path, max_bytes)

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically."""
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        async with self._asking("write_file") as link:
            await link.content.write(path, content)

    async def upload(self, source: Path, target: str) -> Transfer:
        """Copy something of this host into the machine; a file is one request, whatever its size."""
        found = await look_at(source)
        if found.size is None or posixpath.basename(target) in {"", ".", ".."}:
            return await super().upload(source, target)
        async with self._asking("upload") as link, contextlib.aclosing(plain(source, found.size)) as content:
            await link.content.put(found, content, target)
            return content.transfer

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        async with self._asking("list_files") as link:
            return await link.content.names(path)

    async def make_dir(self, path: str) -> bool:
        """Make a directory with its parents; False when there is one already."""
        async with self._asking("make_dir") as link:
            return await link.content.files.make_dir(link.content.path(path, "make"), user=self.config.user)

    async def remove(self, path: str) -> None:
        """Remove a file, or a directory with everything in it; no error when there is none."""
        async with self._asking("remove") as link:
            await link.content.files.remove(link.content.path(path, "remove"))

    async def exists(self, path: str) -> bool:
        """Whether there is something at a path."""
        async with self._asking("exists") as link:
            return await link.content.exists(path)

    # The sandbox

    async def is_running(self) -> bool:
        """Whether the sandbox runs, as the service knows it; a paused one is not woken by asking."""
        if self._sandbox is None:
            return False
        async with self._asking("is_running") as link:
            try:
                return (await link.api.get(link.id)).state == "running"
            except Refusal as refusal:
                if refusal.status == 404:
                    return False
                raise

    async def get_info(self) -> SandboxInfo:
        """Return how the service describes the sandbox; a paused one is not woken by asking."""
        async with self._asking("get_info") as link:
            return await link.api.get(link.id)

    async def get_metrics(self) -> tuple[Metric, ...]:
        """Return how busy the sandbox was, oldest first."""
        async with self._asking("get_metrics") as link:
            return await link.api.metrics(link.id)

    async def set_timeout(self, seconds: int) -> None:
        """Let the sandbox end so many seconds after nobody uses it any more, sooner or later than before."""
        async with self._asking("set_timeout") as link:
            await link.api.set_timeout(link.id, seconds)
            await link.lifetime.change(seconds)

    async def set_network(self, network: E2BNetwork) -> None:
        """Replace the rules of what the sandbox may reach; who may reach it is settled at its start."""
        body = network.body()
        for fixed in ("allowPublicTraffic", "maskRequestHost"):
            body.pop(fixed, None)
        async with self._asking("set_network") as link:
            await link.api.set_network(link.id, body)

    async def get_host(self, port: int) -> Host:
        """Return where a port of the sandbox can be reached."""
        if not 0 < port < 1 << 16:
            raise MachineError(f"a port is 1 to 65535, not {port}", machine_id=self.id, provider=PROVIDER)
        return host_of(self.config, self._known(), port)

    # Copies

    async def snapshot(self, name: str | None = None) -> str:
        """Save the running sandbox; what is returned can be a `template`."""
        async with self._asking("snapshot") as link:
            return (await link.api.snapshot(link.id, name)).id

    async def snapshots(self) -> list[str]:
        """Return the snapshots that were made of this sandbox, but for those that forks live on."""
        async with self._asking("snapshots") as link:
            found = await link.api.snapshots(link.id)
        # the service lists the newest first
        return [one.id for one in reversed(found) if not is_for_a_fork(one)]

    async def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot; no error when it is gone. A template that is no snapshot is left alone."""
        async with self._asking("delete_snapshot") as link:
            await remove(link.api, snapshot)

    async def fork(self, *, label: str | None = None) -> E2BMachine:
        """Return another sandbox that begins as a copy of this one.

        The service's own fork copies the metadata too, and with it this machine's label; so a snapshot is made, and a
        sandbox of it with metadata of its own. The snapshot is removed when that one is stopped.
        """
        name = f"{FORK_NAME}{label or secrets.token_hex(6)}"  # by the label it is found when there is no sandbox of it
        copy = E2BMachine(self.config)
        copy.label = label
        async with self._asking("fork") as link:
            try:
                snapshot = (await link.api.snapshot(link.id, name)).id
                body = _births.creation(self.config, label=label, template=snapshot, source=snapshot)
                await copy._begin(body, "fork")
                await copy.terminate_processes()
            except BaseException:
                await asyncio.shield(self._undo_fork(link, copy, name))
                raise
        return copy

    async def _undo_fork(self, link: Link, copy: E2BMachine, name: str) -> None:
        with contextlib.suppress(MachineError):
            await copy.stop()
        with contextlib.suppress(*PROBLEMS):
            for one in await link.api.snapshots(link.id):
                if any(name in text for text in (one.id, *one.names)):
                    await link.api.delete_snapshot(one.id)


async def connect(machine_id: str, config: E2BConfig | None = None) -> E2BMachine:
    """Take over a sandbox that exists; see `E2BMachine.connect`."""
    return await E2BMachine.connect(machine_id, config)


async def find(label: str, config: E2BConfig | None = None) -> str | None:
    """Return the id of the sandbox that a session labelled, or None; then a snapshot made for it is removed."""
    found = await _marked({_births.LABEL: label}, config)
    machine_id = next((machine_id for machine_id, text in found.items() if text == label), None)
    if machine_id is None:
        with contextlib.suppress(MachineError):  # a service without snapshots, say: whoever looks wants the sandbox
            await drop_snapshot(f"{FORK_NAME}{label}", E2BMachine(config).config)
    return machine_id


async def inventory(config: E2BConfig | None = None) -> dict[str, str]:
    """Return all sandboxes of the team that carry a label, running and paused."""
    return await _marked(None, config)


async def _marked(metadata: dict[str, str] | None, config: E2BConfig | None) -> dict[str, str]:
    api = E2BMachine(config)._control_plane()
    try:
        with machine_errors(None, "list"):
            return {
                sandbox.id: sandbox.metadata[_births.LABEL]
                async for sandbox in api.sandboxes(metadata=metadata)
                if sandbox.metadata and _births.LABEL in sandbox.metadata
            }
    finally:
        await api.close()
