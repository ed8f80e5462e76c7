"""The errors of this host's files, which are the built-in ones too. Time budget: 2 s."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest

from gitmachine.archives import ArchiveError, LocalFileError, local_error
from gitmachine.errors import GitMachineError


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
def test_a_local_error_is_the_built_in_one_too(number: int, builtin: type[OSError]) -> None:
    error = local_error(number, Path("a\nb"))
    assert isinstance(error, LocalFileError)
    assert isinstance(error, GitMachineError)
    assert isinstance(error, builtin)
    assert (error.errno, error.filename) == (number, "a\nb")
    assert str(error).startswith(r"'a\nb' on this host: ")


def test_a_local_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(local_error(errno.ENOENT, b"x", "it is elsewhere")))
    assert (type(error), str(error)) == (type(local_error(errno.ENOENT, b"x")), "'x' on this host: it is elsewhere")


def test_an_archive_error_says_what_kind_it_is() -> None:
    assert ArchiveError("x").errno == errno.EBADMSG
    assert ArchiveError("x", errno=errno.EFBIG).errno == errno.EFBIG
