"""Failed scripts as errors: the right class, what to do, and nothing secret.

Time budget: 2 s.
"""

from __future__ import annotations

import pytest

from gitmachine.errors import (
    CheckoutError,
    CommitError,
    CommitRejected,
    GitError,
    PullConflictError,
    PullDivergedError,
)
from gitmachine.execution import ExecResult
from gitmachine.git.failures import MAX_STDERR_CHARACTERS, git_error, listing


def _error(
    *fields: str, stderr: str = "", failed: type[GitError] = GitError, exit_code: int = 3, secret: str = "hunter2"
) -> GitError:
    output = "".join(f"{field}\0" for field in fields).encode("utf-8", "surrogateescape")
    result = ExecResult(exit_code=exit_code, stdout_bytes=output, stderr_bytes=stderr.encode())
    return git_error("pull", result, path="/repo", failed=failed, redact=lambda text: text.replace(secret, "***"))


@pytest.mark.parametrize(
    ("fields", "failed", "cls", "words"),
    [
        (("@fail", "locked", "/repo/.git/index.lock"), CommitError, CommitError, "remove /repo/.git/index.lock"),
        (("@fail", "in-progress", "merge"), CommitError, CommitError, "a merge is in progress"),
        (
            ("@fail", "unmerged", "rebase"),
            CommitError,
            CommitError,
            "a rebase is in progress with unresolved conflicts",
        ),
        (("@fail", "unmerged", "conflicts"), GitError, GitError, "there are unresolved conflicts"),
        (("@fail", "in-progress", "bisect"), GitError, GitError, "git bisect reset"),
        (("@fail", "no-git", ""), CheckoutError, CheckoutError, "install it in the image"),
        (("@fail", "not-a-repository", ""), GitError, GitError, "/repo is not the top of a git repository"),
        (("@fail", "branch-exists", "x"), CheckoutError, CheckoutError, "'x' exists already"),
        (("@fail", "no-revision", "a{b}"), GitError, GitError, "no commit 'a{b}'"),
        (("x", "y/", "@fail", "unreadable", ""), CommitError, CommitError, "cannot add 'x',"),
        (("big", "@fail", "large", ""), GitError, GitError, "overwrite 'big'"),
        (("b", "a", "b", "@fail", "conflict", ""), GitError, PullConflictError, "conflicts in 'a', 'b'"),
        (("a", "//", "a", "@fail", "overlap", ""), GitError, PullConflictError, "uncommitted changes in 'a'"),
        (("@fail", "diverged", "2\t3"), GitError, PullDivergedError, "2 ahead of and 3 behind"),
        (("@fail", "rejected", ""), CommitError, CommitRejected, "refused the commit"),
        (("@fail", "unheard-of", ""), CommitError, CommitError, "git pull failed in /repo: exit code 3"),
    ],
)
def test_each_failure_is_its_own_error(
    fields: tuple[str, ...], failed: type[GitError], cls: type[GitError], words: str
):
    error = _error(*fields, failed=failed)
    assert type(error) is cls
    assert words in str(error)
    assert error.argv == ("git", "pull")
    assert error.exit_code == 3


def test_what_is_in_progress_is_an_attribute():
    error = _error("@fail", "in-progress", "cherry-pick", failed=CommitError)
    assert isinstance(error, CommitError)
    assert error.in_progress == "cherry-pick"


def test_a_script_that_died_is_told_by_the_most_telling_line():
    error = _error(stderr="warning: x\nfatal: the cause\nhint: try\n", exit_code=128)
    assert str(error) == "git pull failed in /repo: fatal: the cause"
    assert "exit code 137" in str(_error(exit_code=137))


def test_secrets_are_in_no_part_of_an_error():
    for name in ("locked", "no-revision", "in-progress", "rejected", "died", "conflict"):
        error = _error("hunter2", "@fail", name, "hunter2", stderr="fatal: hunter2", failed=CommitError)
        assert "hunter2" not in f"{error} {error.stderr}"


def test_only_the_end_of_standard_error_is_kept():
    error = _error(stderr="x" * 100_000 + "the end")
    assert len(error.stderr) == MAX_STDERR_CHARACTERS
    assert error.stderr.endswith("the end")


def test_a_long_list_is_cut_and_counted():
    assert listing(["b", "a\n"]) == r"'a\n', 'b'"
    assert listing(str(number) for number in range(100, 115)).endswith("'109' and 5 more")
