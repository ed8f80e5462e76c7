"""Credentials for registries, from where `docker login` puts them.

https://docs.docker.com/reference/cli/docker/login/#credential-stores and docker/docker-credential-helpers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from gitmachine_local_docker._endpoint import read_docker_config

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HUB", "auth_header", "registry_of"]

HUB = "https://index.docker.io/v1/"
"""The key under which Docker keeps the credentials of its own registry."""
HELPER_SECONDS = 30.0
_TOKEN_USER = "<token>"  # noqa: S105  # what helpers give as the name when the secret is an identity token

log = logging.getLogger(__name__)


def registry_of(image: str) -> str:
    """Return the registry of an image's name, as Docker's configuration calls it."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return HUB if first in {"docker.io", "index.docker.io"} else first
    return HUB


async def auth_header(image: str) -> str | None:
    """Return the header X-Registry-Auth for pulling an image, or None where there are no credentials.

    Raises:
        ConfigError: Docker's configuration cannot be read.
    """
    config = await asyncio.to_thread(read_docker_config)
    registry = registry_of(image)
    found = await _from_helper(config, registry) or _from_file(config, registry)
    if found is None:
        return None
    return base64.urlsafe_b64encode(json.dumps({**found, "serveraddress": registry}).encode()).decode()


async def _from_helper(config: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    helpers = config.get("credHelpers")
    name = helpers.get(registry) if isinstance(helpers, dict) else None
    name = name or config.get("credsStore")
    if not isinstance(name, str) or not name or "/" in name:
        return None
    program = f"docker-credential-{name}"
    try:
        answer = await _ask(program, registry)
        secret = json.loads(answer)
        user, password = str(secret["Username"]), str(secret["Secret"])
    except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        # Images that need no credentials can be pulled all the same; the registry says so if they do.
        log.warning("no credentials for %s from %s: %s", registry, program, error)
        return None
    return {"identitytoken": password} if user == _TOKEN_USER else {"username": user, "password": password}


async def _ask(program: str, registry: str) -> bytes:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, "get", stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(HELPER_SECONDS):
            answer, said = await process.communicate(registry.encode())
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        words = (answer + b" " + said).decode("utf-8", "replace").split()
        raise OSError(" ".join(words) or f"exit code {process.returncode}")
    return answer


def _host(key: str) -> str:
    return key.split("://", 1)[-1].split("/", 1)[0]


def _from_file(config: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    entry = auths.get(registry)
    if entry is None:  # older versions of Docker wrote URLs
        entry = next((value for key, value in auths.items() if _host(str(key)) == _host(registry)), None)
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"])}
    if entry.get("auth"):
        try:
            user, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except ValueError:
            return None
        return {"username": user, "password": password.rstrip("\0")} if colon else None
    if entry.get("username"):
        return {"username": str(entry["username"]), "password": str(entry.get("password", ""))}
    return None
