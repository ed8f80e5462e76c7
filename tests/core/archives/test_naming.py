"""Names in archives: where they belong, and which are refused. Time budget: 2 s."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine.archives import ArchiveError
from gitmachine.archives.naming import Naming


def test_what_is_within_the_name_is_below_the_target() -> None:
    naming = Naming("a/b", 1000)
    assert naming.place(b"a/b/", directory=True) == ()
    assert naming.place(b"./a//b/c/./d", directory=False) == (b"c", b"d")
    assert naming.placed(b"a/b/c/d", b"l") == (b"c", b"d")
    with pytest.raises(ArchiveError, match="not asked for"):
        naming.place(b"a/bc", directory=False)
    with pytest.raises(ArchiveError, match="not before it"):
        naming.placed(b"a/b/c", b"l")


def test_without_a_name_everything_is_below_the_target_which_is_a_directory() -> None:
    naming = Naming(None, 1000)
    assert naming.place(b"./", directory=True) == ()
    assert naming.place(b"x", directory=False) == (b"x",)
    with pytest.raises(ArchiveError, match="instead of"):
        naming.place(b".", directory=False)


def test_nothing_follows_a_target_that_is_a_file() -> None:
    naming = Naming("a", 1000)
    assert naming.place(b"a", directory=False) == ()
    with pytest.raises(ArchiveError, match="beside"):
        naming.place(b"a/b", directory=False)


def test_all_names_together_are_bounded() -> None:
    naming = Naming("a", 10)
    naming.place(b"a/123456", directory=False)
    with pytest.raises(ArchiveError, match="altogether") as caught:
        naming.place(b"a/7", directory=False)
    assert caught.value.errno == errno.EFBIG


@given(st.binary(max_size=40) | st.lists(st.sampled_from([b"a", b"..", b".", b"", b"x"]), max_size=8).map(b"/".join))
def test_no_name_leads_outside(raw: bytes) -> None:
    try:
        path = Naming(None, 1000).place(raw, directory=True)
    except ArchiveError:
        return
    assert not set(path) & {b"", b".", b".."}
    assert not any(b"/" in part or b"\0" in part for part in path)
