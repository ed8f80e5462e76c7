"""The control plane: E2B's REST API, as far as machines need it.

The paths of the first generation are used where there are two: every server has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from gitmachine_e2b import _http
from gitmachine_e2b._errors import Refusal
from gitmachine_e2b._records import (
    Fork,
    Metric,
    Page,
    RecordError,
    Sandbox,
    SandboxInfo,
    Snapshot,
    structure,
    structure_all,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    import httpx

T = TypeVar("T")

PAGE_LIMIT = 100
MAX_PAGES = 1000
"""A listing that goes on for longer has lost its way."""
SHORTEST_REFRESH_SECONDS = 15
LONGEST_REFRESH_SECONDS = 3600


def encode_metadata(metadata: Mapping[str, str]) -> str:
    """Return a filter for `ControlPlane.sandboxes`; the server decodes the query, then all of it, then each part."""
    return "&".join(f"{_twice(key)}={_twice(value)}" for key, value in metadata.items())


def _twice(text: str) -> str:
    return quote(quote(text, safe=""), safe="")


def _segment(text: str) -> str:
    return quote(text, safe="")


class ControlPlane:
    """The API, for one team."""

    def __init__(self, base_url: str, api_key: str, *, seconds: float | None = 60.0) -> None:
        """Talk to `base_url`; each request may take so many seconds."""
        self._client = _http.make_client(base_url, {"X-API-Key": api_key})
        self._seconds = seconds

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, *, safe: bool, **fields: Any) -> httpx.Response:
        return await _http.request(self._client, method, path, seconds=self._seconds, safe=safe, **fields)

    async def create(self, body: Mapping[str, Any]) -> Sandbox:
        """Make a sandbox; never repeated once it was sent."""
        return _record(await self._ask("POST", "/sandboxes", safe=False, json=dict(body)), Sandbox)

    async def connect(self, sandbox_id: str, timeout: int) -> Sandbox:
        """Make sure that a sandbox runs, resuming it if need be, for at least so many seconds."""
        path = f"/sandboxes/{_segment(sandbox_id)}/connect"
        return _record(await self._ask("POST", path, safe=True, json={"timeout": timeout}), Sandbox)

    async def resume(self, sandbox_id: str, timeout: int, *, auto_pause: bool | None = None) -> Sandbox:
        """Resume a paused sandbox; the older way, which refuses one that runs (409)."""
        body = {"timeout": timeout} | ({} if auto_pause is None else {"autoPause": auto_pause})
        path = f"/sandboxes/{_segment(sandbox_id)}/resume"
        return _record(await self._ask("POST", path, safe=False, json=body), Sandbox)

    async def get(self, sandbox_id: str) -> SandboxInfo:
        """Describe a sandbox; does not wake a paused one."""
        return _record(await self._ask("GET", f"/sandboxes/{_segment(sandbox_id)}", safe=True), SandboxInfo)

    async def kill(self, sandbox_id: str) -> bool:
        """End a sandbox, running or paused; False when there is none."""
        return await self._removed(f"/sandboxes/{_segment(sandbox_id)}")

    async def _removed(self, path: str) -> bool:
        try:
            await self._ask("DELETE", path, safe=True)
        except Refusal as refusal:
            if refusal.status == 404:
                return False
            raise
        return True

    async def pause(self, sandbox_id: str, *, memory: bool = True) -> bool:
        """Save a sandbox with its processes, or without memory only its disk; False when it is paused already.

        A 409 also says that a sandbox is in transition: that is told apart by its state.
        """
        try:
            await self._ask("POST", f"/sandboxes/{_segment(sandbox_id)}/pause", safe=False, json={"memory": memory})
        except Refusal as refusal:
            if refusal.status == 409 and (await self.get(sandbox_id)).state == "paused":
                return False
            raise
        return True

    async def set_timeout(self, sandbox_id: str, timeout: int) -> None:
        """Let a sandbox end so many seconds from now, sooner or later than before."""
        await self._ask("POST", f"/sandboxes/{_segment(sandbox_id)}/timeout", safe=True, json={"timeout": timeout})

    async def refresh(self, sandbox_id: str, duration: int) -> None:
        """Let a sandbox live for at least so many seconds from now; 15 to 3600."""
        duration = max(SHORTEST_REFRESH_SECONDS, min(duration, LONGEST_REFRESH_SECONDS))
        path = f"/sandboxes/{_segment(sandbox_id)}/refreshes"
        await self._ask("POST", path, safe=True, json={"duration": duration})

    async def metrics(
        self, sandbox_id: str, *, start: datetime | None = None, end: datetime | None = None
    ) -> tuple[Metric, ...]:
        """Return what was measured, oldest first; nothing yet for a young sandbox."""
        times = {"start": start, "end": end}
        params = {name: int(moment.timestamp()) for name, moment in times.items() if moment is not None}
        path = f"/sandboxes/{_segment(sandbox_id)}/metrics"
        return _records(await self._ask("GET", path, safe=True, params=params), Metric)

    async def set_network(self, sandbox_id: str, body: Mapping[str, Any]) -> None:
        """Replace what a sandbox may reach; what is left out is cleared."""
        await self._ask("PUT", f"/sandboxes/{_segment(sandbox_id)}/network", safe=True, json=dict(body))

    async def page(
        self,
        *,
        metadata: Mapping[str, str] | None = None,
        states: Sequence[str] = (),
        limit: int = PAGE_LIMIT,
        next_token: str | None = None,
    ) -> Page:
        """Return one page of the team's sandboxes; without states both running and paused ones."""
        params: dict[str, str | int] = {}
        if metadata:
            params["metadata"] = encode_metadata(metadata)
        if states:
            params["state"] = ",".join(states)
        params["limit"] = limit
        if next_token is not None:
            params["nextToken"] = next_token
        response = await self._ask("GET", "/v2/sandboxes", safe=True, params=params)
        return Page(sandboxes=_records(response, SandboxInfo), next_token=response.headers.get("X-Next-Token") or None)

    async def sandboxes(
        self, *, metadata: Mapping[str, str] | None = None, states: Sequence[str] = (), limit: int = PAGE_LIMIT
    ) -> AsyncIterator[SandboxInfo]:
        """Yield the team's sandboxes, page by page."""
        token: str | None = None
        for _ in range(MAX_PAGES):
            page = await self.page(metadata=metadata, states=states, limit=limit, next_token=token)
            for sandbox in page.sandboxes:
                yield sandbox
            token = page.next_token
            if token is None:
                return
        raise RecordError(f"the list of sandboxes has more than {MAX_PAGES} pages")

    async def snapshot(self, sandbox_id: str, name: str | None = None) -> Snapshot:
        """Save a running sandbox, which goes on."""
        body = {} if name is None else {"name": name}
        response = await self._ask("POST", f"/sandboxes/{_segment(sandbox_id)}/snapshots", safe=False, json=body)
        return _record(response, Snapshot)

    async def snapshots(self, sandbox_id: str | None = None) -> tuple[Snapshot, ...]:
        """Return the team's snapshots, or those of one sandbox."""
        found: list[Snapshot] = []
        params: dict[str, str | int] = {"limit": PAGE_LIMIT}
        if sandbox_id is not None:
            params["sandboxID"] = sandbox_id
        for _ in range(MAX_PAGES):
            response = await self._ask("GET", "/snapshots", safe=True, params=params)
            found += _records(response, Snapshot)
            token = response.headers.get("X-Next-Token")
            if not token:
                return tuple(found)
            params["nextToken"] = token
        raise RecordError(f"the list of snapshots has more than {MAX_PAGES} pages")

    async def delete_snapshot(self, snapshot_id: str) -> bool:
        """Remove a snapshot; False when there is none."""
        return await self._removed(f"/templates/{_segment(snapshot_id)}")

    async def fork(self, sandbox_id: str, *, timeout: int, count: int = 1) -> tuple[Fork, ...]:
        """Copy a running sandbox, with its processes and its metadata; each copy succeeds or fails alone."""
        body = {"timeout": timeout, "count": count}
        response = await self._ask("POST", f"/sandboxes/{_segment(sandbox_id)}/fork", safe=False, json=body)
        return _records(response, Fork)


def _record(response: httpx.Response, cls: type[T]) -> T:
    return structure(_decoded(response), cls)


def _records(response: httpx.Response, cls: type[T]) -> tuple[T, ...]:
    return structure_all(_decoded(response), cls)


def _decoded(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise RecordError(f"an answer with status {response.status_code} is no JSON") from error
