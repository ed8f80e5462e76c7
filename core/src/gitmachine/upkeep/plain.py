"""Reports as JSON-ready data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from attrs import AttrsInstance

__all__ = ["as_plain"]


def as_plain(report: AttrsInstance) -> dict[str, Any]:
    """Return a report as data that JSON has words for: times as ISO 8601, paths as text."""
    return attrs.asdict(report, value_serializer=_plain)


def _plain(_owner: object, _field: object, value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
