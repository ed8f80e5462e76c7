"""`${VAR}` expands, `$${` does not, and what is missing is named. Time budget: 1 s."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine.config.text import Loose, escape, expand, join, loosen, variables


def expanded(text: object, **environ: str) -> tuple[object, list[str]]:
    problems: list[str] = []
    return expand(text, environ, "a.b", problems), problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "1"),
        ("x${A}y${B}", "x1y2"),
        ("${NO:-d e}", "d e"),
        ("${NO:-}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("$A $(A) `A` $", "$A $(A) `A` $"),
        ("$${A}", "${A}"),
        ("$${A} ${A}", "${A} 1"),
        ("${EVIL}", "${A}"),
    ],
)
def test_variables_are_replaced_once(text: str, value: str) -> None:
    assert expanded(text, A="1", B="2", EMPTY="", EVIL="${A}") == (value, [])


def test_a_missing_variable_is_named_with_what_to_do() -> None:
    problems: list[str] = []
    expand({"api_key": "${API_KEY}"}, {}, "providers.e2b", problems)
    assert problems == ["the variable API_KEY is not set @ providers.e2b.api_key: set it or write ${API_KEY:-default}"]


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A", "${A-b}", "${A B}"])
def test_what_is_no_reference_is_told(text: str) -> None:
    _value, problems = expanded(text, A="1")
    assert problems == [f"cannot read {text!r} @ a.b: write ${{NAME}}, or $${{ for a plain ${{"]


def test_an_expanded_value_is_loose_and_shows_its_source() -> None:
    value, _ = expanded("${A}", A="1")
    assert isinstance(value, Loose)
    assert value.shown == "'${A}'"
    assert not isinstance(expanded("plain")[0], Loose)


def test_references_are_found_everywhere() -> None:
    assert variables({"a": ["${X}", {"b": "y${Y:-z}"}], "c": 1, "d": "$${Z}"}) == {"X", "Y"}


def test_a_key_that_needs_quotes_is_quoted() -> None:
    assert join("a", "b-c_1") == "a.b-c_1"
    assert join("a", 'b."\n') == 'a."b.\\"\\n"'
    assert join("", "b") == "b"


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_escaped_data_expands_to_itself(data: object) -> None:
    problems: list[str] = []
    assert expand(escape(data), {}, "", problems) == data
    assert problems == []
    assert loosen(data) == data
