"""Rescues, garbage and caches as they are told; what they do with real work is tried in test_git. Time budget: 5 s."""

from __future__ import annotations

import json

import pytest

from gitmachine.cli import main


def test_nothing_is_told_as_that(capfd: pytest.CaptureFixture[str]) -> None:
    for args, says in (
        (["rescue"], "no rescued work"),
        (["rescue", "list"], "no rescued work"),
        (["gc"], "nothing to collect"),
        (["gc", "--dry-run"], "nothing to collect"),
        (["cache"], "0 B in all"),
        (["cache", "prune"], "0 B freed"),
        (["cache", "prune", "--dry-run", "--max-size", "2G"], "0 B would be freed"),
    ):
        assert main(args) == 0, args
        assert capfd.readouterr() == ("", f"gitmachine: {says}\n")


def test_nothing_is_a_document_too(capfd: pytest.CaptureFixture[str]) -> None:
    for args, key in (
        (["rescue", "--json"], "rescues"),
        (["rescue", "list", "--json"], "rescues"),
        (["gc", "--json"], "collected"),
        (["cache", "--json"], "entries"),
        (["cache", "show", "--json"], "entries"),
        (["cache", "prune", "--json"], "pruned"),
    ):
        assert main(args) == 0, args
        assert json.loads(capfd.readouterr().out)[key] == []


def test_mistakes_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    for args, code in (
        (["rescue", "show", "nosuch"], 1),
        (["rescue", "push", "../../etc"], 1),
        (["rescue", "drop", ""], 1),
        (["rescue", "--json", "list"], 2),
        (["cache", "--json", "show"], 2),
        (["cache", "prune", "--max-size", "2X"], 2),
        (["cache", "prune", "--max-age", "-1"], 2),
        (["gc", "--retention-days", "x"], 2),
    ):
        assert main(args) == code, args
        out, err = capfd.readouterr()
        assert (out, "Traceback" in err) == ("", False)
        assert err.startswith("gitmachine: ")
