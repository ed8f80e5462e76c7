"""Every hook has a heading in docs/hooks.md with its exact signature and mode, and is called on a sample plugin.

Time budget: 5 s.
"""

from __future__ import annotations

import inspect
import re
import types
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from gitmachine import GitCredential, hookspecs
from gitmachine.events import EVENTS
from gitmachine.git.model import Change, Changes
from gitmachine.plugins.dispatch import Dispatcher, call_now
from gitmachine.plugins.registry import Registry

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "hooks.md").read_text()
SECTIONS = {section.split("\n", 1)[0].strip(): section for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
HOOKS = {name: spec for name, spec in vars(hookspecs).items() if name.startswith("gitmachine_")}
BY_HOOK = {event.hook(): event for event in EVENTS}
NOW = datetime(2024, 2, 3, tzinfo=UTC)


def mode(hook):
    return re.search(r"\((collect|decide|step|notify)\)", inspect.getdoc(HOOKS[hook]))[1]


def signature(hook):
    return f"{hook}{inspect.signature(HOOKS[hook])}".replace("'", "").replace("events.", "")


def test_specs_and_headings_are_the_same():
    assert list(SECTIONS) == list(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_each_heading_gives_the_exact_signature_the_mode_and_the_effect_of_an_error(hook):
    section = SECTIONS[hook]
    assert f"`{signature(hook)}`" in section
    assert f"- **Mode**: {mode(hook)}." in section
    assert "- **When**: " in section
    assert "- **Error**: " in section


@pytest.mark.parametrize("hook", HOOKS)
def test_each_example_is_a_plugin_that_loads(hook, site):
    (example,) = re.findall(r"```python\n(.*?)```", SECTIONS[hook], flags=re.DOTALL)
    vault = "def read_secret(name):\n    return name\n"
    site.install("example", {"example": "example"}, modules={"example": example})
    (site.path / "my_package").mkdir()
    (site.path / "my_package" / "__init__.py").touch()
    (site.path / "my_package" / "vault.py").write_text(vault)
    (report,) = site.host().plugins
    assert (report.cause, report.hooks) == ("", (hook,))


def test_an_event_class_and_its_notify_hook_correspond_one_to_one():
    assert set(BY_HOOK) == {hook for hook in HOOKS if mode(hook) == "notify"}
    for hook, event in BY_HOOK.items():
        assert f"(event: {event.__name__})" in signature(hook)


def make(event):
    """Return an event of a class with something in every field that has no default."""
    samples = {"bool": True, "int": 2, "float": 0.5}
    given = {"machine_id": "m-1", "provider": "p", "repository": "https://r", "session": "s", "time": NOW}
    parameters = inspect.signature(event).parameters.values()
    return event(
        **{
            p.name: given.get(p.name, samples.get(str(p.annotation).split(" | ")[0], "text"))
            for p in parameters
            if p.default is p.empty or p.name == "time"
        }
    )


@pytest.fixture
def recorder(site) -> types.ModuleType:
    """Return the sample plugin that implements every hook, installed and loaded."""
    site.install("recorder", {"recorder": "recorder"}, modules={"recorder": site.sample("recorder")})
    host = site.host()
    host.load()
    import recorder as module

    module.host = host
    return module


def test_the_sample_plugin_implements_every_hook(recorder):
    (report,) = recorder.host.plugins
    assert set(report.hooks) == set(HOOKS)


@pytest.mark.parametrize("hook", BY_HOOK)
async def test_the_sample_plugin_is_told_of_each_event(recorder, hook):
    event = make(BY_HOOK[hook])
    calls = Dispatcher(recorder.host)
    await calls.observe(event)
    ((called, arguments, _thread),) = recorder.calls
    assert (called, arguments) == (hook, {"event": event})
    assert calls.hook_failures == ()


async def test_the_sample_plugin_supplies_credentials(recorder):
    calls = Dispatcher(recorder.host)
    answer = await calls.decide("gitmachine_git_credentials", GitCredential, repository="https://r", operation="write")
    assert answer == GitCredential("ada", "recorder's secret")
    assert recorder.calls[0][1] == {"repository": "https://r", "operation": "write"}


async def test_the_sample_plugin_words_commits(recorder):
    changes = Changes(files=(Change("A", "a"),))
    calls = Dispatcher(recorder.host)
    assert await calls.decide("gitmachine_commit_message", str, changes=changes, reason="stop") == "recorder's message"
    assert recorder.calls[0][1] == {"changes": changes, "reason": "stop"}


def test_the_sample_plugin_offers_a_provider(recorder):
    assert Registry(recorder.host).resolve("Recorder").factory == "recorder:make"


def test_the_sample_plugin_adds_a_command(recorder):
    group = click.Group()
    (implementation,) = recorder.host.implementations("gitmachine_register_commands")
    call_now(implementation, cli=group)
    assert list(group.commands) == ["record"]
