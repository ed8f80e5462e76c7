"""Images: pulled as the policy says, with progress, and errors that tell what to do."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiodocker
import attrs

from gitmachine import AuthenticationError, MachineStartError
from gitmachine_local_docker._errors import FOREIGN, PROVIDER, advice
from gitmachine_local_docker._registry import HUB, auth_header, registry_of

if TYPE_CHECKING:
    from gitmachine_local_docker._engine import Engine

__all__ = ["OnProgress", "PullProgress", "pull_image"]

log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class PullProgress:
    """One message of the engine about an image that is being pulled.

    Attributes:
        image: the image.
        status: in the engine's words, such as ``Downloading``.
        layer: the layer that it is about, or "".
        current: bytes done, or 0.
        total: bytes to do, or 0 where that is not known.
    """

    image: str
    status: str
    layer: str = ""
    current: int = 0
    total: int = 0


OnProgress = Callable[[PullProgress], None]
"""Called in the event loop with each message; returns at once."""


async def pull_image(engine: Engine, image: str, *, platform: str | None, on_progress: OnProgress | None) -> None:
    """Pull an image.

    Raises:
        AuthenticationError: the registry wants other credentials.
        MachineStartError: anything else.
    """
    # A digest, or a colon after the last slash, which is none of a registry's port.
    tag = None if "@" in image or ":" in image.rpartition("/")[2] else "latest"
    auth = await auth_header(image)
    log.info("pulling %s", image)
    last = ""
    try:
        async for message in engine.pull(image, tag=tag, auth=auth, platform=platform):
            progress = _progress(image, message)
            if on_progress is not None:
                on_progress(progress)
            if progress.status != last:
                log.debug("%s: %s %s", image, progress.layer, progress.status)
            last = progress.status
        await engine.image(image)
    except FOREIGN as error:
        raise _refusal(image, error, known=auth is not None) from error
    log.info("pulled %s", image)


def _progress(image: str, message: dict[str, Any]) -> PullProgress:
    detail = message.get("progressDetail") or {}
    return PullProgress(
        image=image,
        status=str(message.get("status", "")),
        layer=str(message.get("id", "")),
        current=int(detail.get("current") or 0),
        total=int(detail.get("total") or 0),
    )


def _refusal(image: str, error: BaseException, *, known: bool) -> MachineStartError | AuthenticationError:
    text = error.message if isinstance(error, aiodocker.DockerError) else str(error) or "no answer"
    said = " ".join(text.split())
    registry = registry_of(image)
    login = "docker login" if registry == HUB else f"docker login {registry}"
    fields = {"provider": PROVIDER, "operation": "start"}
    if re.search(r"unauthorized|authentication required|no basic auth|incorrect username|denied", said, re.I):
        what = "does not accept the credentials for" if known else "wants credentials for"
        more = " (or it has no such image)" if "does not exist" in said else ""
        return AuthenticationError(f"the registry {what} {image!r}{more}: {said}: run `{login}`", **fields)
    if re.search(r"manifest unknown|not found|does not exist|name unknown|repository name not known", said, re.I):
        return MachineStartError(f"there is no image {image!r}: {said}: check its name and its tag", **fields)
    more = advice(said) or "is the registry reachable from the engine? pull again, or set pull to never"
    return MachineStartError(f"pulling {image!r} failed: {said}: {more}", **fields)
