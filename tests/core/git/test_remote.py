"""The remote asked and pushed to: what it answers, how it refuses, hostile addresses.

Time budget: 60 s.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitmachine.errors import CloneError, ConfigError
from gitmachine.git.credentials import credential_source, no_credential
from gitmachine.git.host import HostGit, Limits
from gitmachine.git.names import check_repository
from gitmachine.git.remote import Failure, Remote, classify, last_words, parse_push, parse_remote_state
from support.gitserver import Mischief, serving
from support.repos import add_commit, git, make_empty_remote, make_remote, tip

TOKEN = "canary-token-0001"


def remote(address: object, *, token: str | None = None, limits: Limits | None = None) -> Remote:
    url = check_repository(str(address))
    return Remote(url, HostGit(limits=limits), credential_source(url, token))


@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_a_repository_of_this_host_is_asked(tmp_path, form):
    made = make_remote(tmp_path / "r.git", commits=3, branch="trunk")
    git("-C", made, "tag", "-a", "-m", "one", "v1", "trunk")
    git("-C", made, "update-ref", "refs/pull/1/head", "trunk")
    state = await remote(form.format(made)).ask()
    assert state.default_branch == "trunk"
    assert state.refs == {
        "refs/heads/trunk": tip(made, "trunk"),
        "refs/tags/v1": git("-C", made, "rev-parse", "refs/tags/v1"),
    }


async def test_an_empty_repository_has_no_default_branch(tmp_path):
    state = await remote(make_empty_remote(tmp_path / "r.git")).ask()
    assert (state.default_branch, dict(state.refs)) == (None, {})


async def test_a_head_that_dangles_is_no_default_branch(tmp_path):
    made = make_remote(tmp_path / "r.git", commits=1)
    git("-C", made, "symbolic-ref", "HEAD", "refs/heads/gone")
    assert (await remote(made).ask()).default_branch is None


async def test_a_missing_repository_is_named(tmp_path):
    missing = tmp_path / "missing.git"
    with pytest.raises(CloneError, match="does not exist") as caught:
        await remote(missing).ask()
    assert str(missing) in str(caught.value)
    (tmp_path / "plain").mkdir()
    with pytest.raises(CloneError, match="plain' is no git repository: make one of it with git init, or name another"):
        await remote(tmp_path / "plain").ask()
    (tmp_path / "file").touch()
    with pytest.raises(CloneError, match="file' is a file: expected a directory with a git repository"):
        await remote(tmp_path / "file").ask()


async def test_a_folder_in_a_repository_is_told_which_repository(tmp_path):
    git("init", "-q", tmp_path / "top")
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    with pytest.raises(CloneError, match=r"a/b' is a folder in the repository '.*/top': name that one"):
        await remote(tmp_path / "top" / "a" / "b").ask()


def test_the_last_words_of_git_begin_with_a_line():
    assert last_words("one\n") == "one"
    assert last_words("x" * 600) == "x" * 500
    assert last_words("first line\nsecond\nthird\n", 15) == "second\nthird"


@pytest.mark.requires("root")
async def test_a_repository_that_belongs_to_another_user_can_be_read_and_pushed_to(tmp_path, host):
    made = make_remote(tmp_path / "r.git", commits=1)
    subprocess.run(["chown", "-R", "65534", str(made)], check=True)
    other = remote(made)
    assert (await other.ask()).default_branch == "main"
    source = make_remote(tmp_path / "s.git", commits=2)
    answer = await other.push(source, tip(source, "main"), "feat")
    assert answer.flag == "*"
    assert tip_as_owner(made, "feat") == tip(source, "main")


def tip_as_owner(repository: Path, branch: str) -> str:
    return git("-c", "safe.directory=*", "-C", repository, "rev-parse", f"refs/heads/{branch}")


@pytest.mark.requires("git-http-backend")
async def test_over_http_a_token_is_needed_and_enough(tmp_path):
    made = make_remote(tmp_path / "r.git", commits=2)
    with serving(tmp_path, token=TOKEN) as server:
        assert (await remote(f"{server.url}/r.git", token=TOKEN).ask()).branch("main") == tip(made, "main")
        for token in (None, "wrong-token"):
            with pytest.raises(CloneError, match="did not accept the credential") as caught:
                await remote(f"{server.url}/r.git", token=token).ask()
            assert "wrong-token" not in str(caught.value)
        with pytest.raises(CloneError, match="does not exist, or"):
            await remote(f"{server.url}/other.git", token=TOKEN).ask()


@pytest.mark.requires("git-http-backend")
async def test_faults_of_a_server_are_told_apart(tmp_path):
    make_remote(tmp_path / "r.git", commits=2)
    with serving(tmp_path, token=TOKEN) as server:
        address = f"{server.url}/r.git"
        for mischief in (Mischief.FAIL, Mischief.CUT_OFF):
            server.misbehave(mischief)
            with pytest.raises(CloneError, match="cannot be reached or broke off"):
                await remote(address, token=TOKEN).ask()
        server.misbehave(Mischief.HANG)
        with pytest.raises(CloneError, match="cannot be reached or broke off"):
            await remote(address, token=TOKEN, limits=Limits(ask_seconds=1)).ask()
        server.misbehave(Mischief.UNAUTHORIZED)
        with pytest.raises(CloneError, match="did not accept the credential"):
            await remote(address, token=TOKEN).ask()
        server.behave()
        assert (await remote(address, token=TOKEN).ask()).default_branch == "main"
    with pytest.raises(CloneError, match="cannot be reached"):
        await remote(address, token=TOKEN).ask()


@pytest.mark.requires("git-http-backend")
async def test_a_credential_does_not_follow_a_redirect_to_another_host(tmp_path):
    make_remote(tmp_path / "r.git", commits=1)
    with serving(tmp_path, token=TOKEN) as theirs, serving(tmp_path, token=TOKEN) as ours:
        ours.redirect_to = theirs.url
        with pytest.raises(CloneError, match="did not accept the credential"):
            await remote(f"{ours.url}/r.git", token=TOKEN).ask()
        assert theirs.requests
        assert not any(header for header in theirs.authorizations)


async def test_ssh_runs_the_users_ssh_without_prompts(tmp_path, monkeypatch):
    make_remote(tmp_path / "r.git", commits=1)
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "ssh"
    # Stands for a host that anybody may log in to: writes its arguments down, runs the command here.
    fake.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/argv\nenv > {tmp_path}/env\n'
        'while [ "${1#-}" != "$1" ]; do case $1 in -o|-p) shift 2 ;; *) shift ;; esac; done\nshift\nexec sh -c "$*"\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    monkeypatch.setenv("GIT_SSH_COMMAND", "evil")
    state = await remote(f"git@host.example:{tmp_path}/r.git").ask()
    assert state.default_branch == "main"
    assert "BatchMode=yes" in (tmp_path / "argv").read_text()
    assert "SSH_AUTH_SOCK=/agent" in (tmp_path / "env").read_text()


async def test_a_push_is_never_forced_except_under_a_lease(tmp_path):
    made = make_remote(tmp_path / "r.git", commits=3)
    other = make_remote(tmp_path / "s.git", commits=2)
    target, sha = remote(made), add_commit(other, "main", {"x": b"1"})
    before = tip(made, "main")
    assert (await target.push(other, sha, "main")).flag == "!"
    assert (await target.push(other, sha, "main", lease="0" * 40)).flag == "!"
    assert tip(made, "main") == before
    assert (await target.push(other, sha, "main", lease=before)).flag == "+"
    assert tip(made, "main") == sha
    assert (await target.push(other, sha, "main")).flag == "="


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("fatal: Authentication failed for 'https://h/'", Failure.AUTHENTICATION),
        (
            "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            Failure.AUTHENTICATION,
        ),
        ("error: The requested URL returned error: 403", Failure.AUTHENTICATION),
        ("remote: Repository not found.\nfatal: repository 'https://h/' not found", Failure.MISSING),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", Failure.UNREACHABLE),
        ("error: RPC failed; curl 18 transfer closed", Failure.UNREACHABLE),
        ("something new", Failure.OTHER),
    ],
)
def test_gits_messages_are_told_apart(text, failure):
    assert classify(text) is failure


def test_an_old_server_that_names_no_default_branch():
    sha = "a" * 40
    listing = f"{sha}\tHEAD\n{sha}\trefs/heads/master\n{sha}\trefs/heads/x\n{sha}\trefs/tags/v^{{}}\n".encode()
    state = parse_remote_state(listing)
    assert state.default_branch == "master"
    assert list(state.refs) == ["refs/heads/master", "refs/heads/x"]


def test_the_answer_to_a_push_is_parsed():
    output = "To /x\n!\tabc:refs/heads/f\t[rejected] (fetch first)\nDone\n"
    assert parse_push(output, "refs/heads/f") == ("!", "[rejected] (fetch first)")
    assert parse_push("To /x\n*\ta:refs/heads/other\t[new branch]\n", "refs/heads/f") == ("", "")


PIECES = [
    "$(touch {})",
    "`touch {}`",
    ";touch {};",
    "'",
    '"',
    "\n",
    " ",
    "--upload-pack=touch {}",
    "-",
    "ext::touch {}",
]
PIECES += ["..", "/", "x", "ü", "|", "&", "%0a", "%00", "\\", "fd::0"]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join))
async def test_no_address_makes_anything_run(tmp_path, text):
    ran = tmp_path / "ran"
    text = text.replace("{}", str(ran))
    for address in (text, f"file://{tmp_path}/{text}", f"{tmp_path}/{text}"):
        try:
            url = check_repository(address, cwd=tmp_path)
        except ConfigError:
            continue
        if not url.local or url.path.rstrip("/") in (str(tmp_path), "/"):
            continue
        with pytest.raises(CloneError):
            await Remote(url, HostGit(), no_credential).ask()
    assert not ran.exists()


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.sampled_from(["$(touch ran)", "`touch ran`", "'", '"', ";", " ", "ü", "|", "&", "%41"]),
        min_size=1,
        max_size=4,
    )
)
async def test_a_repository_with_a_strange_path_is_read(tmp_path, pieces):
    place = tmp_path / "".join(pieces)
    shutil.rmtree(place, ignore_errors=True)
    made = make_remote(place, commits=1)
    assert (await remote(made).ask()).branch("main") == tip(made, "main")
    assert not list(tmp_path.glob("ran"))
