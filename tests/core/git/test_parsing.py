"""Parsers of git's output, with inputs written down and inputs made up.

Time budget: 5 s.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine.git.model import Change
from gitmachine.git.parsing import (
    decode,
    encode,
    overlap,
    parse_commit,
    parse_failure,
    parse_fields,
    parse_gathering,
    parse_line_endings,
    parse_log,
    parse_names,
    parse_raw,
    parse_refs,
    parse_status,
)

SHA = b"1" * 40
PATHS = st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\0", b"!").strip(b"/") or b"x")


@given(st.binary())
def test_any_bytes_come_back_from_text_unchanged(data: bytes):
    assert encode(decode(data)) == data


def test_a_surrogate_that_stands_for_no_byte_is_replaced():
    assert encode("a\ud800b") == b"a?b"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_text_survives_encoding(text: str):
    assert decode(encode(text)) == text


@given(st.lists(PATHS))
def test_fields_are_what_nul_ends(paths: list[bytes]):
    assert parse_fields(b"".join(path + b"\0" for path in paths)) == paths
    assert parse_fields(b"".join(path + b"\0" for path in paths) + b"cut off") == paths


def _entry(states: bytes, path: bytes, submodule: bytes = b"N...") -> bytes:
    return b"1 %b %b 100644 100644 100644 %b %b %b" % (states, submodule, SHA, SHA, path)


@pytest.mark.parametrize(
    ("states", "letter"),
    [(b".M", "M"), (b"M.", "M"), (b"A.", "A"), (b"AM", "A"), (b"D.", "D"), (b".D", "D"), (b".T", "T"), (b"MD", "D")],
)
def test_status_gives_the_letter_against_head(states: bytes, letter: str):
    assert parse_status([_entry(states, b"a b\nc")]).changes.files == (Change(letter, "a b\nc"),)


def test_what_was_added_and_removed_again_is_no_change():
    assert not parse_status([_entry(b"AD", b"a")]).changes


def test_a_path_that_differs_from_the_index_twice_is_not_known_exactly():
    assert not parse_status([_entry(b"MM", b"a")]).exact
    assert not parse_status([_entry(b"D.", b"a"), b"? a"]).exact
    assert parse_status([_entry(b"M.", b"a"), b"? b"]).exact


def test_only_a_moved_pointer_makes_a_submodule_a_change():
    assert not parse_status([_entry(b".M", b"sub", b"S.MU")]).changes.files
    assert parse_status([_entry(b".M", b"sub", b"SC..")]).changes.files == (Change("M", "sub"),)


def test_an_untracked_path_with_a_slash_is_a_nested_repository():
    changes = parse_status([b"? nested\xff/", b"? plain"]).changes
    assert changes.nested == ("nested\udcff",)
    assert changes.files == (Change("A", "plain"),)


def test_unmerged_paths_are_conflicts_unless_an_operation_is_known():
    entry = b"u UU N... 100644 100644 100644 100644 %b %b %b with space" % (SHA, SHA, SHA)
    report = parse_status([entry])
    assert report.unmerged == ("with space",)
    assert report.changes.in_progress == "conflicts"
    assert parse_status([entry], operation="merge").changes.in_progress == "merge"


@given(st.lists(PATHS, unique=True))
def test_names_and_raw_differences_give_any_path_exactly(paths: list[bytes]):
    expected = {decode(path) for path in paths}
    names = parse_names([field for path in paths for field in (b"A", path)])
    raw = parse_raw([field for path in paths for field in (b":000000 100644 %b %b A" % (SHA, SHA), path)])
    assert {change.path for change in names} == expected
    assert raw == names


def test_a_name_without_its_letter_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        parse_names([b"A", b"a", b"M"])


@given(st.lists(PATHS, unique=True), st.lists(PATHS, unique=True))
def test_a_commit_report_holds_any_paths(left: list[bytes], committed: list[bytes]):
    raw = [field for path in committed for field in (b":100644 100644 %b %b M" % (SHA, SHA), path)]
    report = parse_commit([SHA, b"errors", b"%d" % len(left), *left, *raw])
    assert report.sha == SHA.decode()
    assert {change.path for change in report.changes.files} == {decode(path) for path in committed}
    assert set(report.unreadable) | {f"{name}/" for name in report.changes.nested} == {decode(path) for path in left}


def test_a_commit_report_without_a_commit_has_no_changes():
    report = parse_commit([b"", b"nested", b" 2", b"nested/", b"written-since"])
    assert report.sha is None
    assert report.changes.nested == ("nested",)
    assert report.unreadable == ()


def test_a_failure_is_the_last_three_fields():
    failure = parse_failure(b"a\0b\0@fail\0locked\0/x/index.lock\0")
    assert failure is not None
    assert (failure.name, failure.detail, failure.fields) == ("locked", "/x/index.lock", ("a", "b"))
    assert parse_failure(b"@fail\0a\0") is None
    assert parse_failure(b"") is None


def test_only_carriage_returns_in_the_commit_are_wrong_line_endings():
    found = parse_line_endings(
        [
            b"i/lf    w/lf    attr/text             \tgood",
            b"i/crlf  w/crlf  attr/text eol=crlf    \ttab\there",
            b"i/mixed w/mixed attr/text             \tmixed",
        ]
    )
    assert found == ("mixed", "tab\there")


def test_refs_are_read_and_noise_is_not():
    assert parse_refs(SHA + b" refs/heads/a\nnoise\n" + SHA * 2 + b" x\n" + b"2" * 64 + b" refs/heads/\xff") == {
        "refs/heads/a": SHA.decode(),
        "refs/heads/\udcff": "2" * 64,
    }


def test_a_gathering_may_hold_paths_that_look_like_records():
    refs = SHA + b" refs/heads/main\n"
    found = parse_gathering(
        [
            b"@repository",
            b"@broken",
            b"nested",
            b"",
            b"",
            SHA,
            b"",
            b"",
            b"",
            b"@repository",
            b"",
            b"main",
            SHA,
            b"main",
            SHA,
            b"merge",
            b"yes",
            refs,
            b"@ignored",
            b" 7",
            b"@broken",
            b"@repository",
            b"@skipped",
            b"big",
        ]
    )
    main, nested = found.repositories
    assert (main.path, main.head, main.branch, main.operation, main.dirty) == ("", SHA.decode(), "main", "merge", True)
    assert main.refs == {"refs/heads/main": SHA.decode()}
    assert (nested.path, nested.head, nested.branch, nested.dirty, nested.refs) == ("@broken", None, None, False, {})
    assert (found.ignored, found.skipped, found.broken) == (7, ("big",), ("@repository",))


def test_a_log_keeps_bodies_exactly_and_survives_absurd_times():
    first, second = parse_log(
        [
            SHA,
            b"N\xff",
            b"e",
            b"1700000000",
            b"subject",
            b"body\n\n-- \n",
            SHA,
            b"",
            b"",
            b"99999999999999999",
            b"",
            b"",
        ]
    )
    assert (first.author_name, first.body) == ("N\udcff", "body\n\n-- \n")
    assert first.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert second.time == datetime(1970, 1, 1, tzinfo=UTC)


def test_overlap_sees_equal_paths_and_paths_above_and_below():
    assert overlap(["a", "b", "//", "b"]) == ("b",)
    assert overlap(["dir", "other", "//", "dir/file"]) == ("dir",)
    assert overlap(["dir/mine", "other", "//", "dir"]) == ("dir/mine",)
    assert overlap(["x", "//", "y"]) == ("x",)
