"""Lists in pages, and what they are filtered by (reference, 1.8)."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote, unquote_plus

from support.e2b.errors import ApiError
from support.e2b.sandboxes import Sandbox
from support.e2b.views import listed

T = TypeVar("T")


def metadata_filter(value: str) -> dict[str, str]:
    """Decode the filter once more as a whole and then each key and value, the query itself being decoded already."""
    wanted: dict[str, str] = {}
    for pair in unquote(value).split("&"):
        parts = pair.split("=")
        if len(parts) != 2:
            raise ApiError(400, f"Error when parsing metadata: invalid key-value pair: {pair}")
        wanted[unquote_plus(parts[0])] = unquote_plus(parts[1])
    return wanted


def matching(sandboxes: Sequence[Sandbox], query: Mapping[str, str]) -> list[Sandbox]:
    """Apply the filters and the order of a list of sandboxes."""
    states = {state for state in query.get("state", "running,paused").split(",") if state}
    if odd := states - {"running", "paused"}:
        raise ApiError(400, f'validation error: parameter "state" in query has an error: {sorted(odd)}')
    wanted = metadata_filter(query["metadata"]) if query.get("metadata") else {}
    after = dt.datetime.fromisoformat(query["startedAfter"]).timestamp() if "startedAfter" in query else 0.0
    found = [
        sandbox
        for sandbox in sandboxes
        if listed(sandbox)["state"] in states
        and sandbox.transition != "killing"
        and wanted.items() <= sandbox.metadata.items()
        and sandbox.started_at >= after
        and query.get("template", sandbox.template_id) in {sandbox.template_id, sandbox.alias}
    ]
    order = query.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise ApiError(400, 'validation error: parameter "order" in query has an error')
    return sorted(found, key=key, reverse=order == "desc")


def key(sandbox: Sandbox) -> tuple[float, str]:
    return sandbox.started_at, sandbox.sandbox_id


def page(rows: Sequence[T], query: Mapping[str, str], mark: Callable[[T], Any]) -> tuple[list[T], str | None]:
    """Cut the page that `limit` and `nextToken` ask for; `mark` names a row in the token of what follows it."""
    try:
        limit = int(query.get("limit", "100"))
    except ValueError:
        limit = 0
    if not 1 <= limit <= 100:
        raise ApiError(400, 'validation error: parameter "limit" in query has an error: number must be 1 to 100')
    start = 0
    if text := query.get("nextToken"):
        try:
            last = json.loads(base64.urlsafe_b64decode(text))
        except ValueError as error:
            raise ApiError(400, "Invalid next token") from error
        marks = [mark(row) for row in rows]
        start = marks.index(last) + 1 if last in marks else len(rows)
    chosen = list(rows[start : start + limit])
    if start + limit >= len(rows):
        return chosen, None
    return chosen, base64.urlsafe_b64encode(json.dumps(mark(chosen[-1])).encode()).decode()
