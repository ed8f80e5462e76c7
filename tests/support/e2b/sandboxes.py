"""The life of sandboxes: made, paused, resumed, forked, ended by their timeout or by a call (reference, 1.6)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import string
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from support.e2b import trees
from support.e2b.envd.config import EnvdConfig
from support.e2b.errors import ApiError, missing
from support.e2b.launcher import Guest, Launcher
from support.e2b.settings import Settings
from support.e2b.signatures import token

_ALPHABET = string.ascii_lowercase + string.digits
_BOOT_SECONDS = 60.0


def new_id(prefix: str = "i") -> str:
    """Make an identifier as the service does."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(19))


@attrs.define(kw_only=True, eq=False)
class Sandbox:
    """One sandbox, running or paused."""

    sandbox_id: str
    team: str
    template_id: str
    alias: str | None
    version: str
    tree: Path
    timeout: int
    secure: bool
    body: Mapping[str, Any]
    """What its creation asked, as it came."""
    access_token: str
    traffic_token: str
    started_at: float = attrs.field(factory=time.time)
    end_at: float = 0.0
    state: str = "running"
    transition: str | None = None
    memory: bool = True
    """Whether a paused one has its processes."""
    network: dict[str, Any] | None = None
    allow_internet_access: bool | None = None
    guest: Guest | None = None
    session: aiohttp.ClientSession | None = None
    work: set[asyncio.Task[Any]] = attrs.field(factory=set)
    """Requests on their way to its daemon."""
    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    timer: asyncio.TimerHandle | None = None

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.body.get("metadata") or {})

    @property
    def auto_resume(self) -> bool:
        return bool((self.body.get("autoResume") or {}).get("enabled"))

    def cut(self) -> None:
        """Cut whatever is on its way to the daemon."""
        for task in list(self.work):
            task.cancel()


class Sandboxes:
    """All sandboxes of an emulator."""

    def __init__(self, directory: Path, launcher: Launcher, settings: Settings) -> None:
        self.directory = directory
        self.settings = settings
        self._launcher = launcher
        self._secret = secrets.token_bytes(16)
        self._all: dict[str, Sandbox] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def all(self) -> list[Sandbox]:
        return list(self._all.values())

    def running(self) -> list[Sandbox]:
        return [
            sandbox for sandbox in self._all.values() if sandbox.state == "running" and sandbox.transition != "killing"
        ]

    def get(self, sandbox_id: str) -> Sandbox | None:
        """Find a sandbox that is not being killed; also by the older form `<id>-<client>`."""
        sandbox = self._all.get(sandbox_id.partition("-")[0])
        return None if sandbox is None or sandbox.transition == "killing" else sandbox

    def owned(self, sandbox_id: str, team: str) -> Sandbox:
        """Find a team's sandbox.

        Raises:
            ApiError: 400 for what cannot be an id, 404 for what is not there.
        """
        if sandbox_id.count("-") > 1:
            raise ApiError(400, f"Invalid sandbox ID: {sandbox_id}")
        sandbox = self.get(sandbox_id)
        if sandbox is None or sandbox.team != team:
            raise missing(sandbox_id.partition("-")[0])
        return sandbox

    # Beginning

    async def create(
        self, *, team: str, template_id: str, alias: str | None, version: str, body: Mapping[str, Any], timeout: int,
        secure: bool, source: Path | None = None,
    ) -> Sandbox:  # fmt: skip
        """Make a sandbox, from nothing or from the files of a snapshot."""
        limit = self.settings.concurrency_limit
        if len(self.running()) >= limit:
            raise ApiError(429, f"you have reached the maximum number of concurrent E2B sandboxes ({limit})")
        sandbox_id = new_id()
        sandbox = Sandbox(
            sandbox_id=sandbox_id,
            team=team,
            template_id=template_id,
            alias=alias,
            version=version,
            tree=self.directory / "sandboxes" / sandbox_id,
            timeout=timeout,
            secure=secure,
            body=body,
            access_token=token(self._secret, "ea", sandbox_id),
            traffic_token=token(self._secret, "ta", sandbox_id),
            network=body.get("network"),
            allow_internet_access=body.get("allow_internet_access"),
        )
        if source is None:
            trees.make(sandbox.tree)
        else:
            await asyncio.to_thread(trees.copy, source, sandbox.tree)
        self._all[sandbox_id] = sandbox
        try:
            await self._boot(sandbox)
        except (OSError, TimeoutError) as error:
            await self.kill(sandbox)
            raise ApiError(500, f"failed to place sandbox: {error}", error_code="sandbox_create_failed") from error
        self.expire_in(sandbox, timeout)
        return sandbox

    async def _boot(self, sandbox: Sandbox) -> None:
        config = EnvdConfig(
            sandbox_id=sandbox.sandbox_id,
            template_id=sandbox.template_id,
            version=sandbox.version,
            token=sandbox.access_token if sandbox.secure else None,
            env_vars=dict(sandbox.body.get("envVars") or {}),
        )
        guest = sandbox.guest = await self._launcher.start(sandbox.tree, config)
        if sandbox.transition == "killing":  # it was not there yet to be killed
            await guest.kill()
            raise OSError("the sandbox was killed while it started")
        await self._open(sandbox)
        async with asyncio.timeout(_BOOT_SECONDS):
            while True:
                if guest.ended.is_set():
                    raise OSError(guest.error or "the sandbox ended at once")
                try:
                    assert sandbox.session is not None
                    async with sandbox.session.get("http://envd/health"):
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)

    async def _open(self, sandbox: Sandbox) -> None:
        assert sandbox.guest is not None
        # A connection for each request: which one broke is then never a question.
        connector = aiohttp.UnixConnector(path=sandbox.guest.address, force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        sandbox.session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)

    async def _shut(self, sandbox: Sandbox) -> None:
        sandbox.cut()
        if sandbox.session is not None:
            await sandbox.session.close()
            sandbox.session = None

    # Time

    def expire_in(self, sandbox: Sandbox, seconds: float, *, only_later: bool = False) -> None:
        """Set the end to so many seconds from now, within the longest life."""
        scale = self.settings.lifetime_scale
        end = min(time.time() + max(0.0, seconds) * scale, sandbox.started_at + self.settings.max_seconds * scale)
        if only_later and end <= sandbox.end_at:
            return
        sandbox.end_at = end
        if sandbox.timer is not None:
            sandbox.timer.cancel()
        loop = asyncio.get_running_loop()
        sandbox.timer = loop.call_later(max(0.0, end - time.time()), self._expired, sandbox)

    def _expired(self, sandbox: Sandbox) -> None:
        task = asyncio.ensure_future(self._end(sandbox))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, sandbox: Sandbox) -> None:
        if sandbox.body.get("autoPause"):
            with contextlib.suppress(ApiError):  # somebody paused or killed it just now
                await self.pause(sandbox, memory=bool(sandbox.body.get("autoPauseMemory", True)))
        else:
            await self.kill(sandbox)

    # Changes

    async def pause(self, sandbox: Sandbox, *, memory: bool) -> None:
        """Stop a sandbox: with its memory every process stays where it is, without it only files stay."""
        if sandbox.transition is not None or sandbox.state == "paused":
            raise ApiError(409, f"error pausing sandbox '{sandbox.sandbox_id}': it is not running")
        async with self._changing(sandbox, "pausing"):
            if sandbox.timer is not None:
                sandbox.timer.cancel()
            assert sandbox.guest is not None
            if memory:
                await asyncio.to_thread(sandbox.guest.freeze)
            else:
                await sandbox.guest.kill()
                sandbox.guest = None
            await self._shut(sandbox)
            sandbox.memory = memory
            sandbox.state = "paused"

    async def resume(self, sandbox: Sandbox, seconds: float, *, memory: bool = True) -> bool:
        """Let a paused sandbox go on; says whether it was paused. A running one lives at least so many seconds more."""
        async with sandbox.lock:
            if sandbox.transition == "killing":
                raise missing(sandbox.sandbox_id)
            if sandbox.state == "running":
                self.expire_in(sandbox, seconds, only_later=True)
                return False
            if len(self.running()) >= self.settings.concurrency_limit:
                raise ApiError(429, "you have reached the maximum number of concurrent E2B sandboxes")
            sandbox.transition = "resuming"
            try:
                if sandbox.guest is not None and not memory:
                    await sandbox.guest.kill()
                    sandbox.guest = None
                if sandbox.guest is None:
                    await self._boot(sandbox)
                else:
                    await self._open(sandbox)
                    sandbox.guest.thaw()
                sandbox.state, sandbox.started_at = "running", time.time()
                self.expire_in(sandbox, seconds)
            finally:
                sandbox.transition = None
            return True

    async def copy(self, sandbox: Sandbox, target: Path) -> None:
        """Copy a running sandbox's files at one moment; it goes on afterwards."""
        if sandbox.transition is not None or sandbox.state != "running":
            raise ApiError(409, f"sandbox '{sandbox.sandbox_id}' is not running")
        async with self._changing(sandbox, "snapshotting"):
            assert sandbox.guest is not None
            sandbox.guest.freeze()
            try:
                await asyncio.to_thread(trees.copy, sandbox.tree, target)
            finally:
                sandbox.guest.thaw()

    async def kill(self, sandbox: Sandbox) -> None:
        """End a sandbox and remove its files."""
        if sandbox.transition == "killing":
            return
        if sandbox.timer is not None:
            sandbox.timer.cancel()
        sandbox.transition = "killing"
        await self._shut(sandbox)
        if sandbox.guest is not None:
            await sandbox.guest.kill()
        self._all.pop(sandbox.sandbox_id, None)
        await asyncio.to_thread(trees.remove, sandbox.tree)

    @contextlib.asynccontextmanager
    async def _changing(self, sandbox: Sandbox, what: str) -> AsyncIterator[None]:
        async with sandbox.lock:
            sandbox.transition = what
            try:
                yield
            finally:
                if sandbox.transition == what:
                    sandbox.transition = None

    async def close(self) -> None:
        """Kill all sandboxes."""
        for sandbox in self.all():
            await self.kill(sandbox)
        if self._ending:
            await asyncio.wait(self._ending)
