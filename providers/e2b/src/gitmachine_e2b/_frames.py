"""Envelopes of the Connect protocol: one byte of flags, four of length (big-endian), the payload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 5
COMPRESSED = 0x01
END_OF_STREAM = 0x02
MAX_PAYLOAD_BYTES = 64 << 20
"""More than any message of the daemon, whose pieces of output have 32 KiB; what is larger is no envelope."""


class FrameError(ValueError):
    """What arrived is not a sequence of envelopes."""


@attrs.frozen
class Frame:
    """One envelope."""

    flags: int
    payload: bytes

    @property
    def ends_stream(self) -> bool:
        """Whether this is the last one, which says how the call ended."""
        return bool(self.flags & END_OF_STREAM)


def encode(payload: bytes, flags: int = 0) -> bytes:
    """Return an envelope."""
    return bytes((flags,)) + len(payload).to_bytes(4, "big") + payload


class FrameParser:
    """Takes a stream apart as it arrives: envelopes do not align with chunks or reads."""

    def __init__(self, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._missing = HEADER_BYTES
        self._parts: list[bytes] = []
        self._held = 0
        self._limit = max_payload_bytes

    @property
    def pending(self) -> bool:
        """Whether the stream so far ends in the middle of an envelope."""
        return bool(self._parts)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the envelopes that are complete now; has to be exhausted.

        Raises:
            FrameError: an envelope is larger than the limit.
        """
        if self._parts:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._missing:
                return  # joined once, when enough is there: byte by byte would cost the square of its length
            data = b"".join(self._parts)
            self._parts, self._held = [], 0
        at, size = 0, len(data)
        while size - at >= HEADER_BYTES:
            length = int.from_bytes(data[at + 1 : at + HEADER_BYTES], "big")
            if length > self._limit:
                raise FrameError(f"an envelope of {length} bytes, expected at most {self._limit}")
            end = at + HEADER_BYTES + length
            if end > size:
                self._keep(data[at:], HEADER_BYTES + length)
                return
            yield Frame(data[at], data[at + HEADER_BYTES : end])
            at = end
        if at < size:
            self._keep(data[at:], HEADER_BYTES)

    def _keep(self, data: bytes, missing: int) -> None:
        self._parts, self._held, self._missing = [data], len(data), missing
