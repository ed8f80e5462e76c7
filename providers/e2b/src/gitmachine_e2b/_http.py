"""The HTTP client, and how a request is made: in bounded time, its errors told apart, repeated only if that is safe."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from typing import TYPE_CHECKING, Any

import httpx

from gitmachine_e2b._errors import Broken, Refusal, refusal_of, transport_errors

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

USER_AGENT = "gitmachine-e2b"
CONNECT_SECONDS = 15.0
CLOSE_SECONDS = 1.0
IDLE_CONNECTIONS = 20
IDLE_SECONDS = 300.0
"""The service closes idle connections after 600 s and more."""
RETRIES = 3
RETRY_STATUSES = frozenset({429, 502, 503, 504})
FIRST_WAIT_SECONDS = 0.2
MAX_RETRY_SECONDS = 60.0
"""How long repetitions of one request may take together, whatever the service asks to wait."""
ERROR_BODY_BYTES = 64 << 10


@functools.cache
def _tls() -> ssl.SSLContext:
    # reading the certificates takes tens of milliseconds: once in a process
    return httpx.create_ssl_context()


class Client(httpx.AsyncClient):
    """A client that can be closed while others use it: what is begun gets a connection before all are closed.

    A connection that came into being after that would be nobody's.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._beginning = 0
        self._closing = False
        self._begun = asyncio.Event()

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request; nothing is sent once the client is being closed."""
        if self._closing:
            raise httpx.ConnectError("the connections are closed", request=request)
        self._beginning += 1
        try:
            return await super().send(request, **options)
        finally:
            self._beginning -= 1
            if not self._beginning:
                self._begun.set()

    async def aclose(self) -> None:
        """Close all connections; what is under way fails."""
        self._closing = True
        if self._beginning:
            self._begun.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._begun.wait()
        await super().aclose()


def make_client(base_url: str, headers: Mapping[str, str]) -> Client:
    """Return a client for one peer. Every stream has a connection of its own, so their number has no limit."""
    return Client(
        base_url=base_url,
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", **headers},
        verify=_tls() if base_url.startswith("https:") else False,
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=IDLE_SECONDS
        ),
        follow_redirects=False,
    )


async def send_once(client: httpx.AsyncClient, request: httpx.Request, seconds: float | None) -> httpx.Response:
    """Send a request and read the whole answer.

    Raises:
        Refusal: the answer has an error status.
        Broken: there is none, or not in time.
    """
    try:
        with transport_errors():
            async with asyncio.timeout(seconds):
                response = await client.send(request)
    except TimeoutError as error:
        raise Broken(f"no answer within {seconds:g} s", sent=True) from error
    if response.is_success:
        return response
    raise refusal_of(response.status_code, response.headers, response.content[:ERROR_BODY_BYTES])


def retry_wait(problem: Refusal | Broken, attempt: int, *, safe: bool) -> float | None:
    """Return the seconds to wait before a repetition, or None when there must be none.

    Args:
        problem: why the request failed.
        attempt: how often it was repeated already.
        safe: whether doing it twice is the same as doing it once.
    """
    if isinstance(problem, Broken):
        again = safe or not problem.sent
    elif problem.status == 429:
        # a rate limit, which refuses before anything is done; without the header it is a limit on sandboxes,
        # and waiting does not help
        again = problem.retry_after is not None
    else:
        again = safe and problem.status in RETRY_STATUSES
    if not again or attempt >= RETRIES:
        return None
    if isinstance(problem, Refusal) and problem.retry_after is not None:
        return problem.retry_after
    return FIRST_WAIT_SECONDS * 2.0**attempt * random.uniform(0.5, 1.0)  # noqa: S311  # spreads clients; no secret


async def request(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    seconds: float | None,
    safe: bool,
    **fields: Any,
) -> httpx.Response:
    """Make a request; `safe` ones are repeated after failures that pass, others only if they were not done.

    Args:
        client: the peer's.
        method: of HTTP.
        path: already encoded.
        seconds: for each attempt; None is no limit.
        safe: whether doing it twice is the same as doing it once.
        fields: for `httpx.AsyncClient.build_request`.
    """
    deadline = time.monotonic() + (MAX_RETRY_SECONDS if seconds is None else min(seconds, MAX_RETRY_SECONDS))
    attempt = 0
    while True:
        try:
            return await send_once(client, client.build_request(method, path, **fields), seconds)
        except (Refusal, Broken) as problem:
            wait = retry_wait(problem, attempt, safe=safe)
            if wait is None or time.monotonic() + wait > deadline:
                raise
        attempt += 1
        await asyncio.sleep(wait)
