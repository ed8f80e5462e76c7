"""The notices that a command's wrapper puts into its output, and how they are taken out again.

A notice is the byte 30, a token, a kind, a value and the byte 30 again, written in one piece. The token is random and
made for one command. It is in the wrapper's arguments, where a command could read it, but never right after that byte:
a listing of processes does not look like a notice. The byte does not occur in a token, so its last place tells what may
be the beginning of a notice.
"""

from __future__ import annotations

import secrets

import attrs

MARK = b"\x1e"
END, SYNC = b"e", b"s"
TOKEN_BYTES = 12
MAX_VALUE_BYTES = 40


def new_token() -> str:
    """Return a token for one command."""
    return secrets.token_hex(TOKEN_BYTES)


@attrs.frozen
class Notice:
    """Something that the wrapper says: the command's end, or that all its output so far was before this."""

    kind: bytes
    value: str


class Scanner:
    """Finds the notices in one stream; holds back no more than what may be the beginning of one."""

    def __init__(self, token: str) -> None:
        self._start = MARK + token.encode()
        self._longest = len(self._start) + 1 + MAX_VALUE_BYTES + 1
        self._held = b""

    def feed(self, data: bytes) -> list[bytes | Notice]:
        """Return pieces of output and notices, in order."""
        if not self._held and MARK not in data:
            return [data] if data else []
        data, self._held = self._held + data, b""
        found: list[bytes | Notice] = []
        at = 0  # where what is not handed out yet begins
        look = 0
        while (mark := data.find(self._start, look)) >= 0:
            end = data.find(MARK, mark + len(self._start))
            if end < 0 and len(data) - mark < self._longest:
                break  # the rest of it has not come yet
            notice = self._notice(data[mark + len(self._start) : end]) if end >= 0 else None
            look = mark + 1
            if notice is not None:
                if mark > at:
                    found.append(data[at:mark])
                found.append(notice)
                at = look = end + 1
        keep = self._begins(data, at) if mark < 0 else mark
        if keep > at:
            found.append(data[at:keep])
        self._held = data[keep:]
        return found

    def _notice(self, text: bytes) -> Notice | None:
        kind, value = text[:1], text[1:]
        if kind not in (END, SYNC) or len(value) > MAX_VALUE_BYTES or not (value.isalnum() or not value):
            return None
        if kind == END and value and not (value.isdigit() and int(value) <= 255):
            return None
        return Notice(kind, value.decode("ascii", "replace"))

    def _begins(self, data: bytes, at: int) -> int:
        """Return where the data's end may be the beginning of a notice; its length when it is not."""
        last = data.rfind(MARK, max(at, len(data) - len(self._start)))
        return last if last >= 0 and self._start.startswith(data[last:]) else len(data)

    def rest(self) -> bytes:
        """Return what was held back, when nothing more comes: it was output."""
        held, self._held = self._held, b""
        return held
