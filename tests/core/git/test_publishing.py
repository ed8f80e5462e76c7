"""Verified pushes: what counts is what the remote answers afterwards; every refusal is told apart.

Time budget: 120 s.
"""

from __future__ import annotations

import attrs
import pytest

from gitmachine.errors import PushAuthenticationError, PushError, PushRejectedError, PushUnreachableError
from gitmachine.git.model import GitOptions
from support.bench import QUICK
from support.gitserver import Mischief, serving
from support.machines import FilesMachine, StreamMachine
from support.repos import add_commit, git, make_remote, show, tip

TOKEN = "canary-token-0004"
TRANSPORTS = pytest.mark.parametrize("transport", ["relay", "direct"])


@pytest.fixture
def remote(tmp_path):
    (tmp_path / "srv").mkdir()
    return make_remote(tmp_path / "srv" / "r.git", commits=10)


@pytest.fixture
def server(tmp_path, remote):
    with serving(tmp_path / "srv", token=TOKEN) as running:
        yield running


async def ready(bench, server, transport, **options):
    """A bench with one collected commit that is not published."""
    options.setdefault("token", TOKEN)
    one = await bench(f"{server.url}/r.git", options=GitOptions(transport=transport), **options)
    await one.begin()
    sha = await one.commit("new.txt")
    await one.collect()
    return one, sha


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_push_is_reported_when_the_remote_says_so(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    result = await one.transport.publish(sha, "feat")
    assert (result.status, result.branch, result.local_sha, result.remote_sha) == ("pushed", "feat", sha, sha)
    assert tip(remote, "feat") == sha
    assert one.transport.remote_state.branch("feat") == sha
    again = await one.transport.publish(sha, "feat")
    assert (again.status, again.commits) == ("up_to_date", 0)


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_push_whose_answer_is_lost_is_found_out(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    server.misbehave(Mischief.ACCEPT_PUSH_SILENTLY)
    result = await one.transport.publish(sha, "feat")
    assert (result.status, result.remote_sha) == ("pushed", sha)


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_remote_that_cannot_be_asked_afterwards_is_no_success(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    server.misbehave(Mischief.ACCEPT_AND_DIE)
    with pytest.raises(PushUnreachableError, match="could not be asked"):
        await one.transport.publish(sha, "feat")
    server.behave()
    assert (await one.transport.publish(sha, "feat")).remote_sha == sha


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
@pytest.mark.parametrize("mischief", [Mischief.FAIL, Mischief.CUT_OFF])
async def test_a_remote_that_is_out_of_order(bench, server, remote, transport, mischief):
    one, sha = await ready(bench, server, transport)
    server.misbehave(mischief)
    with pytest.raises(PushUnreachableError):
        await one.transport.publish(sha, "feat")
    assert git("-C", remote, "branch", "--list", "feat") == ""
    server.behave()
    await one.transport.publish(sha, "feat")
    assert tip(remote, "feat") == sha


@pytest.mark.requires("git-http-backend")
async def test_a_remote_that_hangs(bench, server, remote):
    limits = attrs.evolve(QUICK, idle_seconds=1, ask_seconds=1)
    one, sha = await ready(bench, server, "relay")
    one.transport.host.limits = limits
    server.misbehave(Mischief.HANG)
    with pytest.raises(PushUnreachableError):
        await one.transport.publish(sha, "feat")


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_credential_that_may_only_read(bench, server, remote, transport):
    server.read_only_token = "only-reading"
    one, sha = await ready(bench, server, transport, token="only-reading")
    with pytest.raises(PushAuthenticationError) as caught:
        await one.transport.publish(sha, "feat")
    assert "only-reading" not in str(caught.value) + caught.value.stderr + repr(caught.value.argv)


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_push_that_is_forbidden_and_a_credential_that_expired(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    server.misbehave(Mischief.FORBIDDEN_PUSH)
    with pytest.raises(PushAuthenticationError, match="did not accept the credential"):
        await one.transport.publish(sha, "feat")
    server.misbehave(Mischief.UNAUTHORIZED)
    with pytest.raises(PushAuthenticationError):
        await one.transport.publish(sha, "feat")


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_rule_of_the_remote_is_quoted(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no pushes on Sundays' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(PushRejectedError, match="no pushes on Sundays") as caught:
        await one.transport.publish(sha, "feat")
    assert caught.value.ahead is None


async def test_a_branch_that_is_checked_out_there_is_told_as_that(bench, tmp_path):
    made = make_remote(tmp_path / "r.git", commits=1)
    git("clone", "-q", made, tmp_path / "tree")
    git("-C", tmp_path / "tree", "checkout", "-q", "-b", "feat")
    one = await bench(str(tmp_path / "tree"), options=GitOptions(transport="relay"))
    await one.begin()
    sha = await one.commit("new.txt")
    await one.collect()
    with pytest.raises(
        PushRejectedError, match="'feat', which is checked out there: check out another branch"
    ) as caught:
        await one.transport.publish(sha, "feat")
    assert "git said" not in str(caught.value)


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_diverged_branch_fails_with_the_numbers(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    add_commit(remote, "feat", {"a": b"1"}, start=tip(remote, "main"))
    theirs = add_commit(remote, "feat", {"b": b"1"})
    with pytest.raises(PushRejectedError, match="ahead 1, behind 2") as caught:
        await one.transport.publish(sha, "feat")
    assert (caught.value.ahead, caught.value.behind) == (1, 2)
    assert tip(remote, "feat") == theirs


@pytest.mark.requires("git-http-backend")
async def test_a_branch_that_has_ours_and_more_says_that_nothing_is_missing(bench, server, remote):
    one, sha = await ready(bench, server, "relay")
    await one.transport.publish(sha, "feat")
    theirs = add_commit(remote, "feat", {"a": b"1"})
    with pytest.raises(PushRejectedError) as caught:
        await one.transport.publish(sha, "feat")
    assert (caught.value.ahead, caught.value.behind) == (0, 1)
    result = await one.transport.publish(sha, "feat", policy="rebase")
    assert (result.status, result.local_sha) == ("up_to_date", theirs)


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_sibling_goes_beside(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    theirs = add_commit(remote, "feat", {"a": b"1"}, start=tip(remote, "main"))
    result = await one.transport.publish(sha, "feat", policy="sibling")
    assert (result.branch, result.remote_sha) == (f"feat-{sha[:8]}", sha)
    assert (tip(remote, "feat"), tip(remote, result.branch)) == (theirs, sha)


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_rebase_replays_and_the_machine_can_follow(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    theirs = add_commit(remote, "feat", {"a": b"1"}, start=tip(remote, "main"))
    result = await one.transport.publish(sha, "feat", policy="rebase")
    assert result.local_sha == result.remote_sha == tip(remote, "feat") != sha
    assert git("-C", remote, "rev-parse", "feat~1") == theirs
    assert show(remote, "feat:new.txt") == "work"
    await one.transport.refresh(one.machine, one.path)
    assert (
        await one.sh("git reset -q --hard origin/feat && git rev-parse HEAD && git status --porcelain")
        == result.local_sha
    )
    assert await one.transport.store.has(sha)


@pytest.mark.requires("git-http-backend")
async def test_a_rebase_with_a_conflict_names_the_files_and_changes_nothing(bench, server, remote):
    one, sha = await ready(bench, server, "relay")
    theirs = add_commit(remote, "feat", {"new.txt": b"theirs\n"}, start=tip(remote, "main"))
    with pytest.raises(PushRejectedError, match=r"conflicts in 'new\.txt'") as caught:
        await one.transport.publish(sha, "feat", policy="rebase")
    assert (caught.value.ahead, caught.value.behind) == (1, 1)
    assert tip(remote, "feat") == theirs


@TRANSPORTS
@pytest.mark.requires("git-http-backend")
async def test_a_lease_overwrites_only_what_it_names(bench, server, remote, transport):
    one, sha = await ready(bench, server, transport)
    theirs = add_commit(remote, "feat", {"a": b"1"}, start=tip(remote, "main"))
    with pytest.raises(PushRejectedError):
        await one.transport.publish(sha, "feat", lease=tip(remote, "main"))
    assert tip(remote, "feat") == theirs
    assert (await one.transport.publish(sha, "feat", lease=theirs)).remote_sha == sha


async def test_a_commit_that_was_not_collected_is_not_pushed(bench, remote):
    one = await bench(remote)
    await one.begin()
    sha = await one.commit("new.txt")
    with pytest.raises(PushError, match="was not collected"):
        await one.transport.publish(sha, "feat")


@pytest.mark.parametrize("machine", [StreamMachine, FilesMachine])
async def test_hooks_of_the_agents_repository_do_not_run_on_a_direct_push(bench, remote, machine):
    one = await bench(remote, machine=machine, options=GitOptions(transport="direct"))
    await one.begin()
    sha = await one.commit("new.txt")
    await one.sh("printf '#!/bin/sh\\ntouch ran\\nexit 1\\n' > .git/hooks/pre-push && chmod +x .git/hooks/pre-push")
    await one.collect()
    assert (await one.transport.publish(sha, "feat")).remote_sha == sha
    assert await one.sh("ls ran", check=False) == ""


@pytest.mark.requires("git-http-backend")
async def test_work_of_a_machine_that_is_gone_is_pushed_from_the_host(bench, server, remote):
    one, sha = await ready(bench, server, "relay")
    await one.machine.stop()
    assert (await one.transport.publish(sha, "feat")).remote_sha == sha
