"""The official SDK as the script's client; it runs in an environment that has the SDK and nothing of ours."""

from __future__ import annotations

from typing import Any

import e2b

_SIGNALS = {"signal: killed": 137, "signal: terminated": 143}
"""How the daemon tells of signals, and what a shell makes of them: the SDK says -1, and ours what a shell says."""


def _seen(result: Any) -> dict[str, Any]:
    code = result.exit_code if result.exit_code >= 0 else _SIGNALS[result.error]
    return {"code": code, "out": result.stdout, "err": result.stderr, "timed out": False}


class Handle:
    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def write(self, text: str) -> None:
        await self._handle.send_stdin(text)

    async def close_input(self) -> None:
        await self._handle.close_stdin()

    async def kill(self) -> None:
        await self._handle.kill()

    async def wait(self) -> dict[str, Any]:
        try:
            return _seen(await self._handle.wait())
        except e2b.CommandExitException as error:
            return _seen(error)


class Box:
    def __init__(self, sandbox: Any) -> None:
        self._sandbox = sandbox
        self.id = sandbox.sandbox_id

    async def run(self, script: str, *, timeout: float | None = None, cwd: str | None = None, env: Any = None) -> Any:
        try:
            return _seen(await self._sandbox.commands.run(script, timeout=timeout or 0, cwd=cwd, envs=env))
        except e2b.CommandExitException as error:
            return _seen(error)
        except e2b.TimeoutException:
            return {"timed out": True}

    async def start(self, script: str) -> Handle:
        return Handle(await self._sandbox.commands.run(script, background=True, stdin=True, timeout=0))

    async def write(self, path: str, data: bytes) -> None:
        await self._sandbox.files.write(path, data)

    async def read(self, path: str) -> Any:
        try:
            return bytes(await self._sandbox.files.read(path, format="bytes"))
        except e2b.NotFoundException:
            return "not found"

    async def names(self, path: str) -> Any:
        try:
            return sorted(entry.name for entry in await self._sandbox.files.list(path))
        except e2b.NotFoundException:
            return "not found"

    async def exists(self, path: str) -> bool:
        return bool(await self._sandbox.files.exists(path))

    async def make_dir(self, path: str) -> bool:
        return bool(await self._sandbox.files.make_dir(path))

    async def remove(self, path: str) -> None:
        await self._sandbox.files.remove(path)

    async def info(self) -> dict[str, Any]:
        info = await self._sandbox.get_info()
        shown = {
            "template": info.template_id,
            "name": info.name,
            "metadata": info.metadata,
            "version": info.envd_version,
        }
        return {**shown, "state": info.state.value, "cpus": info.cpu_count, "memory": info.memory_mb}

    async def pause(self) -> None:
        assert await self._sandbox.pause()

    async def resume(self) -> None:
        self._sandbox = await e2b.AsyncSandbox.connect(self.id)

    async def snapshot(self, name: str) -> str:
        return str((await self._sandbox.create_snapshot(name=name)).snapshot_id)

    async def fork(self) -> Box:
        [fork] = await self._sandbox.fork(count=1, timeout=300)
        return Box(fork)

    async def kill(self) -> None:
        await self._sandbox.kill()

    async def close(self) -> None:
        """The SDK holds nothing that is to be closed."""


class Driver:
    async def create(self, metadata: dict[str, str], envs: dict[str, str], template: str = "base") -> Box:
        return Box(await e2b.AsyncSandbox.create(template, metadata=metadata, envs=envs, timeout=300))

    async def attach(self, sandbox_id: str) -> Box:
        return Box(await e2b.AsyncSandbox.connect(sandbox_id))

    async def listed(self, metadata: dict[str, str]) -> list[str]:
        paginator = e2b.AsyncSandbox.list(query=e2b.SandboxQuery(metadata=metadata))
        found = []
        while paginator.has_next:
            found += [row.sandbox_id for row in await paginator.next_items()]
        return found

    async def delete_snapshot(self, box: Box, snapshot: str) -> bool:
        assert await e2b.AsyncSandbox.delete_snapshot(snapshot)
        return not await e2b.AsyncSandbox.delete_snapshot(snapshot)

    async def state(self, sandbox_id: str) -> str:
        try:
            return str((await e2b.AsyncSandbox.get_info(sandbox_id)).state.value)
        except e2b.NotFoundException:
            return "gone"

    async def refused(self, template: str) -> str:
        try:
            await e2b.AsyncSandbox.create(template)
        except e2b.SandboxException as error:
            return "refused" if template in str(error) else str(error)
        return "made"
