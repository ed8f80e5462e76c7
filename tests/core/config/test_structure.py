"""Data becomes attrs classes strictly, and every problem is told at once. Time budget: 2 s."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine.config.structure import structure
from gitmachine.config.text import Loose
from gitmachine.errors import ConfigError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen(kw_only=True)
class Limits:
    cpus: float = 1.0
    processes: int | None = None


def _positive(_owner: object, _field: object, value: int) -> None:
    if value <= 0:
        raise ValueError(f"expected more than 0, not {value}")


@attrs.frozen(kw_only=True)
class Sample:
    image: str
    timeout: int = attrs.field(default=300, validator=_positive)
    memory: int | str = 0
    network: Literal["none", "host"] = "none"
    tags: tuple[str, ...] = ()
    ports: list[int] = attrs.field(factory=list)
    labels: Mapping[str, str] = attrs.field(factory=dict)
    limits: Limits = attrs.field(factory=Limits)
    home: Path | None = None
    colour: Colour = Colour.RED
    secret: str | None = attrs.field(default=None, repr=False, metadata={"secret": True})
    verbose: bool = False
    anything: Any = None


def problems(data: dict[str, Any], path: str = "providers.e2b") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        structure(Sample, data, path)
    return caught.value.problems


def test_good_data_becomes_an_object() -> None:
    made = structure(
        Sample,
        {
            "image": "python:3.12",
            "tags": ["a", "b"],
            "limits": {"cpus": 2},
            "home": "/srv",
            "colour": "blue",
            "labels": {"a": "1"},
            "memory": "2g",
            "anything": {"deep": [1, "x"]},
        },
    )
    assert made == Sample(
        image="python:3.12",
        tags=("a", "b"),
        limits=Limits(cpus=2.0),
        home=Path("/srv"),
        colour=Colour.BLUE,
        labels={"a": "1"},
        memory="2g",
        anything={"deep": [1, "x"]},
    )


def test_every_problem_is_told_at_once_with_its_path() -> None:
    found = problems(
        {
            "imgae": "x",
            "timeout": "ten",
            "network": "on",
            "ports": [1, "two", 3],
            "limits": {"cpus": "many", "cpu": 1},
            "labels": {"a b": 1},
            "verbose": 1,
        }
    )
    assert set(found) == {
        "unknown key @ providers.e2b.imgae: did you mean 'image'?",
        "expected a string, found nothing @ providers.e2b.image: this key is required",
        "expected int, not 'ten' @ providers.e2b.timeout",
        "expected one of none, host, not 'on' @ providers.e2b.network",
        "expected int, not 'two' @ providers.e2b.ports[1]",
        "expected a number, not 'many' @ providers.e2b.limits.cpus",
        "unknown key @ providers.e2b.limits.cpu: did you mean 'cpus'?",
        'expected a string, not 1 @ providers.e2b.labels."a b"',
        "expected true or false, not 1 @ providers.e2b.verbose",
    }


def test_a_validator_is_heard_beside_other_problems() -> None:
    assert problems({"image": 1, "timeout": -1}) == (
        "expected a string, not 1 @ providers.e2b.image",
        "expected more than 0, not -1 @ providers.e2b.timeout",
    )


def test_an_unknown_key_that_resembles_nothing_lists_what_is_known() -> None:
    (problem,) = problems({"image": "x", "zzz": 1})
    assert problem.startswith("unknown key @ providers.e2b.zzz: known here: anything, colour, home, image")


@pytest.mark.parametrize("value", [True, 1.5, "8", [1], {"a": 1}, None])
def test_only_an_integer_is_an_int(value: object) -> None:
    (problem,) = problems({"image": "x", "timeout": value})
    assert problem.startswith("expected int, not ")
    assert problem.endswith(" @ providers.e2b.timeout")


@pytest.mark.parametrize("value", ["abc", b"abc", {"a": 1}, 5])
def test_a_string_is_not_a_list_of_letters(value: object) -> None:
    (problem,) = problems({"image": "x", "tags": value})
    assert problem.startswith("expected a list, not ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_a_number_is_finite(value: float) -> None:
    (problem,) = problems({"image": "x", "limits": {"cpus": value}})
    assert problem.startswith("expected a number, not ")


def test_loose_text_stands_for_other_types() -> None:
    made = structure(
        Sample,
        {
            "image": Loose("8"),
            "timeout": Loose("8"),
            "memory": Loose("512"),
            "tags": Loose("a, b"),
            "ports": Loose("[80, 443]"),
            "labels": Loose("a=1,b=x=y"),
            "limits": Loose('{"cpus": 0.5, "processes": "7"}'),
            "verbose": Loose("Yes"),
            "home": Loose(""),
        }
        | {"home": Loose("/x")},
    )
    assert made.image == "8"
    assert type(made.image) is str
    assert made.timeout == 8
    assert made.memory == 512
    assert made.tags == ("a", "b")
    assert all(type(tag) is str for tag in made.tags)
    assert made.ports == [80, 443]
    assert made.labels == {"a": "1", "b": "x=y"}
    assert made.limits == Limits(cpus=0.5, processes=7)
    assert made.verbose is True
    assert made.home == Path("/x")


@pytest.mark.parametrize(
    ("key", "text", "problem"),
    [
        ("timeout", "ten", "expected int, not 'ten'"),
        ("verbose", "maybe", "expected true or false, not 'maybe'"),
        ("ports", "[1,", "expected a list in JSON, not '[1,'"),
        ("labels", "a", "expected a table as key=value,key=value or JSON, not 'a'"),
        ("limits", "8", "expected a table, not '8'"),
    ],
)
def test_loose_text_that_does_not_fit_is_told(key: str, text: str, problem: str) -> None:
    assert problems({"image": "x", key: Loose(text)}, "o") == (f"{problem} @ o.{key}",)


def test_a_value_of_a_variable_is_shown_as_written() -> None:
    assert problems({"image": "x", "timeout": Loose("s3cret", shown="'${T}'")}, "o") == (
        "expected int, not '${T}' @ o.timeout",
    )


def test_a_secret_value_is_not_shown() -> None:
    (problem,) = problems({"image": "x", "secret": 12345})
    assert problem == "expected a string (the value is secret) @ providers.e2b.secret"


def test_a_long_value_is_cut() -> None:
    (problem,) = problems({"image": "x", "timeout": "y" * 5000})
    assert len(problem) < 200


def test_objects_from_python_pass() -> None:
    limits = Limits(cpus=3.0)
    assert structure(Sample, {"image": "x", "limits": limits, "home": Path("/p")}).limits is limits


@given(
    st.dictionaries(
        st.sampled_from(["image", "timeout", "tags", "ports", "labels", "limits", "home", "colour", "x'\"\n."]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text().map(Loose),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_data_is_an_object_or_a_config_error(data: dict[str, Any]) -> None:
    try:
        made: object = structure(Sample, data, "providers.x")
    except ConfigError as error:
        made = error.problems
    assert isinstance(made, Sample) or (made and all("\n" not in problem for problem in made))


def _odd(_self: object, _field: object, value: int) -> None:
    if value % 2 == 0:
        raise ConfigError(f"expected an odd number, not {value} @ number", "and not so round @ number: think")


@attrs.frozen
class Judged:
    number: int = attrs.field(default=1, validator=_odd)
    low: int = 0

    def __attrs_post_init__(self) -> None:
        if self.low > self.number:
            raise ConfigError("expected less than number @ low")


@pytest.mark.parametrize("path", ["providers.box", "machines.m"])
def test_what_a_class_finds_by_itself_has_its_whole_path(path):
    with pytest.raises(ConfigError) as caught:
        structure(Judged, {"number": 2}, path)
    assert caught.value.problems == (
        f"expected an odd number, not 2 @ {path}.number",
        f"and not so round @ {path}.number: think",
    )
    with pytest.raises(ConfigError) as caught:
        structure(Judged, {"low": 2}, path)
    assert caught.value.problems == (f"expected less than number @ {path}.low",)
    with pytest.raises(ConfigError) as caught:
        structure(Judged, {"number": 2})
    assert caught.value.problems[0] == "expected an odd number, not 2 @ number"


def _fails(_self: object, _field: object, value: object) -> None:
    raise RuntimeError(f"no idea what {value} is")


@attrs.frozen(kw_only=True)
class Failing:
    one: str = attrs.field(default="", validator=_fails)
    key: str = attrs.field(default="", validator=_fails, metadata={"secret": True})


@attrs.frozen(kw_only=True)
class FailingWhole:
    one: str = ""

    def __attrs_post_init__(self) -> None:
        raise RuntimeError("a bad day")


def test_foreign_code_that_fails_is_a_problem_with_a_path_and_shows_no_secret():
    with pytest.raises(ConfigError) as caught:
        structure(Failing, {"one": "x", "key": "canary"}, "providers.box")
    assert caught.value.problems == (
        "the check of 'one' failed: RuntimeError: no idea what x is @ providers.box.one",
        "the check of 'key' failed: RuntimeError @ providers.box.key",
    )
    with pytest.raises(ConfigError) as caught:
        structure(FailingWhole, {}, "providers.box")
    assert caught.value.problems == (
        f"the check of {__name__}.FailingWhole failed: RuntimeError: a bad day @ providers.box",
    )
