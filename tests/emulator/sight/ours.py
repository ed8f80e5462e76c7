"""Our own client as the script's."""

from __future__ import annotations

from typing import Any

from gitmachine import CommandTimeoutError, ExecRequest, MachineLostError, MachineStartError
from gitmachine_e2b import E2BConfig, E2BMachine


def _argv(script: str) -> tuple[str, ...]:
    return "/bin/bash", "-l", "-c", script  # as the SDK runs what it is given


class Handle:
    def __init__(self, process: Any) -> None:
        self._process = process

    async def write(self, text: str) -> None:
        await self._process.stdin.write(text.encode())

    async def close_input(self) -> None:
        await self._process.stdin.close()

    async def kill(self) -> None:
        await self._process.kill()

    async def wait(self) -> dict[str, Any]:
        out = b"".join([chunk async for chunk in self._process.stdout])
        err = b"".join([chunk async for chunk in self._process.stderr])
        code = await self._process.wait()
        return {"code": code, "out": out.decode(), "err": err.decode(), "timed out": False}


class Box:
    def __init__(self, machine: E2BMachine) -> None:
        self._machine = machine
        self.id = str(machine.id)

    async def run(self, script: str, *, timeout: float | None = None, cwd: str | None = None, env: Any = None) -> Any:
        request = ExecRequest(argv=_argv(script), timeout=timeout, cwd=cwd, env=env or {})
        try:
            result = await self._machine.execute(request)
        except CommandTimeoutError:
            return {"timed out": True}
        return {"code": result.exit_code, "out": result.stdout, "err": result.stderr, "timed out": False}

    async def start(self, script: str) -> Handle:
        return Handle(await self._machine.spawn(ExecRequest(argv=_argv(script), open_stdin=True)))

    async def write(self, path: str, data: bytes) -> None:
        await self._machine.write_file(path, data)

    async def read(self, path: str) -> Any:
        try:
            return await self._machine.read_file(path)
        except FileNotFoundError:
            return "not found"

    async def names(self, path: str) -> Any:
        try:
            return await self._machine.list_files(path)
        except FileNotFoundError:
            return "not found"

    async def exists(self, path: str) -> bool:
        return await self._machine.exists(path)

    async def make_dir(self, path: str) -> bool:
        return await self._machine.make_dir(path)

    async def remove(self, path: str) -> None:
        await self._machine.remove(path)

    async def info(self) -> dict[str, Any]:
        info = await self._machine.get_info()
        metadata = {name: text for name, text in (info.metadata or {}).items() if not name.startswith("gitmachine")}
        shown = {"template": info.template_id, "name": info.alias, "metadata": metadata, "version": info.envd_version}
        return {**shown, "state": info.state, "cpus": info.cpu_count, "memory": info.memory_mib}

    async def pause(self) -> None:
        await self._machine.pause()

    async def resume(self) -> None:
        await self._machine.resume()

    async def snapshot(self, name: str) -> str:
        return await self._machine.snapshot(name)

    async def fork(self) -> Box:
        return Box(await self._machine.fork())

    async def kill(self) -> None:
        await self._machine.stop()

    async def close(self) -> None:
        await self._machine.close()


class Driver:
    async def create(self, metadata: dict[str, str], envs: dict[str, str], template: str = "base") -> Box:
        machine = E2BMachine(E2BConfig(template=template, metadata=metadata, envs=envs))
        await machine.start()
        return Box(machine)

    async def attach(self, sandbox_id: str) -> Box:
        return Box(await E2BMachine.connect(sandbox_id))

    async def listed(self, metadata: dict[str, str]) -> list[str]:
        api = E2BMachine(E2BConfig())._control_plane()  # what a machine asks of it is narrower
        try:
            return [sandbox.id async for sandbox in api.sandboxes(metadata=metadata)]
        finally:
            await api.close()

    async def delete_snapshot(self, box: Box, snapshot: str) -> bool:
        assert snapshot in await box._machine.snapshots()
        await box._machine.delete_snapshot(snapshot)
        return snapshot not in await box._machine.snapshots()

    async def state(self, sandbox_id: str) -> str:
        try:
            machine = await E2BMachine.connect(sandbox_id)
        except MachineLostError:
            return "gone"
        await machine.close()
        return str(machine.state)

    async def refused(self, template: str) -> str:
        try:
            await self.create({}, {}, template=template)
        except MachineStartError as error:
            return "refused" if template in str(error) else str(error)
        return "made"
