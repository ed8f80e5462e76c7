"""The little of the standard library that every start of a machine can afford.

`signal` and `socket` define enumerations, `contextlib` needs `collections`, `typing` needs `re`, `ctypes` defines every
type of C: together they cost more of the processor than the sandbox. What is used of them is in the C modules below
them, which any CPython has; another Python has at least the modules themselves. So it is with `os`, which defines the
classes of collections: here it means `posix`, which has the same functions, but no `os.path` and nothing that is
written in Python.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""As type checkers know it by its name; `typing` itself is not imported at run time."""

if TYPE_CHECKING:
    import os
    import signal
    import socket
    import stat
else:
    try:
        import _signal as signal
        import _socket as socket
        import _stat as stat
        import posix as os
    except ImportError:
        import os
        import signal
        import socket
        import stat

__all__ = ["accept", "c_functions", "join", "os", "signal", "socket", "stat", "suppress"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class suppress:  # noqa: N801  # as contextlib's
    """Pass over some errors."""

    __slots__ = ("_errors",)

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Say whether the error is to be passed over."""
        return kind is not None and issubclass(kind, self._errors)


def join(folder: bytes, name: bytes) -> bytes:
    """Return the path of a name in a directory; an absolute name is one already."""
    return name if name.startswith(b"/") or not folder else folder.rstrip(b"/") + b"/" + name


def accept(listener: socket.socket) -> socket.socket:
    """Return the next connection, without the address that a socket of Unix does not have."""
    fd, _address = listener._accept()  # type: ignore[attr-defined]  # what `accept` calls
    return socket.socket(fileno=fd)


def c_functions() -> Callable[..., int]:
    """Return a function that calls one of the C library by its name, with integers and bytes; its result is an int."""
    try:
        from _ctypes import call_cdeclfunction, dlopen, dlsym
    except ImportError:
        import ctypes

        library = ctypes.CDLL(None)
        return lambda name, *arguments: int(getattr(library, name)(*arguments))
    handle = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # None is this program, as for CDLL
    return lambda name, *arguments: int(call_cdeclfunction(dlsym(handle, name), arguments))
