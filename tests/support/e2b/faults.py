"""Faults to be injected, by the pattern of a request and a number of times (reference, 6b, item 10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

import attrs

Kind = Literal[
    "status", "delay", "cut", "silent", "split", "coalesce", "no-end", "no-eos", "eos-error", "unknown", "no-keepalive"
]
When = Literal["before", "after"]


@attrs.define(kw_only=True, eq=False)
class Fault:
    """One rule. `path` and `method` are searched for as regular expressions; what is empty matches everything.

    status        answers `status`, `headers` and `body`; `when="after"` lets the request act first
    delay         waits `seconds`, then goes on; for a stream also before each frame with `each=True`
    cut           closes the connection: "before" it acts, or "after"; with `frames` or `nbytes` within the body
    silent        never answers, and does not act; with `frames` after so many frames of the answer
    split         sends frames in pieces of `nbytes` (default 1) for their first 4 KiB, then in odd sizes
    coalesce      keeps frames back for `seconds` (default 0.05) and sends them in one piece
    no-end        leaves out the event that tells of the process's end
    no-eos        leaves out the frame that ends the stream
    eos-error     ends the stream with `code` and `message`, after `frames` frames or in place of its own end
    unknown       adds unknown fields to answers and unknown events to streams
    no-keepalive  leaves out keepalives
    """

    kind: Kind
    path: str = ""
    method: str = ""
    surface: str = ""
    count: int | None = 1
    """How many requests it strikes; None for all."""
    skip: int = 0
    """How many matching requests it lets pass first."""
    when: When = "before"
    status: int = 500
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: str = ""
    seconds: float = 0.05
    each: bool = False
    frames: int | None = None
    nbytes: int | None = None
    code: str = "unavailable"
    message: str = "upstream connect error"
    struck: int = 0
    """How many requests it has struck so far."""

    def __attrs_post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown fault {self.kind!r}; there are {', '.join(get_args(Kind))}")

    def matches(self, surface: str, method: str, path: str) -> bool:
        return (
            self.surface in {"", surface}
            and re.search(self.method, method) is not None
            and re.search(self.path, path) is not None
        )


class Faults:
    """The rules in force; to be used from any thread."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, kind: Kind, **fields: Any) -> Fault:
        """Add a rule; see `Fault` for the fields."""
        fault = Fault(kind=kind, **fields)
        self._rules.append(fault)
        return fault

    def clear(self) -> None:
        self._rules.clear()

    def all(self) -> list[Fault]:
        return list(self._rules)

    def take(self, surface: str, method: str, path: str) -> list[Fault]:
        """Return the rules that strike this request, and count it."""
        struck = []
        for fault in self.all():
            if not fault.matches(surface, method, path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
            elif fault.count is None or fault.count > 0:
                fault.struck += 1
                if fault.count is not None:
                    fault.count -= 1
                struck.append(fault)
        return struck


class Struck:
    """The faults of one request, by kind."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def first(self, kind: Kind, when: When | None = None, *, midway: bool = False) -> Fault | None:
        """Return the fault of a kind; `midway` asks for one that strikes within the answer's body."""
        for fault in self._faults:
            inside = fault.frames is not None or (kind == "cut" and fault.nbytes is not None)
            if fault.kind == kind and inside == midway and when in {None, fault.when}:
                return fault
        return None

    def any(self, kind: Kind) -> Fault | None:
        return next((fault for fault in self._faults if fault.kind == kind), None)
