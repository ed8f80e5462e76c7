"""Making a container, or taking one over; whatever fails half way is removed again."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

import aiodocker
import attrs

from gitmachine import MachineError, MachineStartError
from gitmachine_local_docker._container import ROOT, Container
from gitmachine_local_docker._create import USER_LABEL, WORKDIR_LABEL, create_body
from gitmachine_local_docker._errors import FOREIGN, PROVIDER, is_missing, start_errors
from gitmachine_local_docker._images import pull_image
from gitmachine_local_docker._setup import INSTALL_GIT, INSTALL_SECONDS, SETUP, Profile, announced, no_git, profile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gitmachine_local_docker._engine import Engine
    from gitmachine_local_docker._hijack import Hijacked
    from gitmachine_local_docker._images import OnProgress
    from gitmachine_local_docker.config import DockerConfig

__all__ = ["Making", "examine"]

CLEAN_UP_SECONDS = 60.0
SAID_SECONDS = 60.0
MAX_SAID_BYTES = 64 << 10
_OF_MAIN = frozenset({"Entrypoint", "Tty", "User"})
"""Fields of `extra` with which the container's main process is another one, or its output no stream of frames."""


class Making:
    """One container on its way to being a machine."""

    def __init__(self, engine: Engine, config: DockerConfig, label: str | None, on_progress: OnProgress | None) -> None:
        self._engine = engine
        self._config = config
        self._label = label
        self._on_progress = on_progress
        self._user = ROOT
        self.container: str | None = None

    async def make(self, warm: Callable[[Container, str], object]) -> tuple[Container, Profile]:
        """Return a container that runs, and what is known of it; when it raises, or is cancelled, there is none.

        Args:
            warm: called with the container and the user of its commands as soon as it runs.

        Raises:
            MachineStartError: with what was wrong and what to do.
            AuthenticationError: a registry wants other credentials.
        """
        try:
            with start_errors(self._engine.dialer, self._config.image):
                self.container = await self._create()
                made = Container(self._engine, self.container)
                async with self._listening() as said:
                    await self._engine.start(self.container)
                    warm(made, self._user)
                    return made, await self._prepare(made, said)
        except BaseException:
            await asyncio.shield(self._undo())
            raise

    async def _create(self) -> str:
        config = self._config
        named = await self._image_user()
        self._user = config.user or named or ROOT
        body = create_body(config, self._user, self._label)
        making = asyncio.ensure_future(self._engine.create(body, name=config.name, platform=config.platform))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # Only its end tells what there is to be removed.
            with contextlib.suppress(*FOREIGN):
                self.container = await making
            raise

    async def _image_user(self) -> str:
        """Have the image there, as the policy says; return the user that it names."""
        if self._config.pull != "always":
            try:
                return _user_of(await self._engine.image(self._config.image))
            except aiodocker.DockerError as error:
                if self._config.pull == "never" or not is_missing(error):
                    raise
        await pull_image(
            self._engine, self._config.image, platform=self._config.platform, on_progress=self._on_progress
        )
        return _user_of(await self._engine.image(self._config.image))

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[asyncio.Future[Profile | None]]:
        """Give what the created container will say of itself; None where that cannot be heard."""
        said: asyncio.Future[Profile | None] = asyncio.get_running_loop().create_future()
        stream: Hijacked | None = None
        if self.container is not None and not self._config.extra.keys() & _OF_MAIN:
            with contextlib.suppress(*FOREIGN):  # there is another way to ask
                stream = await self._engine.attach(self.container)
        if stream is None:
            said.set_result(None)
            yield said
            return
        heard = bytearray()

        def hear(_: int, data: bytes) -> None:
            heard.extend(data)
            if not said.done():
                over, found = announced(bytes(heard))
                if over or len(heard) > MAX_SAID_BYTES:
                    said.set_result(found)

        stream.deliver(hear, lambda: None if said.done() else said.set_result(None))
        try:
            yield said
        finally:
            stream.close()

    async def _prepare(self, made: Container, said: asyncio.Future[Profile | None]) -> Profile:
        """Return what is known of the container, as it says itself, or else by asking it."""
        config = self._config
        await asyncio.wait([said], timeout=SAID_SECONDS)
        found = said.result() if said.done() else None
        if found is not None:
            made.oom_kills = found.oom_kills
            found = attrs.evolve(found, user=self._user, workdir=config.workdir)
        else:
            known = await self._engine.inspect(made.id)
            if not known["State"].get("Running"):
                raise MachineStartError(_why_ended(known), provider=PROVIDER, operation="start")
            found = await examine(made, known, config)
        if found.git or config.git == "unchecked":
            return found
        return await self._with_git(made, found)

    async def _with_git(self, made: Container, found: Profile) -> Profile:
        """Install git as far as that is allowed."""
        config = self._config
        if config.git != "install":
            raise no_git(config.image)
        result = await made.run(INSTALL_GIT, timeout=INSTALL_SECONDS)
        if not result.ok:
            raise no_git(config.image, result)
        return await examine(made, await self._engine.inspect(made.id), config)

    async def _undo(self) -> None:
        if self.container is not None:
            with contextlib.suppress(MachineError, *FOREIGN):  # the first error says more; `find` cleans up later
                async with asyncio.timeout(CLEAN_UP_SECONDS):
                    await self._engine.remove(self.container)
            self.container = None


async def examine(made: Container, known: dict[str, Any], config: DockerConfig) -> Profile:
    """Look at a running container from inside; make its working directory if there is none.

    Args:
        made: the container.
        known: what the engine says of it.
        config: for a container that is not of our making.
    """
    labels = known["Config"].get("Labels") or {}
    user = labels.get(USER_LABEL) or known["Config"].get("User") or ROOT
    workdir = labels.get(WORKDIR_LABEL) or config.workdir
    volume = workdir in (known["Config"].get("Volumes") or {}) and known["HostConfig"].get("ReadonlyRootfs")
    found = profile(await made.run(SETUP, user, workdir, "1" if volume else ""))
    made.oom_kills = found.oom_kills
    return attrs.evolve(found, user=user, workdir=workdir)


def _why_ended(known: dict[str, Any]) -> str:
    state = known["State"]
    why = state.get("Error") or f"its main process ended with exit code {state.get('ExitCode')}"
    return f"the container did not stay up: {why}"


def _user_of(image: dict[str, Any]) -> str:
    return str((image.get("Config") or {}).get("User") or "")


def is_gone_for_good(known: dict[str, Any]) -> bool:
    """Whether a container never ran, or cannot run again."""
    state = known.get("State")
    status = state if isinstance(state, str) else str((state or {}).get("Status", ""))
    return bool(re.fullmatch("created|dead|removing", status))
