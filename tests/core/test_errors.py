"""The exception tree: drawn as it is, and usable as the built-in exceptions it stands for.

Time budget: 2 s.
"""

from __future__ import annotations

import errno
import inspect
import pickle
import re

import pytest

from gitmachine import errors
from gitmachine.errors import (
    CommandTimeoutError,
    ConfigError,
    GitMachineError,
    MachineFileError,
    PushRejectedError,
    StateError,
    UnknownProviderError,
    file_error,
)
from gitmachine.execution import ExecResult

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]


def drawn() -> dict[str, str | None]:
    """Return each class in the module's drawing with the class that it hangs from."""
    parents: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"^([ │├└─]*)([A-Z]\w+)(?:$|\s)", line)
        if found is None or found.group(2) not in dir(errors):
            continue
        depth = len(found.group(1))
        while path and path[-1][0] >= depth:
            path.pop()
        parents[found.group(2)] = path[-1][1] if path else None
        path.append((depth, found.group(2)))
    return parents


def test_the_drawing_is_the_tree():
    tree = {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES if cls is not GitMachineError}
    assert drawn() == {"GitMachineError": None, **tree}


def test_every_exception_is_ours_and_exported():
    for cls in CLASSES:
        assert issubclass(cls, GitMachineError)
        assert cls.__name__ in errors.__all__


@pytest.mark.parametrize(
    ("number", "builtin"),
    [
        (errno.ENOENT, FileNotFoundError),
        (errno.EACCES, PermissionError),
        (errno.EPERM, PermissionError),
        (errno.EISDIR, IsADirectoryError),
        (errno.ENOTDIR, NotADirectoryError),
        (errno.EEXIST, FileExistsError),
        (errno.ENOSPC, OSError),
    ],
)
def test_a_file_error_is_the_built_in_one_too(number, builtin):
    error = file_error(number, "no good: a\nb", path="a\nb", machine_id="m", provider="p", operation="read_file")
    assert isinstance(error, MachineFileError)
    assert isinstance(error, builtin)
    assert isinstance(error, OSError)
    assert error.errno == number
    assert error.filename == "a\nb"
    assert str(error) == "no good: a\nb"
    assert (error.machine_id, error.provider, error.operation) == ("m", "p", "read_file")


def test_a_timeout_is_the_built_in_one_and_has_the_partial_result():
    result = ExecResult(exit_code=137, stdout_bytes=b"part", timed_out=True)
    error = CommandTimeoutError("too long", result=result)
    assert isinstance(error, TimeoutError)
    assert error.result.stdout == "part"
    assert str(error) == "too long"


def test_an_unknown_provider_is_a_lookup_error_with_a_readable_text():
    error = UnknownProviderError("no provider 'dokcer'", name="dokcer", available=["docker"], close="docker")
    assert isinstance(error, LookupError)
    assert str(error) == "no provider 'dokcer'"
    assert error.available == ("docker",)


def test_a_config_error_lists_every_problem():
    error = ConfigError("expected int @ a", "unknown key @ b")
    assert error.problems == ("expected int @ a", "unknown key @ b")
    assert str(error) == "expected int @ a\nunknown key @ b"


def test_a_rejected_push_says_how_far_the_branches_are_apart():
    error = PushRejectedError("diverged", ahead=1, behind=2)
    assert (error.ahead, error.behind, error.rescue) == (1, 2, None)


def test_plain_ones_survive_pickling():
    for error in (GitMachineError("x"), ConfigError("a", "b")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
    assert StateError("held", holder="pid 1").holder == "pid 1"
