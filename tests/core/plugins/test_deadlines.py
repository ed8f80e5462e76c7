"""Plugins that do not answer: how long they are waited for in each mode, and what is left of them.

Time budget: 10 s.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from gitmachine import ExecRequest, HookError, hookimpl
from gitmachine.events import MachineLost
from gitmachine.git.model import Changes
from gitmachine.plugins import deadlines, dispatch
from gitmachine.plugins.dispatch import Dispatcher
from gitmachine.plugins.host import PluginHost

EVENT = MachineLost(machine_id="m1", provider="p", repository="r", session="s", reason="unplugged")
SECONDS = 0.2
"""What a plugin may take here; those that are to answer do so at once, and have a limit of their own."""


class Blocking:
    """A plugin whose `def` hooks wait until the test has ended."""

    def __init__(self):
        self.released = threading.Event()

    def hang(self):
        self.released.wait(100)

    @hookimpl
    def gitmachine_commit_message(self):
        self.hang()

    @hookimpl
    def gitmachine_before_command(self, request):
        self.hang()

    @hookimpl
    def gitmachine_setup(self):
        self.hang()

    @hookimpl
    def gitmachine_machine_lost(self):
        self.hang()


class Asynchronous:
    """The same as coroutines; they end when they are cancelled."""

    def __init__(self):
        self.cancelled = 0

    async def hang(self):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    @hookimpl
    async def gitmachine_commit_message(self):
        await self.hang()

    @hookimpl
    async def gitmachine_before_command(self, request):
        await self.hang()

    @hookimpl
    async def gitmachine_setup(self):
        await self.hang()

    @hookimpl
    async def gitmachine_machine_lost(self):
        await self.hang()


class Deaf(Asynchronous):
    """The same, but they go on when they are cancelled."""

    def __init__(self):
        super().__init__()
        self.end = asyncio.Event()

    async def hang(self):
        while not self.end.is_set():
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


class Answers:
    """A plugin that answers at once."""

    def __init__(self):
        self.heard = []

    @hookimpl
    async def gitmachine_commit_message(self):
        return "words"

    @hookimpl
    async def gitmachine_machine_lost(self, event):
        self.heard.append(event)


@pytest.fixture(params=[Blocking, Asynchronous, Deaf])
async def hanging(request, monkeypatch):
    monkeypatch.setattr(deadlines, "GRACE_SECONDS", 0.1)
    plugin = request.param()
    yield plugin
    if isinstance(plugin, Blocking):
        plugin.released.set()
    elif isinstance(plugin, Deaf):
        plugin.end.set()


def dispatcher(*plugins, **options):
    """Return a dispatcher over plugins that are called in the given order, named a, b, c."""
    host = PluginHost(entry_points=(), **{"hook_timeout": SECONDS, **options})
    for number, plugin in reversed(list(enumerate(plugins))):
        host.register(plugin, "abc"[number])
    return Dispatcher(host)


LATE = rf"^plugin 'a' .* in {{}}: it did not end within {SECONDS} s; hook_timeout under \[plugins\]"


async def test_who_is_to_decide_and_does_not_is_an_error_that_names_plugin_hook_and_deadline(hanging):
    calls = dispatcher(hanging, Answers())
    with pytest.raises(HookError, match=LATE.format("gitmachine_commit_message")) as caught:
        await calls.decide("gitmachine_commit_message", str, changes=Changes(), reason="stop")
    assert (caught.value.plugin, caught.value.hook) == ("a", "gitmachine_commit_message")


async def test_a_veto_that_does_not_come_is_one(hanging):
    calls = dispatcher(hanging)
    with pytest.raises(HookError, match=LATE.format("gitmachine_before_command")):
        await calls.refine("gitmachine_before_command", "request", gm=None, request=ExecRequest(shell="x"))


async def test_a_step_that_does_not_end_is_an_error(hanging):
    with pytest.raises(HookError, match=LATE.format("gitmachine_setup")):
        await dispatcher(hanging).step("gitmachine_setup", gm=None)


async def test_the_shorter_of_two_limits_counts(hanging):
    with pytest.raises(HookError, match=r"did not end within 0\.1 s$"):
        await dispatcher(hanging).step("gitmachine_setup", seconds=0.1, gm=None)
    with pytest.raises(HookError, match=rf"did not end within {SECONDS} s; "):
        await dispatcher(hanging).step("gitmachine_setup", seconds=100, gm=None)


async def test_an_observer_that_does_not_return_is_reported_and_the_others_are_told(hanging, monkeypatch):
    monkeypatch.setattr(dispatch, "OBSERVE_SECONDS", SECONDS)
    answers = Answers()
    calls = dispatcher(hanging, answers, hook_timeout=None)
    await calls.notify(EVENT.hook(), event=EVENT)
    assert answers.heard == [EVENT]
    assert [(one.plugin, one.error) for one in calls.hook_failures] == [("a", f"it did not end within {SECONDS} s")]


async def test_who_does_not_give_one_of_many_answers_is_reported_and_the_others_count(hanging, monkeypatch):
    monkeypatch.setattr(dispatch, "OBSERVE_SECONDS", SECONDS)
    calls = dispatcher(hanging, Answers(), hook_timeout=None)
    answers = await calls.collect("gitmachine_commit_message", changes=Changes(), reason="stop")
    assert [(one.plugin, one.value) for one in answers] == [("b", "words")]
    assert [one.plugin for one in calls.hook_failures] == ["a"]


async def test_a_late_coroutine_is_cancelled_and_one_that_goes_on_is_left_behind(monkeypatch):
    monkeypatch.setattr(deadlines, "GRACE_SECONDS", 0.1)
    before = set(deadlines._left)
    listens, deaf = Asynchronous(), Deaf()
    for plugin in (listens, deaf):
        with pytest.raises(HookError):
            await dispatcher(plugin).step("gitmachine_setup", gm=None)
        assert plugin.cancelled == 1
    (left,) = deadlines._left - before
    deaf.end.set()
    async with asyncio.timeout(30):
        while left in deadlines._left:
            await asyncio.sleep(0.01)


async def test_without_a_limit_whoever_is_asked_may_think_it_over():
    class Slow:
        @hookimpl
        def gitmachine_commit_message(self):
            time.sleep(0.3)
            return "blocking"

        @hookimpl
        async def gitmachine_setup(self):
            await asyncio.sleep(0.3)
            return "asynchronous"

    calls = dispatcher(Slow(), hook_timeout=None)
    assert await calls.decide("gitmachine_commit_message", str, changes=Changes(), reason="stop") == "blocking"
    assert [one.value for one in await calls.step("gitmachine_setup", gm=None)] == ["asynchronous"]


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_timeout_of_the_plugins_own_is_not_taken_for_the_deadline(blocking):
    class Raises:
        if blocking:

            @hookimpl
            def gitmachine_setup(self):
                raise TimeoutError("the scanner is slow")
        else:

            @hookimpl
            async def gitmachine_setup(self):
                raise TimeoutError("the scanner is slow")

    with pytest.raises(HookError, match=r"TimeoutError: the scanner is slow$"):
        await dispatcher(Raises(), hook_timeout=100).step("gitmachine_setup", gm=None)


async def test_a_cancelled_operation_does_not_wait_for_ever_for_a_hook_that_goes_on(monkeypatch):
    monkeypatch.setattr(deadlines, "GRACE_SECONDS", 0.1)
    deaf = Deaf()
    entered = asyncio.Event()
    hang = deaf.hang

    async def tell_and_hang():
        entered.set()
        await hang()

    deaf.hang = tell_and_hang
    task = asyncio.create_task(dispatcher(deaf, hook_timeout=100).step("gitmachine_setup", gm=None))
    try:
        await asyncio.wait_for(entered.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)
        assert deaf.cancelled == 1
    finally:
        deaf.end.set()


async def test_a_coroutine_may_exit_without_ending_the_loop():
    class Exits:
        @hookimpl
        async def gitmachine_setup(self):
            raise SystemExit(4)

    with pytest.raises(HookError, match="SystemExit: 4"):
        await dispatcher(Exits(), hook_timeout=100).step("gitmachine_setup", gm=None)
