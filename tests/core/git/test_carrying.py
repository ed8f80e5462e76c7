"""What is told to the machine's scripts, and how their failures read. Time budget: 10 s."""

from __future__ import annotations

import pytest

from gitmachine.errors import CloneError
from gitmachine.git.carrying import Delivery, carry_error, object_format, run_script, script_request
from gitmachine.git.model import RemoteState
from support.machines import FilesMachine
from support.repos import git, make_remote, tip


def test_the_digest_is_what_git_computes_over_the_refs(tmp_path):
    remote = make_remote(tmp_path / "r.git", commits=2)
    for name in ("a", "a-b", "b/c", "ünï", "HEAD"):
        git("-C", remote, "update-ref", f"refs/remotes/origin/{name}", "main")
    listed = git("-C", remote, "for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes/origin").splitlines()
    kept = "".join(f"{line}\n" for line in listed if not line.endswith(" refs/remotes/origin/HEAD"))
    expected = git("hash-object", "--stdin", cwd=remote, stdin=kept.encode())
    refs = {f"refs/heads/{name}": tip(remote, "main") for name in ("ünï", "b/c", "a-b", "a", "HEAD")}
    state = RemoteState(default_branch=None, refs=refs)
    assert Delivery(url="u", state=state, fresh=True).digest() == expected


def test_branches_and_tags_get_their_names_in_the_machine():
    state = RemoteState(default_branch="m", refs={"refs/heads/m": "a" * 40, "refs/tags/v/1": "b" * 40})
    delivery = Delivery(url="u", state=state, fresh=False, commit="c" * 40)
    assert dict(delivery.heads) == {"refs/remotes/origin/m": "a" * 40}
    assert dict(delivery.tags) == {"refs/gitmachine/tags/v/1": "b" * 40}
    assert delivery.arguments("/p")[:5] == ("/p", "u", "sha1", "", "m")
    assert delivery.arguments("/p")[6] == "c" * 40


def test_the_hash_function_is_told_by_the_refs():
    assert object_format(RemoteState(default_branch=None, refs={})) == "sha1"
    assert object_format(RemoteState(default_branch=None, refs={"refs/heads/x": "a" * 64})) == "sha256"


def test_arguments_are_never_part_of_the_script():
    request = script_request("exit 0", "$(touch x)", "'; rm -rf /")
    assert request.argv is not None
    assert request.argv[4:] == ("$(touch x)", "'; rm -rf /")
    assert "touch x" not in request.argv[2]


async def test_a_failing_script_says_what_was_being_done(tmp_path):
    machine = FilesMachine(tmp_path)
    await machine.start()
    assert await run_script(machine, 'printf %s "$1"', "/p ath", doing="nothing") == b"/p ath"
    with pytest.raises(CloneError, match="tidying up failed in the machine with exit code 7") as caught:
        await run_script(machine, "echo why >&2; exit 7", "/p", doing="tidying up")
    assert caught.value.exit_code == 7
    assert "why" in str(caught.value)
    await machine.stop()


def test_known_problems_read_as_sentences():
    assert (
        str(carry_error(92, "", path="/p", doing="x"))
        == "the directory '/p' in the machine is not empty: choose another path"
    )
    assert "git is not installed in the machine" in str(carry_error(90, "sh: no", path="/{p}", doing="x"))
