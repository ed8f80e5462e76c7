"""Telling a command's output from the words of the shell behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["START", "MarkerScanner"]

START = b"\x1e"
"""The first byte of every marker; it occurs nowhere else in one, so that a cut-off marker is not taken for another."""


class MarkerScanner:
    r"""Splits one stream at ``\x1e TOKEN word \n``.

    Output is passed on at once, but for a tail that may be the beginning of the marker.
    """

    def __init__(self, output: Callable[[bytes], None], word: Callable[[str], None]) -> None:
        """Make a scanner that waits for no token: everything is output.

        Args:
            output: called with the bytes between markers, never with none.
            word: called with what stands between a token and its newline; it may call `expect`.
        """
        self._output = output
        self._word = word
        self._token = b""
        self._held = b""

    def expect(self, token: str) -> None:
        """Look for the markers of a token (hexadecimal digits) from now on; "" is none."""
        self._token = START + token.encode() if token else b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._held:
            data, self._held = self._held + data, b""
        while data:
            token = self._token
            at = data.find(token) if token else -1
            if at < 0:
                kept = self._cut(data)
                if kept:
                    self._held = data[-kept:]
                    data = data[:-kept]
                if data:
                    self._output(data)
                return
            if at:
                self._output(data[:at])
            end = data.find(b"\n", at + len(token))
            if end < 0:
                self._held = data[at:]
                return
            word = data[at + len(token) : end].decode("ascii", "replace")
            data = data[end + 1 :]
            self._word(word)

    def _cut(self, data: bytes) -> int:
        """Return how many bytes at the end are the beginning of a marker."""
        token = self._token
        if not token:
            return 0
        at = data.rfind(START, max(0, len(data) - len(token) + 1))
        return len(data) - at if at >= 0 and token.startswith(data[at:]) else 0
