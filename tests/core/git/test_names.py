"""Session names and addresses, hostile ones included, checked against git itself.

Time budget: 60 s (thousands of names are each asked of git).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitmachine.errors import ConfigError
from gitmachine.git.model import GitCredential
from gitmachine.git.names import check_branch, check_repository, check_session, session_conflict

SLOWLY = settings(deadline=None, max_examples=700, suppress_health_check=[HealthCheck.too_slow])
PIECES = [
    "a",
    "/",
    ".",
    "..",
    "-",
    "@",
    "{",
    "@{",
    "~",
    "^",
    ":",
    "?",
    "*",
    "[",
    "\\",
    " ",
    "\n",
    "\0",
    "\x7f",
    ".lock",
]
PIECES += [
    "HEAD",
    "refs/",
    "refs/heads/x",
    "$(touch x)",
    "`id`",
    "'",
    '"',
    ";",
    "|",
    "&",
    "ü",
    "日本",
    "--upload-pack=x",
]
PIECES += ["//", "x", "0" * 40, "\u2028", "\x9b", "é" * 120, "\udcff"]
hostile = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=0, max_size=6).map("".join)


def git_accepts(name: str) -> bool:
    """Ask git, both ways."""
    if "\0" in name:
        return False
    data = name.encode("utf-8", "surrogateescape")
    ways = ([b"git", b"check-ref-format", b"refs/heads/" + data], [b"git", b"check-ref-format", b"--branch", data])
    return all(subprocess.run(way, capture_output=True, timeout=60, check=False).returncode == 0 for way in ways)


@SLOWLY
@given(hostile)
@example("feature/login")
@example("-x")
@example("a.lock/b")
@example("@")
def test_a_name_that_is_accepted_is_accepted_by_git_and_comes_back_unchanged(name):
    try:
        accepted = check_session(name)
    except ConfigError as error:
        accepted, said = None, str(error)
    if accepted is None:
        assert repr(name) in said
    else:
        assert accepted == name
        assert git_accepts(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "HEAD",
        "FETCH_HEAD",
        "@",
        "-b",
        "--help",
        "refs/heads/x",
        "a..b",
        "a//b",
        "/a",
        "a/",
        "a.",
        ".a",
        "a/.b",
        "a.lock",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a@{1}",
        "a\nb",
        "a\0b",
        "a\x7f",
        "a\x9bb",
        "a\u2028b",
        "0" * 40,
        "f" * 64,
        "x" * 231,
        "ü" * 116,
        "a\udcffb",
    ],
)
def test_a_name_with_another_meaning_is_refused_with_what_was_typed(name):
    with pytest.raises(ConfigError) as caught:
        check_session(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["feat", "feature/login", "gitmachine/0a1b", "fix-#12", "a@b", "ünïcode", "HEADER", "x" * 230]
)
def test_an_ordinary_name_is_accepted(name):
    assert check_session(name) == name
    assert git_accepts(name)


def test_a_branch_is_called_a_branch_in_the_message():
    with pytest.raises(ConfigError, match="invalid base"):
        check_branch("a b", what="base")


def test_names_that_cannot_stand_beside_each_other_are_found():
    assert session_conflict("agent", ["main", "agent/x"]) == "agent/x"
    assert session_conflict("agent/x", ["main", "agent"]) == "agent"
    assert session_conflict("agent", ["agents", "agent", "main"]) is None


@pytest.mark.parametrize(
    ("text", "kind", "url", "canonical"),
    [
        ("https://GitHub.com/u/r.git", "https", "https://GitHub.com/u/r.git", "https://github.com/u/r.git"),
        ("https://h:443/u/r/", "https", "https://h:443/u/r/", "https://h/u/r"),
        ("http://127.0.0.1:8080/r", "http", "http://127.0.0.1:8080/r", "http://127.0.0.1:8080/r"),
        ("https://[::1]:99/r", "https", "https://[::1]:99/r", "https://[::1]:99/r"),
        ("ssh://git@h:22/u/r.git", "ssh", "ssh://git@h:22/u/r.git", "ssh://git@h/u/r.git"),
        ("git@h:u/r.git", "scp", "git@h:u/r.git", "ssh://git@h/./u/r.git"),
        ("git@h:/u/r.git", "scp", "git@h:/u/r.git", "ssh://git@h/u/r.git"),
        ("git://h/r", "git", "git://h/r", "git://h/r"),
        ("file:///srv/a%20b.git", "file", "file:///srv/a%20b.git", "file:///srv/a b.git"),
        ("/srv/r.git", "path", "/srv/r.git", "file:///srv/r.git"),
        ("./a:b", "path", "/cwd/a:b", "file:///cwd/a:b"),
        ("../r", "path", "/r", "file:///r"),
    ],
)
def test_each_way_to_write_an_address(text, kind, url, canonical):
    found = check_repository(text, cwd=Path("/cwd"))
    assert (found.kind, found.url, found.canonical) == (kind, url, canonical)
    assert found.display == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "-x",
        "--upload-pack=touch x",
        "ext::sh -c touch% x",
        "fd::3",
        "::x",
        "https://",
        "https://h",
        "https://h/",
        "https:///r",
        "https://-oProxyCommand=x/r",
        "ssh://-oProxyCommand=x/r",
        "ssh://h/-x",
        "ssh://u:p@h/r",
        "ftp://h/r",
        "svn+ssh://h/r",
        "https://h:0/r",
        "https://h:99999/r",
        "https://h:x/r",
        "-oX:r",
        "git@-oX:r",
        "h:-x",
        "h:",
        "a\nb",
        "https://h/a b",
        'https://h/a"b',
        "https://h\\@evil/r",
        "https://h/r\0",
        "file://other/r",
        "file://r",
        "file:///a%00b",
        "/a\udcff",
        "https://ex\u00e4mple.org/r",
        "https://u%0a:p@h/r",
        "git+ssh://h/r",
        "file:///a%0ab",
    ],
)
def test_a_strange_address_is_refused(text):
    with pytest.raises(ConfigError, match="invalid repository"):
        check_repository(text)


def test_an_embedded_credential_is_split_off_and_never_shown():
    found = check_repository("https://ada:s3cr%2Fet@h/u/r.git")
    assert found.url == "https://h/u/r.git"
    assert found.credential == GitCredential("ada", "s3cr/et")
    assert "s3cr" not in repr(found) + str(found) + found.canonical + found.display


def test_a_token_without_a_password_is_a_credential_too():
    assert check_repository("https://ghp_0123456789abcdefghij@h/r").credential == GitCredential(
        "x-access-token", "ghp_0123456789abcdefghij"
    )
    plain = check_repository("https://ada@h/r")
    assert (plain.url, plain.username, plain.credential) == ("https://h/r", "ada", None)


SECRET = "S3CRETPASSWORD"


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.sampled_from([*PIECES, ":", "@", "h", "/r", ":99", "#", "?", "%", "[", "]"]), max_size=6).map("".join)
)
def test_no_address_shows_its_password(rest):
    try:
        found = check_repository(f"https://ada:{SECRET}@{rest}")
    except ConfigError as error:
        shown = str(error)
    else:
        shown = repr(found) + found.url + found.canonical + found.host + found.path
    assert SECRET not in shown


@settings(deadline=None, max_examples=1500)
@given(
    st.lists(
        st.sampled_from([*PIECES, "https://", "ssh://", "git@", "h", ":", "/r", "ext::", "file://"]), max_size=6
    ).map("".join)
)
def test_no_accepted_address_can_be_an_option_or_a_remote_helper(text):
    try:
        found = check_repository(text, cwd=Path("/cwd"))
    except ConfigError:
        return
    assert not found.url.startswith("-")
    assert not found.host.startswith("-")
    # Git takes a remote helper's name from scheme characters before "::" (transport.c).
    assert not re.match(r"[A-Za-z0-9][A-Za-z0-9+.-]*::", found.url)
    assert not any(ord(character) < 32 for character in found.url)
    assert check_repository(found.url, cwd=Path("/elsewhere")) == found


@pytest.mark.parametrize(
    ("base", "relative", "expected"),
    [
        ("https://h/u/r.git", "../s.git", "https://h/u/s.git"),
        ("https://h/u/r", "./s", "https://h/u/r/s"),
        ("https://h/u/r/", "../../x/s", "https://h/x/s"),
        ("git@h:u/r.git", "../s.git", "git@h:u/s.git"),
        ("ssh://git@h/u/r.git", "../s.git", "ssh://git@h/u/s.git"),
        ("/srv/r.git", "../s.git", "/srv/s.git"),
        ("file:///srv/r.git", "../s.git", "file:///srv/s.git"),
        ("https://h/u/r.git", "https://other/s.git", "https://other/s.git"),
    ],
)
def test_a_submodules_address_is_relative_to_its_repository(base, relative, expected):
    assert check_repository(base).resolve(relative).url == expected


def test_a_submodules_address_cannot_leave_its_host():
    with pytest.raises(ConfigError, match="leads out of"):
        check_repository("https://h/r").resolve("../../../x")


@pytest.mark.parametrize(
    ("text", "name"), [("https://h/u/my-agent.git", "my-agent"), ("/w/project/.git", "project"), ("h:r", "r")]
)
def test_a_repository_has_a_short_name(text, name):
    assert check_repository(text).name == name


def test_a_relative_path_needs_a_working_directory_and_an_absolute_one_does_not(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match=r"invalid repository 'r\.git': .*No such file.*; write an absolute path"):
        check_repository("r.git")
    assert check_repository("/r.git").path == "/r.git"
    assert check_repository("r.git", cwd=tmp_path).path == f"{tmp_path}/r.git"
