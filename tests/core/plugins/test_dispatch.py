"""The four modes of calling hooks.

Time budget: 10 s.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading

import attrs
import pytest

from gitmachine import CommitRejected, ExecRequest, GitCredential, HookError, ProviderSpec, hookimpl
from gitmachine.events import MachineLost
from gitmachine.git.model import Changes
from gitmachine.plugins import dispatch
from gitmachine.plugins.dispatch import Dispatcher
from gitmachine.plugins.host import PluginHost

EVENT = MachineLost(machine_id="m1", provider="p", repository="r", session="s", reason="unplugged")
HOOK = "gitmachine_commit_message"
ARGUMENTS = {"changes": Changes(), "reason": "stop"}


class Sync:
    """A plugin with a `def` implementation; `does` is called with the reason."""

    def __init__(self, does):
        self.does = does

    @hookimpl
    def gitmachine_commit_message(self, reason):
        return self.does(reason)

    @hookimpl
    def gitmachine_machine_lost(self, event):
        return self.does(event.reason)


class Async(Sync):
    """The same as a coroutine."""

    @hookimpl
    async def gitmachine_commit_message(self, reason):
        await asyncio.sleep(0)
        return self.does(reason)

    @hookimpl
    async def gitmachine_machine_lost(self, event):
        await asyncio.sleep(0)
        return self.does(event.reason)


def dispatcher(*plugins, **options):
    """Return a dispatcher over plugins that are called in the given order, named a, b, c."""
    host = PluginHost(entry_points=(), trace=options.pop("trace", False))
    for number, plugin in reversed(list(enumerate(plugins))):
        host.register(plugin, "abcdefgh"[number])
    return Dispatcher(host, **options)


def fail(_reason):
    raise ValueError("no idea")


def exit_(_reason):
    raise SystemExit(4)


KINDS = pytest.mark.parametrize("kind", [Sync, Async])


@KINDS
async def test_collect_gives_every_answer_with_its_plugin(kind):
    calls = dispatcher(kind(lambda r: f"1 {r}"), kind(lambda r: None), kind(lambda r: f"3 {r}"))
    answers = await calls.collect(HOOK, **ARGUMENTS)
    assert [(a.plugin, a.value) for a in answers] == [("a", "1 stop"), ("c", "3 stop")]
    assert calls.hook_failures == ()


@KINDS
@pytest.mark.parametrize("bad", [fail, exit_])
async def test_collect_records_an_error_against_its_plugin_and_goes_on(kind, bad, caplog):
    calls = dispatcher(kind(bad), kind(lambda r: "fine"))
    assert [a.value for a in await calls.collect(HOOK, **ARGUMENTS)] == ["fine"]
    (failure,) = calls.hook_failures
    assert (failure.plugin, failure.hook) == ("a", HOOK)
    assert failure.error in {"ValueError: no idea", "SystemExit: 4"}
    assert bad.__name__ in failure.traceback
    assert "a failed in gitmachine_commit_message" in caplog.text


@KINDS
async def test_decide_takes_the_first_answer_that_is_not_none(kind):
    asked = []
    calls = dispatcher(
        kind(lambda r: asked.append("a")), kind(lambda r: asked.append("b") or "B"), kind(lambda r: asked.append("c"))
    )
    assert await calls.decide(HOOK, object, **ARGUMENTS) == "B"
    assert asked == ["a", "b"]


@KINDS
async def test_decide_is_none_when_all_pass_or_there_is_no_plugin(kind):
    assert await dispatcher(kind(lambda r: None)).decide(HOOK, object, **ARGUMENTS) is None
    assert await dispatcher().decide(HOOK, object, **ARGUMENTS) is None


@KINDS
async def test_an_answer_that_is_false_but_not_none_decides(kind):
    assert await dispatcher(kind(lambda r: ""), kind(lambda r: "late")).decide(HOOK, object, **ARGUMENTS) == ""


@KINDS
async def test_an_answer_of_another_type_is_the_plugins_error_and_is_not_shown(kind):
    calls = dispatcher(kind(lambda r: None), kind(lambda r: "a secret"))
    with pytest.raises(HookError, match=r"plugin 'b' .*: TypeError: expected GitCredential or None, not str") as caught:
        await calls.decide(HOOK, GitCredential, **ARGUMENTS)
    assert "a secret" not in str(caught.value)


@KINDS
@pytest.mark.parametrize("bad", [fail, exit_])
async def test_decide_raises_an_error_that_names_plugin_and_hook(kind, bad):
    calls = dispatcher(kind(lambda r: None), kind(bad), kind(lambda r: "late"))
    with pytest.raises(HookError, match=r"plugin 'b' .*failed in gitmachine_commit_message: \w+: ") as caught:
        await calls.decide(HOOK, object, **ARGUMENTS)
    assert (caught.value.plugin, caught.value.hook) == ("b", HOOK)
    assert isinstance(caught.value.__cause__, ValueError | SystemExit)


async def test_an_awaitable_that_a_plain_function_returns_is_awaited():
    async def later(reason):
        return f"later {reason}"

    assert await dispatcher(Sync(later)).decide(HOOK, object, **ARGUMENTS) == "later stop"


@KINDS
async def test_step_calls_each_in_order_and_gives_the_answers(kind):
    asked = []
    calls = dispatcher(kind(lambda r: asked.append("a")), kind(lambda r: asked.append("b") or "B"))
    assert [(a.plugin, a.value) for a in await calls.step(HOOK, **ARGUMENTS)] == [("b", "B")]
    assert asked == ["a", "b"]


@KINDS
async def test_step_aborts_at_the_first_error(kind):
    asked = []
    calls = dispatcher(kind(fail), kind(lambda r: asked.append("b")))
    with pytest.raises(HookError, match="plugin 'a'") as caught:
        await calls.step(HOOK, **ARGUMENTS)
    assert isinstance(caught.value.__cause__, ValueError)
    assert asked == []


@KINDS
async def test_a_veto_goes_through_step_as_it_is(kind):
    def veto(_reason):
        raise CommitRejected("not on a Friday")

    with pytest.raises(CommitRejected, match="Friday"):
        await dispatcher(kind(veto)).step(HOOK, **ARGUMENTS)


@KINDS
async def test_step_can_run_all_and_then_report_every_error(kind):
    asked = []
    calls = dispatcher(kind(fail), kind(lambda r: asked.append("b")), kind(exit_))
    with pytest.raises(HookError, match=r"several plugins failed.*'a'.*no idea.*'c'.*SystemExit"):
        await calls.step(HOOK, run_all=True, **ARGUMENTS)
    assert asked == ["b"]
    with pytest.raises(HookError, match="plugin 'a'"):
        await dispatcher(kind(fail)).step(HOOK, run_all=True, **ARGUMENTS)


@KINDS
@pytest.mark.parametrize("bad", [fail, exit_])
async def test_notify_isolates_each_and_logs_the_traceback(kind, bad, caplog):
    heard = []
    calls = dispatcher(kind(bad), kind(heard.append))
    with caplog.at_level(logging.ERROR):
        await calls.notify(EVENT.hook(), event=EVENT)
    assert heard == ["unplugged"]
    assert [f.plugin for f in calls.hook_failures] == ["a"]
    assert "Traceback" in caplog.text


@KINDS
async def test_a_plugin_that_raises_cancelled_error_on_its_own_only_fails(kind):
    def cancelled(_reason):
        raise asyncio.CancelledError

    heard = []
    calls = dispatcher(kind(cancelled), kind(heard.append))
    await calls.notify(EVENT.hook(), event=EVENT)
    assert heard == ["unplugged"]
    assert calls.hook_failures[0].error == "CancelledError"


async def test_a_cancelled_operation_is_cancelled_inside_a_hook():
    waiting = asyncio.Event()

    class Slow:
        @hookimpl
        async def gitmachine_machine_lost(self):
            waiting.set()
            await asyncio.Event().wait()

    heard = []
    calls = dispatcher(Slow(), Sync(heard.append))
    task = asyncio.create_task(calls.notify(EVENT.hook(), event=EVENT))
    await asyncio.wait_for(waiting.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == []
    assert calls.hook_failures == ()


async def test_observe_calls_the_plugins_and_then_the_callbacks(caplog):
    heard = []

    async def second():
        heard.append("second")

    calls = dispatcher(Sync(lambda r: heard.append("plugin")))
    await calls.observe(EVENT, lambda: heard.append("first"), lambda: fail(""), second)
    assert heard == ["plugin", "first", "second"]
    (failure,) = calls.hook_failures
    assert (failure.plugin, failure.hook) == ("on_event", "lost")


async def test_failures_are_redacted_and_bounded(caplog):
    def leak(_reason):
        raise ValueError("the password is hunter2")

    calls = dispatcher(Sync(leak), redact=lambda text: text.replace("hunter2", "***"))
    for _ in range(dispatch.MAX_FAILURES + 5):
        await calls.notify(EVENT.hook(), event=EVENT)
    assert len(calls.hook_failures) == dispatch.MAX_FAILURES
    # The source line of the test shows in a traceback as well, so only what was kept is looked at.
    assert all(f.error == "ValueError: the password is ***" for f in calls.hook_failures)
    assert "hunter2" not in calls.hook_failures[0].traceback
    assert "hunter2" not in caplog.text
    with pytest.raises(HookError) as caught:
        await calls.decide(HOOK, object, **ARGUMENTS)
    assert "hunter2" not in str(caught.value)


async def test_plain_functions_run_on_threads_of_their_own_and_coroutines_on_the_loop():
    seen = []

    def note(_reason):
        seen.append(threading.current_thread())

    await dispatcher(Sync(note), Sync(note), Async(note)).collect(HOOK, **ARGUMENTS)
    first, second, third = seen
    assert first is not second
    assert third is threading.current_thread()
    assert threading.main_thread() not in (first, second)


async def test_context_variables_reach_a_plain_function():
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    assert await dispatcher(Sync(lambda r: variable.get())).decide(HOOK, object, **ARGUMENTS) == "set"


async def test_the_caller_can_say_how_plain_functions_run():
    async def inline(call):
        return call()

    calls = dispatcher(Sync(lambda r: threading.current_thread()), run_sync=inline)
    assert await calls.decide(HOOK, object, **ARGUMENTS) is threading.current_thread()


async def test_an_implementation_takes_any_subset_of_the_arguments_also_with_defaults():
    class Subsets:
        @hookimpl
        def gitmachine_commit_message(self, reason="default", extra="own"):
            return f"{reason} {extra}"

    class Nothing:
        @hookimpl
        def gitmachine_commit_message(self):
            return "nothing"

    answers = await dispatcher(Subsets(), Nothing()).collect(HOOK, **ARGUMENTS)
    assert [a.value for a in answers] == ["stop own", "nothing"]


async def test_tracing_writes_one_line_for_each_call_without_arguments(capsys):
    calls = dispatcher(Sync(lambda r: "secret"), Async(lambda r: None), Sync(fail), trace=True)
    await calls.collect(HOOK, changes=Changes(), reason="private")
    lines = capsys.readouterr().err.splitlines()
    said = [line.split(" (")[0] for line in lines if line.startswith("gitmachine: ")]
    expected = ["a: answered", "b: passed", "c: raised ValueError"]
    assert said == [f"gitmachine: {HOOK} -> {outcome}" for outcome in expected]
    assert not any("secret" in line or "private" in line for line in said)


async def test_plugins_are_loaded_off_the_loop_at_the_first_call(site):
    source = """
        import threading
        from gitmachine import hookimpl

        thread = threading.current_thread()

        @hookimpl
        def gitmachine_commit_message():
            return thread
    """
    site.install("late", {"late": "late"}, modules={"late": source})
    thread = await Dispatcher(site.host()).decide(HOOK, object, **ARGUMENTS)
    assert thread is not threading.current_thread()


async def test_more_nested_callbacks_than_cores_do_not_starve():
    host = PluginHost(entry_points=())
    calls = Dispatcher(host)
    loop = asyncio.get_running_loop()

    def descend(depth):
        if depth == "1":
            return "bottom"
        nested = calls.decide(HOOK, object, changes=Changes(), reason=str(int(depth) - 1))
        return asyncio.run_coroutine_threadsafe(nested, loop).result(60)

    host.register(Sync(descend), "nested")
    many = [calls.decide(HOOK, object, changes=Changes(), reason="10") for _ in range(4)]
    assert await asyncio.wait_for(asyncio.gather(*many), 90) == ["bottom"] * 4


def test_call_now_runs_a_coroutine_without_a_loop_and_inside_one():
    spec = ProviderSpec(name="p", factory="a:b", config="a:c")

    class Offering:
        @hookimpl
        async def gitmachine_register_providers(self):
            await asyncio.sleep(0)
            return [spec]

    host = PluginHost(entry_points=())
    host.register(Offering(), "offering")
    (implementation,) = host.implementations("gitmachine_register_providers")
    assert dispatch.call_now(implementation) == [spec]

    async def inside():
        return dispatch.call_now(implementation)

    assert asyncio.run(inside()) == [spec]


def test_answers_and_failures_are_plain_records():
    assert attrs.astuple(dispatch.Answer("p", 1)) == ("p", 1)


class Steps:
    """A plugin with steps; `does` is called with the hook's arguments by name."""

    def __init__(self, does):
        self.does = does

    @hookimpl
    def gitmachine_setup(self, gm):
        return self.does(gm=gm)

    @hookimpl
    async def gitmachine_before_command(self, gm, request):
        return self.does(gm=gm, request=request)

    @hookimpl
    async def gitmachine_teardown(self):
        answer = self.does()
        return await answer if asyncio.iscoroutine(answer) else answer


async def test_each_answer_replaces_the_argument_for_whoever_comes_next():
    seen = []

    def longer(request, **_):
        seen.append(request.shell)
        return attrs.evolve(request, shell=f"{request.shell}+") if len(seen) != 2 else None

    calls = dispatcher(*[Steps(longer) for _ in range(3)])
    request = ExecRequest(shell="x")
    answer = await calls.refine("gitmachine_before_command", "request", gm="gm", request=request)
    assert (seen, answer.shell, request.shell) == (["x", "x+", "x+"], "x++", "x")


async def test_an_answer_of_another_type_is_the_plugins_error():
    calls = dispatcher(Steps(lambda **_: "rm -rf /"))
    with pytest.raises(HookError, match=r"plugin 'a'.*expected ExecRequest, not 'rm -rf /'"):
        await calls.refine("gitmachine_before_command", "request", gm="gm", request=ExecRequest(shell="x"))


async def test_blocking_implementations_get_the_blocking_view_and_others_the_session():
    seen = []
    plugin = Steps(lambda gm, **_: seen.append(gm))
    calls = dispatcher(plugin, blocking_view=lambda: "blocking view")
    await calls.step("gitmachine_setup", gm="session")
    await calls.refine("gitmachine_before_command", "request", gm="session", request=ExecRequest(shell="x"))
    assert seen == ["blocking view", "session"]


async def test_a_step_that_takes_too_long_is_an_error_and_the_others_are_called():
    called = []
    calls = dispatcher(Steps(lambda: asyncio.sleep(600)), Steps(lambda: called.append(1)))
    with pytest.raises(HookError, match=r"did not end within 0\.05 s"):
        await calls.step("gitmachine_teardown", run_all=True, seconds=0.05)
    assert called == [1]


async def test_a_step_that_raises_a_cancellation_of_its_own_does_not_cancel_us():
    async def cancelled():
        raise asyncio.CancelledError

    called = []
    calls = dispatcher(Steps(cancelled), Steps(lambda: called.append(1)))
    with pytest.raises(HookError, match="CancelledError"):
        await calls.step("gitmachine_teardown", run_all=True)
    assert called == [1]


async def test_a_cancelled_step_is_cancelled():
    started = asyncio.Event()

    async def wait():
        started.set()
        await asyncio.sleep(600)

    task = asyncio.create_task(dispatcher(Steps(wait)).step("gitmachine_teardown", run_all=True))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_is_known_which_hooks_anybody_implements():
    calls = dispatcher(Steps(lambda **_: None))
    assert await calls.implemented("gitmachine_setup")
    assert not await calls.implemented("gitmachine_before_push")


async def test_an_answer_that_is_of_no_use_is_kept_against_its_plugin():
    calls = dispatcher()
    calls.blame("a", "gitmachine_select_changes", TypeError("expected Withhold"))
    (failure,) = calls.hook_failures
    assert (failure.plugin, failure.error) == ("a", "TypeError: expected Withhold")
