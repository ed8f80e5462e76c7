"""The emulator as a whole: both planes on two ports of this machine, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from aiohttp import web

from support.e2b import trees
from support.e2b.control import Control
from support.e2b.copies import Copies
from support.e2b.edge import Edge
from support.e2b.errors import ApiError
from support.e2b.faults import Faults
from support.e2b.front import middleware
from support.e2b.knobs import Knobs
from support.e2b.launcher import Launcher
from support.e2b.recording import Recorded
from support.e2b.sandboxes import Sandboxes
from support.e2b.settings import Settings
from support.e2b.templates import Templates
from support.e2b.versions import CURRENT

API_KEY = "e2b_00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff"
OTHER_KEY = "e2b_11ee11ee11ee11ee11ee11ee11ee11ee11ee11ee"
"""Another team's key."""
_SECONDS = 60.0


@attrs.define(kw_only=True, eq=False)
class Emulator:
    """A running emulator."""

    settings: Settings
    api_key: str = API_KEY
    other_key: str = OTHER_KEY
    api_url: str = ""
    sandbox_url: str = ""
    requests: list[Recorded] = attrs.field(factory=list)
    faults: Faults = attrs.field(factory=Faults)
    sandboxes: Sandboxes | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a client here."""
        return {"E2B_API_URL": self.api_url, "E2B_SANDBOX_URL": self.sandbox_url, "E2B_API_KEY": self.api_key}

    @property
    def sandbox_ids(self) -> list[str]:
        """The sandboxes there are now, running and paused, of every team."""
        return [] if self.sandboxes is None else [sandbox.sandbox_id for sandbox in self.sandboxes.all()]


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:  # no such route
        return web.json_response({"code": error.status, "message": error.reason}, status=error.status)


async def _site(app: web.Application, host: str, port: int, **options: Any) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **options)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=512)
    await site.start()
    return runner, f"http://{host}:{runner.addresses[0][1]}"


@contextlib.asynccontextmanager
async def running(
    directory: Path, settings: Settings, *, port: int = 0, sandbox_port: int = 0
) -> AsyncIterator[Emulator]:
    """Run an emulator in this event loop; port 0 takes a free one."""
    emulator = Emulator(settings=settings)
    trees.make_accounts(directory / "accounts")
    launcher = Launcher(directory / "accounts")
    sandboxes = emulator.sandboxes = Sandboxes(directory, launcher, settings)
    templates = Templates(directory, settings)
    edge = Edge(sandboxes)
    control = Control(sandboxes, templates, settings, {emulator.api_key, emulator.other_key})
    api = web.Application(middlewares=[middleware("api", emulator.requests, emulator.faults), _errors])
    api.add_routes(Copies(control, sandboxes, templates, settings).routes())
    api.add_routes(control.routes())
    api.add_routes(Knobs(sandboxes, emulator.faults, emulator.requests, settings).routes())
    data = web.Application(middlewares=[middleware("sandbox", emulator.requests, emulator.faults)])
    data.router.add_route("*", "/{path:.*}", edge.handle)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(launcher.close)
        stack.push_async_callback(sandboxes.close)
        stack.push_async_callback(edge.close)
        runner, emulator.api_url = await _site(api, "127.0.0.1", port)
        stack.push_async_callback(runner.cleanup)
        runner, emulator.sandbox_url = await _site(
            data, "127.0.0.1", sandbox_port, handler_cancellation=True, auto_decompress=False
        )
        stack.push_async_callback(runner.cleanup)
        yield emulator


def missing() -> str | None:
    """Return why no sandbox can be emulated here, or None."""

    async def attempt(directory: Path) -> None:
        async with running(directory, Settings()) as emulator:
            assert emulator.sandboxes is not None
            await emulator.sandboxes.create(
                team="", template_id="", alias=None, version=CURRENT, body={}, timeout=60, secure=False
            )

    with tempfile.TemporaryDirectory(prefix="e2b-emulator-") as directory:
        try:
            asyncio.run(attempt(Path(directory)))
        except (ApiError, OSError, TimeoutError) as error:
            return f"no sandbox can be emulated here: {error}"
    return None


@contextlib.contextmanager
def serving(settings: Settings | None = None, **changes: Any) -> Iterator[Emulator]:
    """Run an emulator in a thread for the time of a block; `changes` are fields of `Settings`."""
    chosen = attrs.evolve(settings or Settings(), **changes)
    directory = Path(tempfile.mkdtemp(prefix="e2b-emulator-"))
    directory.chmod(0o755)
    loop = asyncio.new_event_loop()
    stop, started = asyncio.Event(), threading.Event()
    found: list[Emulator] = []
    failure: list[BaseException] = []

    async def run() -> None:
        async with running(directory, chosen) as emulator:
            found.append(emulator)
            started.set()
            await stop.wait()

    def live() -> None:
        try:
            loop.run_until_complete(run())
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=live, name="e2b-emulator", daemon=True)
    thread.start()
    try:
        if not started.wait(_SECONDS):
            raise TimeoutError("the emulator did not start")
        if failure:
            raise failure[0]
        yield found[0]
    finally:
        if not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it ended by itself
                loop.call_soon_threadsafe(stop.set)
        thread.join(_SECONDS)
        shutil.rmtree(directory, ignore_errors=True)
    if failure:
        raise failure[0]
