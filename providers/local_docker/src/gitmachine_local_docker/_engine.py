"""One engine's API: aiodocker for what it does, its session for what has to be streamed; every call has a deadline.

https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiodocker
import aiohttp

from gitmachine_local_docker._dial import Dialer, DialingConnector
from gitmachine_local_docker._hijack import hijack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from gitmachine import TerminalSize
    from gitmachine_local_docker._endpoint import Endpoint
    from gitmachine_local_docker._hijack import Hijacked

__all__ = ["Engine"]

CALL_SECONDS = 60.0
SLOW_SECONDS = 300.0
"""For what moves a container's disk: creating, removing, committing."""


class Engine:
    """A connection to one engine, for one event loop. Errors are aiodocker's, aiohttp's, OSError and TimeoutError."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.dialer = Dialer(endpoint)
        self.loop = asyncio.get_running_loop()
        self._connector = DialingConnector(self.dialer)
        self._docker = aiodocker.Docker(url="http://docker", connector=self._connector)

    async def close(self) -> None:
        """Close every connection."""
        await self._docker.close()
        await self._connector.close()
        await self.dialer.close()

    # The engine

    async def version(self) -> dict[str, Any]:
        """Return the engine's version."""
        async with asyncio.timeout(CALL_SECONDS):
            return await self._docker.version()

    async def base(self) -> str:
        """Return what every path begins with: the version of the API that was agreed on."""
        if self._docker.api_version == "auto":
            await self.version()
        return f"/{self._docker.api_version}"

    async def info(self) -> Mapping[str, Any]:
        """Return what the engine says of itself."""
        async with asyncio.timeout(CALL_SECONDS):
            return await self._docker.system.info()

    # Containers

    async def create(self, body: Mapping[str, Any], *, name: str | None, platform: str | None) -> str:
        """Create a container; return its id."""
        params = {key: value for key, value in (("name", name), ("platform", platform)) if value is not None}
        request = self._request("POST", "containers/create", params=params, json=body)
        async with asyncio.timeout(SLOW_SECONDS), request as response:
            return str((await response.json())["Id"])

    async def start(self, container: str) -> None:
        """Start a created container."""
        async with asyncio.timeout(SLOW_SECONDS):
            await self._docker.containers.container(container).start()

    async def attach(self, container: str) -> Hijacked:
        """Return what the main process prints from now on; for a container that was not started yet, all of it."""
        async with asyncio.timeout(CALL_SECONDS):
            path = f"/{self._docker.api_version}/containers/{container}/attach?stream=1&stdout=1"
            return await hijack(self.dialer, path, {}, tty=False)

    async def inspect(self, container: str) -> dict[str, Any]:
        """Return what the engine knows of a container."""
        async with asyncio.timeout(CALL_SECONDS):
            return await self._docker.containers.container(container).show()

    async def remove(self, container: str) -> None:
        """Kill a container, paused or not, and remove it with its anonymous volumes; fine when it is gone already."""
        async with asyncio.timeout(SLOW_SECONDS):
            while True:
                try:
                    await self._docker.containers.container(container).delete(force=True, v=True)
                except aiodocker.DockerError as error:
                    if error.status == 409 and "already in progress" in error.message:
                        await asyncio.sleep(0.05)  # somebody else removes it: wait until it is gone
                        continue
                    if error.status != 404:
                        raise
                return

    async def pause(self, container: str) -> None:
        """Freeze a container."""
        async with asyncio.timeout(CALL_SECONDS):
            await self._docker.containers.container(container).pause()

    async def unpause(self, container: str) -> None:
        """Continue a frozen container."""
        async with asyncio.timeout(CALL_SECONDS):
            await self._docker.containers.container(container).unpause()

    async def labelled(self, *labels: str) -> list[dict[str, Any]]:
        """Return the containers, running or not, that carry all these labels (``name`` or ``name=value``)."""
        return await self._listing("containers/json", labels, all="true")

    # Commands

    async def create_exec(
        self, container: str, argv: Sequence[str], *, env: Sequence[str], user: str, stdin: bool, tty: bool
    ) -> str:
        """Prepare a command; return the exec's id."""
        async with asyncio.timeout(CALL_SECONDS):
            made = await self._docker.containers.container(container).exec(
                argv, stdin=stdin, tty=tty, user=user, environment=env
            )
            return made.id

    async def start_exec(self, exec_id: str, *, tty: bool) -> Hijacked:
        """Start a prepared command; return its streams."""
        async with asyncio.timeout(CALL_SECONDS):
            version = self._docker.api_version
            return await hijack(self.dialer, f"/{version}/exec/{exec_id}/start", {"Detach": False, "Tty": tty}, tty=tty)

    async def inspect_exec(self, exec_id: str) -> dict[str, Any]:
        """Return what the engine knows of a command."""
        async with asyncio.timeout(CALL_SECONDS):
            return await self._docker.containers.exec(exec_id).inspect()

    async def resize_exec(self, exec_id: str, size: TerminalSize) -> None:
        """Give a command's terminal another size."""
        async with asyncio.timeout(CALL_SECONDS):
            await self._docker.containers.exec(exec_id).resize(h=size.rows, w=size.columns)

    # Images

    async def image(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of an image."""
        async with asyncio.timeout(CALL_SECONDS):
            return await self._docker.images.inspect(name)

    async def images(self, label: str) -> list[dict[str, Any]]:
        """Return the images that carry a label."""
        return await self._listing("images/json", (label,))

    async def _listing(self, path: str, labels: Sequence[str], **params: str) -> list[dict[str, Any]]:
        params["filters"] = json.dumps({"label": list(labels)})
        async with asyncio.timeout(CALL_SECONDS), self._request("GET", path, params=params) as response:
            found: list[dict[str, Any]] = await response.json()
            return found

    async def delete_image(self, name: str) -> None:
        """Remove an image's name, and the image with the last; fine when it is gone already."""
        async with asyncio.timeout(SLOW_SECONDS):
            try:
                await self._docker.images.delete(name)
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise

    async def commit(self, container: str, *, repository: str, tag: str, labels: Mapping[str, str], user: str) -> str:
        """Make an image of a container's disk; return its id. The container is frozen meanwhile."""
        async with asyncio.timeout(SLOW_SECONDS):
            made = await self._docker.containers.container(container).commit(
                repository=repository, tag=tag, config={"Labels": dict(labels), "User": user}
            )
            return str(made["Id"])

    async def pull(
        self, image: str, *, tag: str | None, auth: str | None, platform: str | None
    ) -> AsyncIterator[dict[str, Any]]:
        """Pull an image, and give the engine's messages as they come.

        Args:
            image: its name, with a digest or a tag or neither.
            tag: the tag where the name has none.
            auth: the header X-Registry-Auth.
            platform: the platform, or None.

        Raises:
            aiodocker.DockerError: the registry or the engine refused, or the stream ended in the middle.
        """
        params = {"fromImage": image} | ({"tag": tag} if tag else {}) | ({"platform": platform} if platform else {})
        headers = {"X-Registry-Auth": auth} if auth else {}
        async with self._request("POST", "images/create", params=params, headers=headers) as response:
            while True:
                async with asyncio.timeout(SLOW_SECONDS):
                    line = await response.content.readline()
                if not line:
                    return
                message = json.loads(line)
                if "error" in message or "errorDetail" in message:
                    detail = message.get("errorDetail") or {}
                    raise aiodocker.DockerError(0, str(detail.get("message") or message.get("error")))
                yield message

    @contextlib.asynccontextmanager
    async def _request(self, method: str, path: str, **arguments: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send what aiodocker has no method for, or none that streams; without a deadline of its own."""
        url = f"{self._docker.docker_host}{await self.base()}/{path}"
        response = await self._docker.session.request(method, url, timeout=aiohttp.ClientTimeout(), **arguments)
        try:
            if response.status >= 400:
                text = await response.text()
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    text = str(json.loads(text)["message"])
                raise aiodocker.DockerError(response.status, text)
            yield response
        finally:
            response.release()
