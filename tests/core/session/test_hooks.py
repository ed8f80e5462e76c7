"""The hooks that act, in sessions over real git and real processes: who is called when, with what, and what it may do.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from gitmachine import (
    AsyncGitMachine,
    CloneError,
    CommandVetoed,
    CommitRejected,
    ExecRequest,
    GitMachine,
    GitMachineError,
    HookError,
    InvalidStateError,
    PluginHost,
    PushVetoed,
    Withhold,
    hookimpl,
    hookspecs,
)
from gitmachine.machine import MachineState
from support.machines import FilesMachine, StreamMachine
from support.repos import show, tip

Make = Callable[..., AsyncGitMachine]
STEPS = ("setup", "before_pause", "after_resume", "teardown")


def plugin(**does: Callable[..., Any]) -> object:
    """Return a plugin that implements hooks by their short names; a callable with `tryfirst` set is marked so."""
    methods = {}
    for name, function in does.items():
        options = getattr(function, "options", {})
        methods[f"gitmachine_{name}"] = hookimpl(**options)(staticmethod(function).__func__)
    return type("Plugin", (), {name: staticmethod(function) for name, function in methods.items()})()


def first(function: Callable[..., Any]) -> Callable[..., Any]:
    function.options = {"tryfirst": True}
    return function


def host(*plugins: object) -> PluginHost:
    """Return plugins that are called in the given order."""
    made = PluginHost(entry_points=())
    for number, one in reversed(list(enumerate(plugins))):
        made.register(one, "abcdefgh"[number])
    return made


def recording(calls: list[str], label: str, *, blocking: bool) -> object:
    """Return a plugin whose steps note their name, and the class of session they were given."""

    def step(name: str) -> Callable[..., Any]:
        def note(gm: Any) -> None:
            calls.append(f"{label} {name} {type(gm).__name__}")

        async def anote(gm: Any) -> None:
            note(gm)

        return note if blocking else anote

    return plugin(**{name: step(name) for name in STEPS})


async def test_steps_are_called_in_the_documented_order_each_with_a_session_of_its_kind(make: Make) -> None:
    calls: list[str] = []

    def callback(name: str) -> Callable[..., Any]:
        return lambda gm: calls.append(f"on_{name} {type(gm).__name__}")

    last = plugin(setup=first(lambda gm: calls.append("first setup")))
    gm = make(
        plugins=host(recording(calls, "async", blocking=False), recording(calls, "sync", blocking=True), last),
        on_event=lambda event, _data, _gm: calls.append(event),
        **{f"on_{name}": callback(name) for name in ("start", "pause", "resume", "end")},
    )
    await gm.start()
    await gm.pause()
    await gm.resume()
    await gm.stop()
    a, s = "AsyncGitMachine", "GitMachine"
    assert calls == [
        *("cloned", "started", "first setup", f"async setup {a}", f"sync setup {s}", f"on_start {a}"),
        *(f"async before_pause {a}", f"sync before_pause {s}", f"on_pause {a}", "paused"),
        *(f"async after_resume {a}", f"sync after_resume {s}", f"on_resume {a}", "resumed"),
        *("pushed", "stopping", f"on_end {a}", f"async teardown {a}", f"sync teardown {s}", "stopped"),
    ]


async def test_a_blocking_plugin_works_in_an_asynchronous_session(make: Make, remote: Path) -> None:
    threads: list[str] = []

    def setup(gm: GitMachine) -> None:
        threads.append(threading.current_thread().name)
        gm.run("echo made >setup.txt", check=True)
        assert gm.read_text("setup.txt") == "made\n"
        assert (gm.session, gm.state) == ("feature", MachineState.RUNNING)
        assert gm.commit("by the plugin") is not None
        with pytest.raises(InvalidStateError, match="cannot be called from a callback or hook"):
            gm.stop()

    gm = make(plugins=host(plugin(setup=setup, teardown=lambda gm: gm.write_file("end.txt", "bye"))))
    await gm.start()
    await gm.stop()
    assert threads[0].startswith("gitmachine-callback")
    assert show(remote, "feature:setup.txt") == "made"
    assert show(remote, "feature:end.txt") == "bye"


def test_in_a_blocking_session_a_blocking_plugin_gets_that_very_object(remote: Path, tmp_path: Path) -> None:
    seen: list[object] = []

    async def before_pause(gm: AsyncGitMachine) -> None:
        seen.append(type(gm))
        await gm.run("true", check=True)

    def setup(gm: GitMachine) -> None:
        gm.run("true", check=True)
        seen.append(gm)

    with GitMachine(
        StreamMachine(tmp_path), repository=str(remote), session="s", plugins=host(plugin(setup=setup, teardown=setup))
    ) as gm:
        assert seen == [gm]
    assert seen == [gm, gm]


async def test_a_view_is_of_no_use_when_the_loop_has_ended(remote: Path, tmp_path: Path) -> None:
    kept: list[GitMachine] = []

    def setup(gm: GitMachine) -> None:
        kept.append(gm)

    async def session() -> None:
        gm = AsyncGitMachine(
            StreamMachine(tmp_path),
            repository=str(remote),
            session="s",
            plugins=host(plugin(setup=setup)),
        )
        async with gm:
            pass

    def elsewhere() -> None:
        asyncio.run(session())
        with pytest.raises(InvalidStateError, match="loop of this session has ended"):
            kept[0].run("true")

    await asyncio.to_thread(elsewhere)


async def test_a_setup_that_fails_undoes_the_start(make: Make, machine: StreamMachine) -> None:
    def setup(gm: GitMachine) -> None:
        raise RuntimeError("no network")

    gm = make(plugins=host(plugin(setup=setup)))
    with pytest.raises(HookError, match=r"plugin 'a'.*gitmachine_setup: RuntimeError: no network"):
        await gm.start()
    assert machine.state is MachineState.STOPPED


# -- commands --------------------------------------------------------------------------------------------------------


async def test_a_command_can_be_changed_and_vetoed(make: Make) -> None:
    seen: list[ExecRequest] = []

    async def change(request: ExecRequest) -> ExecRequest:
        seen.append(request)
        return attrs.evolve(request, env={**request.env, "ADDED": "yes"})

    def veto(request: ExecRequest) -> None:
        assert request.env["ADDED"] == "yes"
        if request.argv and request.argv[0] == "rm":
            raise CommandVetoed("nothing is removed here")

    gm = make(plugins=host(plugin(before_command=change), plugin(before_command=veto)), env={"MINE": "1"})
    await gm.start()
    result = await gm.run("echo $ADDED $MINE", cwd=".")
    assert result.stdout == "yes 1\n"
    assert (seen[0].cwd, seen[0].env) == (gm.path + "/.", {"MINE": "1"})
    with pytest.raises(CommandVetoed, match="nothing is removed"):
        await gm.run(["rm", "-rf", "."])
    with pytest.raises(CommandVetoed):
        await gm.spawn(["rm", "-rf", "."])
    assert [entry.command for entry in gm.logs()] == ["echo $ADDED $MINE"]
    assert await gm.runs() == ()


async def test_what_a_plugin_runs_to_judge_a_command_is_not_judged_itself(make: Make) -> None:
    judged: list[str | None] = []

    def judge(gm: GitMachine, request: ExecRequest) -> None:
        judged.append(request.shell)
        gm.run("true", check=True)

    gm = make(plugins=host(plugin(before_command=judge)))
    async with gm:
        await asyncio.gather(gm.run("echo 1"), gm.run("echo 2"))
    assert sorted(judged, key=str) == ["echo 1", "echo 2"]


async def test_a_plugin_that_fails_lets_no_command_through(make: Make) -> None:
    gm = make(plugins=host(plugin(before_command=lambda request: request.nothing)))
    async with gm:
        with pytest.raises(HookError, match="AttributeError"):
            await gm.run("touch ran")
        assert "ran" not in await gm.list_files()


@pytest.fixture(params=["def", "async def"])
def hanging(request: pytest.FixtureRequest) -> Iterator[Callable[..., PluginHost]]:
    """Return a function that makes a plugin which does not come back from some hooks, and waits little for it."""
    released = threading.Event()

    def hang() -> None:
        released.wait(100)

    async def hang_too() -> None:
        await asyncio.sleep(100)

    def make(*hooks: str) -> PluginHost:
        made = PluginHost(entry_points=(), hook_timeout=0.3)
        made.register(plugin(**dict.fromkeys(hooks, hang if request.param == "def" else hang_too)), "a")
        return made

    yield make
    released.set()


async def test_what_nobody_allows_in_time_does_not_happen_and_the_work_is_kept(
    make: Make, hanging: Callable[..., PluginHost], remote: Path
) -> None:
    late = r"plugin 'a'.* in gitmachine_{}: it did not end within 0\.3 s"
    gm = make(plugins=hanging("before_command", "before_commit"))
    await gm.start()
    await gm.write_file("a", "1")
    for refused in (gm.run, gm.spawn):
        with pytest.raises(HookError, match=late.format("before_command")):
            await refused("touch ran")
    assert "ran" not in await gm.list_files()
    before = await gm.hash()
    for operation in (gm.commit, gm.pause, gm.stop):
        with pytest.raises(HookError, match=late.format("before_commit")) as caught:
            await operation()
    assert "is kept" in "".join(caught.value.__notes__)
    assert gm.state is MachineState.RUNNING
    assert (await gm.hash(), await gm.read_file("a")) == (before, b"1")
    receipt = await gm.stop(force=True)
    assert receipt is not None
    assert any(kept.name.endswith("changes") for kept in receipt.kept)


async def test_what_a_hook_does_when_its_operation_is_cancelled_is_ended(make: Make, machine: StreamMachine) -> None:
    raised: list[str] = []
    ended = threading.Event()

    def judge(gm: GitMachine) -> None:
        try:
            gm.run("echo begun > begun; exec sleep 1000")
        except GitMachineError as error:
            raised.append(str(error))
        ended.set()

    gm = make(plugins=host(plugin(before_commit=judge)), auto_commit=False)
    await gm.start()
    await gm.write_file("a", "1")
    committing = asyncio.ensure_future(gm.commit())
    async with asyncio.timeout(60):
        while "begun" not in await gm.list_files():
            await asyncio.sleep(0.02)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    assert await asyncio.to_thread(ended.wait, 60)
    assert raised == ["run() was cancelled"]
    async with asyncio.timeout(60):
        while any(process._child.returncode is None for process in machine.live):
            await asyncio.sleep(0.02)


def late_judge(released: threading.Event, raised: list[str], ended: threading.Event) -> PluginHost:
    """Return a plugin that acts only when nobody waits for it any more."""

    def judge(gm: GitMachine) -> None:
        released.wait(100)
        try:
            gm.run("touch late")
        except GitMachineError as error:
            raised.append(str(error))
        ended.set()

    plugins = PluginHost(entry_points=(), hook_timeout=0.3)
    plugins.register(plugin(before_commit=judge), "judge")
    return plugins


REFUSED = ["the hook took too long, or was cancelled: nothing more is done for it"]


async def test_a_hook_that_was_given_up_may_do_nothing_more(make: Make) -> None:
    released, ended, raised = threading.Event(), threading.Event(), list[str]()
    gm = make(plugins=late_judge(released, raised, ended), auto_commit=False)
    await gm.start()
    await gm.write_file("a", "1")
    with pytest.raises(HookError, match="did not end within"):
        await gm.commit()
    released.set()
    assert await asyncio.to_thread(ended.wait, 60)
    assert raised == REFUSED
    assert "late" not in await gm.list_files()


def test_a_hook_that_was_given_up_may_do_nothing_more_in_a_blocking_session(remote: Path, tmp_path: Path) -> None:
    released, ended, raised = threading.Event(), threading.Event(), list[str]()
    plugins = late_judge(released, raised, ended)
    gm = GitMachine(StreamMachine(tmp_path), repository=f"file://{remote}", plugins=plugins, auto_commit=False)
    gm.start()
    gm.write_file("a", "1")
    with pytest.raises(HookError, match="did not end within"):
        gm.commit()
    released.set()
    assert ended.wait(60)
    assert raised == REFUSED
    assert "late" not in gm.list_files()
    gm.stop(force=True)


async def test_commits_that_nobody_allows_in_time_are_not_pushed_and_are_rescued(
    make: Make, hanging: Callable[..., PluginHost], remote: Path
) -> None:
    gm = make(plugins=hanging("before_push"))
    await gm.start()
    await gm.write_file("a", "1")
    await gm.commit("work")
    for operation in (gm.push, gm.stop):
        with pytest.raises(
            PushVetoed, match=r"plugin 'a'.* in gitmachine_before_push: it did not end within"
        ) as caught:
            await operation()
        assert caught.value.rescue is not None
    assert gm.state is MachineState.RUNNING
    with pytest.raises(AssertionError):
        tip(remote, "feature")


async def test_a_judge_cannot_stop_the_machine_that_waits_for_it(make: Make) -> None:
    gm = make(plugins=host(plugin(before_command=lambda gm: gm.stop())))
    async with gm:
        with pytest.raises(InvalidStateError):
            await gm.run("true")


# -- commits ---------------------------------------------------------------------------------------------------------


async def test_a_commit_can_be_vetoed_and_nothing_is_lost(make: Make, machine: FilesMachine, remote: Path) -> None:
    def veto(changes: Any) -> None:
        if any(change.path == "bad" for change in changes.files):
            raise CommitRejected("bad is not committed here")

    gm = make(plugins=host(plugin(before_commit=veto)))
    await gm.start()
    await gm.write_file("good", "1")
    assert await gm.commit("fine") is not None
    await gm.write_file("bad", "2")
    with pytest.raises(CommitRejected, match="not committed here"):
        await gm.commit("no")
    with pytest.raises(CommitRejected, match="not committed here"):
        await gm.pause()
    with pytest.raises(CommitRejected, match="not committed here") as caught:
        await gm.stop()
    assert "is kept" in "".join(caught.value.__notes__)
    assert gm.state is MachineState.RUNNING
    assert (await gm.run("cat bad")).stdout == "2"
    receipt = await gm.stop(force=True)
    assert receipt is not None
    assert receipt.rescue is not None
    assert "not committed here" in receipt.rescue.reason
    assert any(kept.name.endswith("changes") for kept in receipt.kept)


async def test_a_formatter_may_change_what_is_committed(make: Make, remote: Path) -> None:
    async def format_(gm: AsyncGitMachine) -> None:
        await gm.run("printf 'formatted\\n' >code; printf x >made", check=True)

    def select(changes: Any) -> list[Withhold]:
        return [Withhold("made", "made by a formatter") for change in changes.files if change.path == "made"]

    gm = make(plugins=host(plugin(before_commit=format_, select_changes=select)))
    async with gm:
        await gm.write_file("code", "ugly")
    assert show(remote, "feature:code") == "formatted"
    assert gm.receipt is not None
    assert [file.path for file in gm.receipt.withheld] == ["made"]


async def test_changes_can_be_withheld_and_what_plugins_ask_for_is_checked(make: Make, remote: Path) -> None:
    async def one(changes: Any) -> list[Withhold]:
        return [Withhold(change.path, "no notes") for change in changes.files if change.path.endswith(".note")]

    def other(gm: GitMachine, changes: Any) -> Withhold:
        return Withhold("a.note", "also no")

    def wrong() -> list[object]:
        return [Withhold("no-such-change", "x"), "a.note"]

    events: list[tuple[str, dict[str, Any]]] = []
    gm = make(
        plugins=host(plugin(select_changes=one), plugin(select_changes=other), plugin(select_changes=wrong)),
        on_event=lambda event, data, _gm: events.append((event, data)),
    )
    async with gm:
        await gm.write_file("a.note", "1")
        await gm.write_file("b", "2")
    assert gm.receipt is not None
    assert [(file.path, file.reason, file.plugin) for file in gm.receipt.withheld] == [("a.note", "no notes", "a")]
    assert show(remote, "feature:b") == "2"
    (told,) = [data for event, data in events if event == "withheld"]
    assert [file["path"] for file in told["files"]] == ["a.note"]
    assert [failure.plugin for failure in gm.hook_failures] == ["c", "c"]


async def test_a_plugin_that_fails_to_select_stops_no_commit(make: Make, remote: Path) -> None:
    gm = make(plugins=host(plugin(select_changes=lambda changes: changes.nothing)))
    async with gm:
        await gm.write_file("b", "2")
    assert show(remote, "feature:b") == "2"
    assert [failure.plugin for failure in gm.hook_failures] == ["a"]


async def test_what_is_withheld_twice_is_told_once(make: Make) -> None:
    events: list[str] = []
    gm = make(
        plugins=host(plugin(select_changes=lambda changes: [Withhold("key", "no")] if changes.files else None)),
        on_event=lambda event, _data, _gm: events.append(event),
    )
    await gm.start()
    await gm.write_file("key", "1")
    await gm.pause()
    await gm.resume()
    await gm.stop()
    assert events.count("withheld") == 1
    assert gm.receipt is not None
    assert [file.path for file in gm.receipt.withheld] == ["key"]


# -- pushes ----------------------------------------------------------------------------------------------------------


async def test_a_push_can_be_vetoed_and_the_work_is_rescued(make: Make, remote: Path) -> None:
    seen: list[Any] = []

    def veto(commits: Any) -> None:
        seen.append([commit.subject for commit in commits])
        raise PushVetoed("not on a Friday")

    gm = make(plugins=host(plugin(before_push=veto)))
    await gm.start()
    await gm.write_file("a", "1")
    await gm.commit("work")
    with pytest.raises(PushVetoed, match="not on a Friday") as caught:
        await gm.push()
    assert caught.value.rescue is not None
    assert caught.value.rescue.bundle is not None
    assert seen == [["work"]]
    with pytest.raises(PushVetoed, match="is kept and the work is safe in"):
        await gm.stop()
    assert gm.state is MachineState.RUNNING
    receipt = await gm.stop(force=True)
    assert receipt is not None
    assert not receipt.pushed
    assert receipt.rescue is not None
    with pytest.raises(AssertionError):
        tip(remote, "feature")


async def test_a_plugin_that_fails_lets_no_push_through(make: Make) -> None:
    async def fail(gm: AsyncGitMachine, commits: Any) -> None:
        raise KeyError("sha")

    gm = make(plugins=host(plugin(before_push=fail)))
    await gm.start()
    await gm.write_file("a", "1")
    with pytest.raises(PushVetoed, match=r"plugin 'a'.*KeyError"):
        await gm.stop()


async def test_only_commits_that_the_remote_lacks_are_put_to_plugins(make: Make) -> None:
    seen: list[int] = []
    gm = make(plugins=host(plugin(before_push=lambda commits: seen.append(len(commits)))))
    await gm.start()
    await gm.push()
    for number in range(2):
        await gm.write_file("a", str(number))
        await gm.commit("work")
    await gm.push()
    await gm.write_file("a", "last")
    await gm.stop()
    assert seen == [2, 1]


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_every_teardown_is_called_the_machine_ends_and_the_errors_are_raised_then(
    make: Make, machine: FilesMachine, remote: Path
) -> None:
    called: list[str] = []

    def fail(gm: GitMachine) -> None:
        called.append("fail")
        raise RuntimeError("one")

    async def fail_too(gm: AsyncGitMachine) -> None:
        called.append("fail too")
        raise ValueError("two")

    async def work(gm: AsyncGitMachine) -> None:
        called.append("work")
        await gm.write_file("end", "1")

    def on_end(_gm: object) -> None:
        raise KeyError("zero")

    gm = make(plugins=host(plugin(teardown=fail), plugin(teardown=fail_too), plugin(teardown=work)), on_end=on_end)
    await gm.start()
    with pytest.raises(KeyError, match="zero") as caught:
        await gm.stop()
    notes = "".join(caught.value.__notes__)
    assert called == ["fail", "fail too", "work"]
    assert "RuntimeError: one" in notes
    assert "ValueError: two" in notes
    assert "was stopped and its work published" in notes
    assert machine.state is MachineState.STOPPED
    assert gm.receipt is not None
    assert gm.receipt.pushed
    assert show(remote, "feature:end") == "1"


async def test_an_observer_that_raises_stops_nothing_and_is_reported(make: Make, remote: Path) -> None:
    def fail(event: Any) -> None:
        raise OSError("the disk is full")

    gm = make(plugins=host(plugin(machine_started=fail, git_pushed=fail)))
    async with gm:
        await gm.write_file("a", "1")
    assert tip(remote, "feature")
    assert [(one.plugin, one.hook, one.error) for one in gm.hook_failures] == [
        ("a", "gitmachine_machine_started", "OSError: the disk is full"),
        ("a", "gitmachine_git_pushed", "OSError: the disk is full"),
    ]


async def test_plugins_find_their_options(make: Make) -> None:
    gm = make(plugins=PluginHost(entry_points=(), options={"mine": {"a": 1}}))
    assert gm.plugin_options("mine") == {"a": 1}


# -- all of them -----------------------------------------------------------------------------------------------------

ELSEWHERE = {"register_providers", "register_commands", "machine_lost", "machine_reconnected", "git_rescued"}
"""Hooks that a session which goes well does not call."""


async def test_one_session_calls_every_hook_of_the_sample_plugin(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Path(__file__).resolve().parents[2] / "plugins"
    spec = importlib.util.spec_from_file_location("recorder", samples / "recorder.py")
    assert spec is not None
    assert spec.loader is not None
    recorder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorder)
    recorder.withhold = [Withhold("key", "a sample")]
    server = make(plugins=host(recorder), repository="https://127.0.0.1:1/nothing.git")
    with pytest.raises(CloneError):
        await server.start()
    gm = make(plugins=host(recorder))
    async with gm:
        await gm.write_file("key", "1")
        await gm.run("true")
        await gm.checkpoint()
        await gm.pull()
        await gm.pause()
        await gm.resume()
        await gm.write_file("fine", "1")
    assert gm.hook_failures == ()
    names = {name.removeprefix("gitmachine_") for name in vars(hookspecs) if name.startswith("gitmachine_")}
    called = {hook.removeprefix("gitmachine_") for hook, _arguments, _thread in recorder.calls}
    assert names - called == ELSEWHERE
    for hook, arguments, thread in recorder.calls:
        if "gm" in arguments:
            kind = AsyncGitMachine if thread == threading.current_thread().name else GitMachine
            assert isinstance(arguments["gm"], kind), hook
