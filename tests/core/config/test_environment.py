"""The table of variables is the documented one. Time budget: 1 s."""

from __future__ import annotations

from pathlib import Path

from gitmachine.config.environment import OTHER_VARIABLES, SETTING_VARIABLES, given, hints

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_every_variable_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in (*SETTING_VARIABLES, *OTHER_VARIABLES) if f"`{name}`" not in text] == []


def test_an_empty_variable_gives_nothing() -> None:
    assert given({"GITMACHINE_TOKEN": "", "GITMACHINE_SESSION": " ", "OTHER": "x"}) == {}
    assert given({"GITMACHINE_GIT_PULL": "ff"}) == {"GITMACHINE_GIT_PULL": (("git", "pull"), "ff")}


def test_only_what_looks_misspelt_is_remarked() -> None:
    assert hints(["GITMACHINE_PROVIDR", "GITMACHINE_PROVIDER", "GITMACHINE_TESTS_BASE", "PATH"]) == (
        "the variable GITMACHINE_PROVIDR means nothing here: did you mean GITMACHINE_PROVIDER?",
    )
