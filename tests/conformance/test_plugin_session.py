"""A plugin in a session of its own: which hooks are called, in which order, with what.

Time budget: 20 s.
"""

from __future__ import annotations

import sys
import types

import pytest

from gitmachine import Changes, CommitRejected, HookError, PluginLoadError, hookimpl
from gitmachine.machine import MachineState
from gitmachine.testing import FakeMachine, call_hook, plugin_session


class Words:
    """Words commit messages, one hook as `def`, one as `async def`."""

    def __init__(self, words: str = "words") -> None:
        self.words = words

    @hookimpl
    def gitmachine_commit_message(self, reason):
        return f"{self.words}, {reason}"

    @hookimpl
    async def gitmachine_git_committed(self, event):
        return event.message


class Careless:
    """Raises in an observer, before and after it was awaited."""

    @hookimpl
    async def gitmachine_command_started(self, event):
        raise ValueError(event.command)

    @hookimpl
    def gitmachine_command_finished(self, event):
        raise KeyError(event.exit_code)


def test_every_call_is_on_record_with_its_arguments_answer_and_thread(tmp_path):
    with plugin_session(Words(), tmp_path) as session:
        session.write("new.txt", "hello\n")
        assert session.calls == ()
        session.gm.commit()
        assert session.hooks == ("gitmachine_commit_message", "gitmachine_git_committed")
        session.run("echo more >> new.txt", check=True)
    asked, told, again, _ = session.calls
    assert (asked.plugin, asked.arguments, asked.answer) == ("words-1", {"reason": "explicit"}, "words, explicit")
    assert (asked.ended, asked.error) == (True, None)
    assert told.arguments["event"].message == told.answer == "words, explicit"
    assert again.arguments == {"reason": "stop"}
    assert asked.thread != told.thread, "a def may block: it is on a thread of its own"
    assert session.calls_of("git_committed") == session.calls_of("gitmachine_git_committed") == session.calls[1::2]
    assert session.published("new.txt") == b"hello\nmore\n"
    assert session.published("README.md", "main") == b"# Sample\n"
    assert session.published("nothing") is None
    assert session.receipt.pushed
    assert [name for name, _data in session.events if name != "command_started"][:2] == ["cloned", "started"]


def test_an_error_of_an_observer_is_on_record_and_stops_nothing(tmp_path):
    with plugin_session(Careless(), tmp_path) as session:
        assert session.run("exit 3").exit_code == 3
    started, finished = session.calls
    assert isinstance(started.error, ValueError)
    assert isinstance(finished.error, KeyError)
    assert [failure.hook for failure in session.failures] == [started.hook, finished.hook]
    assert session.machine.state is MachineState.STOPPED


def test_several_plugins_are_called_last_first_as_ever(tmp_path):
    with plugin_session([Words("first"), Words("second")], tmp_path) as session:
        session.write("new.txt", "hello\n")
        session.gm.commit()
    assert [call.arguments["event"].message for call in session.calls_of("git_committed")] == ["second, explicit"] * 2
    assert [call.plugin for call in session.calls_of("commit_message")] == ["words-2"]
    assert [call.plugin for call in session.calls_of("git_committed")] == ["words-2", "words-1"]


def test_a_module_is_a_plugin_and_takes_part_under_its_name(tmp_path):
    module = types.ModuleType("my_plugin")
    module.gitmachine_machine_started = hookimpl(lambda event: None)
    with plugin_session(module, tmp_path) as session:
        assert [call.plugin for call in session.calls] == ["my_plugin"]


def test_an_installed_plugin_takes_part_by_its_name_with_the_cores_own_on_request(tmp_path):
    with plugin_session("gitmachine-local", tmp_path, start=False) as session:
        assert [report.name for report in session._host.plugins] == ["local"]
    with plugin_session(Words(), tmp_path, start=False, core=True) as session:
        assert "core" in [report.name for report in session._host.plugins]
    with pytest.raises(PluginLoadError, match="no plugin 'nobody' is installed"), plugin_session("nobody", tmp_path):
        pass


def test_a_session_that_is_not_started_is_started_by_hand_and_options_are_those_of_gitmachine(tmp_path):
    seen = []
    options = {"auto_commit": False, "on_event": lambda event, data, gm: seen.append(event)}
    machine = FakeMachine()
    with plugin_session(Words(), tmp_path, start=False, machine=machine, session="mine", **options) as session:
        assert session.gm.state is MachineState.IDLE
        session.gm.start()
        assert session.machine is machine
        assert session.gm.session == "mine"
    assert seen == [event for event, _data in session.events]


def test_a_plugin_that_cannot_be_used_says_why(tmp_path):
    class Wrong:
        @hookimpl
        def gitmachine_commit_message(self, weather):
            return weather

    with pytest.raises(PluginLoadError, match="weather"), plugin_session(Wrong(), tmp_path):
        pass


def test_a_refused_stop_is_raised_and_the_machine_is_removed_nevertheless(tmp_path):
    class Refusing:
        @hookimpl
        def gitmachine_commit_message(self):
            raise CommitRejected("not today")

    with pytest.raises(HookError, match="not today"), plugin_session(Refusing(), tmp_path) as session:
        session.write("new.txt", "hello\n")
    assert session.machine.state is MachineState.STOPPED
    assert isinstance(session.calls[0].error, CommitRejected)


def test_an_error_of_the_test_itself_comes_through_and_ends_the_session(tmp_path):
    with pytest.raises(ZeroDivisionError), plugin_session(Words(), tmp_path) as session:
        _ = 1 / 0
    assert session.machine.state is MachineState.STOPPED


def test_one_hook_is_called_without_a_session():
    changes = Changes(files=())
    assert call_hook(Words(), "commit_message", changes=changes, reason="pause") == ["words, pause"]
    both = [Words("first"), Words("second")]
    assert call_hook(both, "commit_message", changes=changes, reason="stop") == ["second, stop", "first, stop"]
    event = types.SimpleNamespace(command="true", exit_code=0)
    assert call_hook(Words(), "gitmachine_git_committed", event=types.SimpleNamespace(message="m")) == ["m"]
    with pytest.raises(HookError, match="ValueError: true"):
        call_hook(Careless(), "command_started", event=event)


def test_the_kit_for_plugins_needs_no_pytest(tmp_path):
    import subprocess

    script = (
        "import sys, pathlib; sys.modules['pytest'] = None\n"
        "from gitmachine.testing import PluginConformance, check_plugin_package, plugin_session\n"
        "with plugin_session(object(), pathlib.Path(sys.argv[1])) as session: print(session.hooks)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, tmp_path],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("()\n", "")
