"""Events: one class for each notify hook, named alike.

Time budget: 2 s.
"""

from __future__ import annotations

import inspect
import json
from datetime import UTC, timedelta

import attrs
import pytest

from gitmachine import events, hookspecs
from gitmachine.events import EVENTS, CommandFinished, Event, MachineStarted, MachineStopped

COMMON = {"machine_id": "m", "provider": "p", "repository": "r", "session": "s"}


def specs() -> dict[str, inspect.Signature]:
    found = inspect.getmembers(hookspecs, inspect.isfunction)
    return {name: inspect.signature(value) for name, value in found if name.startswith("gitmachine_")}


def test_each_event_has_the_notify_hook_of_its_name_and_each_such_hook_its_event():
    notify = {name for name, signature in specs().items() if list(signature.parameters) == ["event"]}
    assert {cls.hook() for cls in EVENTS} == notify


def test_the_hook_names_its_event_class():
    for cls in EVENTS:
        assert specs()[cls.hook()].parameters["event"].annotation == f"events.{cls.__name__}"


def test_every_event_class_is_listed_and_exported():
    classes = {
        value
        for _, value in inspect.getmembers(events, inspect.isclass)
        if issubclass(value, Event) and value is not Event
    }
    assert classes == set(EVENTS)
    assert {cls.__name__ for cls in classes} < set(events.__all__)


def test_the_names_that_callbacks_see_are_all_different():
    names = [cls.event for cls in EVENTS]
    assert len(set(names)) == len(names)
    assert {"started", "paused", "resumed", "stopping", "stopped", "committed", "pushed", "pulled"} < set(names)


def test_a_callback_gets_what_is_particular_to_an_event():
    assert MachineStarted(**COMMON, repo_path="/r").data() == {"session": "s", "repo_path": "/r"}
    finished = CommandFinished(**COMMON, command="ls", exit_code=0, duration=1.5)
    assert finished.data() == {"command": "ls", "exit_code": 0, "duration": 1.5, "timed_out": False}
    assert MachineStopped(**COMMON, receipt={"pushed": True}).data() == {"receipt": {"pushed": True}}


def sample(cls):
    """Make an event with a plausible value for each field that needs one."""
    values = {
        "str": "x",
        "int": 1,
        "float": 0.5,
        "bool": True,
        "tuple[str, ...]": (),
        "int | None": 1,
        "str | None": "x",
    }
    needed = {
        field.name: values[str(field.type)]
        for field in attrs.fields(cls)
        if field.default is attrs.NOTHING and field.name not in COMMON
    }
    return cls(**COMMON, **needed)


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_an_event_is_frozen_has_its_time_in_utc_and_data_for_json(cls):
    event = sample(cls)
    assert event.time.tzinfo is UTC
    assert event.time.utcoffset() == timedelta(0)
    json.dumps(event.data())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.session = "other"
