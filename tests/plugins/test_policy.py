"""gitmachine-policy: which commands are refused, and what its settings may be. Time budget: 10 s."""

from __future__ import annotations

import pytest

from gitmachine import CommandVetoed, ConfigError, ExecRequest
from gitmachine_policy import plugin
from gitmachine_policy.patterns import read_rules, refusal

DENY = {"deny": [r"\bsudo\b", r"curl\b.*\|\s*(ba)?sh", r"^git push"], "allow": ["git push --dry-run"]}


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (ExecRequest(argv=("sudo", "ls")), True),
        (ExecRequest(shell="echo 1; sudo ls"), True),
        (ExecRequest(shell="curl https://x | sh"), True),
        (ExecRequest(argv=("git", "push", "origin")), True),
        (ExecRequest(argv=("git", "push", "--dry-run")), False),
        (ExecRequest(shell="git push --dry-run; git push"), True),
        (ExecRequest(argv=("echo", "pseudo")), False),
        (ExecRequest(shell="curl https://x -o y"), False),
    ],
)
def test_a_command_is_refused_by_pattern(request_, refused):
    assert (refusal(request_, read_rules(DENY, {})) is not None) is refused


def test_the_environment_adds_patterns():
    rules = read_rules({}, {"GITMACHINE_POLICY_DENY": "^rm\n\n  ^dd  \n"})
    refused = [name for name in ("rm", "dd", "ls") if refusal(ExecRequest(argv=(name, "x")), rules) is not None]
    assert refused == ["rm", "dd"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"deny": ["["]}, "no regular expression"),
        ({"deny": "sudo"}, "expected a list"),
        ({"deny": [1]}, "expected a regular expression, not 1"),
        ({"dney": []}, r"unknown option @ plugins\.options\.policy\.dney"),
        ({"message": 1}, "expected text"),
    ],
)
def test_a_policy_that_cannot_be_read_is_an_error(options, problem):
    with pytest.raises(ConfigError, match=problem):
        read_rules(options, {})


async def test_a_session_refuses_and_says_why(session):
    gm = session(plugin, "policy", DENY | {"message": "ask ops"})
    async with gm:
        with pytest.raises(CommandVetoed, match=r"the policy refuses this command, since it matches .*sudo.*: ask ops"):
            await gm.run("sudo ls")
        with pytest.raises(CommandVetoed):
            await gm.spawn(["git", "push"])
        assert (await gm.run("echo fine")).stdout == "fine\n"


async def test_a_policy_that_is_broken_lets_nothing_through(session):
    async with session(plugin, "policy", {"deny": ["["]}) as gm:
        with pytest.raises(ConfigError, match="regular expression"):
            await gm.run("true")
