"""Words for a POSIX shell, as bytes."""

from __future__ import annotations

__all__ = ["as_bytes", "escape_format", "quote", "quote_text"]


def as_bytes(text: str) -> bytes:
    """Return the bytes that a string of a request stands for."""
    return text.encode("utf-8", "surrogateescape")


def quote(text: str) -> bytes:
    """Return a word that every POSIX shell reads as exactly this text."""
    return b"'" + as_bytes(text).replace(b"'", b"'\\''") + b"'"


def quote_text(text: str) -> str:
    """Return `quote` as a string, for scripts that are strings."""
    return "'" + text.replace("'", "'\\''") + "'"


def escape_format(data: bytes) -> bytes:
    r"""Return a quoted word with which ``printf`` prints exactly this data.

    A shell's string holds no NUL; ``%`` and ``\`` mean something to printf, and a leading ``-`` to some.
    """
    text = data.replace(b"\\", b"\\\\").replace(b"%", b"%%").replace(b"\0", b"\\000").replace(b"'", b"'\\''")
    if text.startswith(b"-"):
        text = b"\\055" + text[1:]
    return b"'" + text + b"'"
