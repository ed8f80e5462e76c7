"""The blocking façade: the same names as `AsyncGitMachine`, callbacks on threads, no hang whatever is called where.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from gitmachine import Capability, GitMachineError, InvalidStateError, MachineState, hookimpl
from gitmachine.plugins.host import PluginHost
from gitmachine.session import AsyncGitMachine
from gitmachine.sync import GitMachine
from support.gitserver import serving
from support.machines import StreamMachine
from support.repos import git, make_remote

TESTS = Path(__file__).resolve().parents[1]
SECONDS = 40.0
"""How long anything may take on a machine that is busy; what hangs would hang for ever."""


# -- parity --------------------------------------------------------------------------------------------------------


def members(cls):
    classes = reversed(cls.__mro__[:-1])
    named = {name: value for one in classes for name, value in vars(one).items()}
    return {name: value for name, value in named.items() if not name.startswith("_") or name == "__init__"}


def plain(member):
    return member.__func__ if isinstance(member, classmethod) else member


ASYNC, SYNC = members(AsyncGitMachine), members(GitMachine)
ALIASES = {
    "Callable[[str, dict[str, Any], GitMachine], object]": "EventCallback",
    "Callable[[str], object]": "OutputCallback",
    "Callable[[bytes], object]": "BytesCallback",
    "Callable[[int], object]": "Callable[[int], Awaitable[None] | None]",
    "str | Callable[[], str | GitCredential | None] | None": "TokenSource",
    "Iterable[bytes]": "AsyncIterable[bytes]",
    "Run": "AsyncRun",
    "Terminal": "AsyncTerminal",
}
"""How the blocking class spells what the asynchronous one calls so."""


def annotation(text):
    text = str(text)
    for spelled, name in ALIASES.items():
        if spelled in text and name not in text:
            text = text.replace(spelled, name)
    return text


def signature(member):
    shape = inspect.signature(plain(member))
    parameters = [(p.name, p.kind, repr(p.default), annotation(p.annotation)) for p in shape.parameters.values()]
    return parameters, annotation(shape.return_annotation)


def document(member):
    text = inspect.getdoc(member) or ""
    return text.replace("``async with``", "``with``").replace("many tasks at once", "many threads at once")


def test_both_classes_have_the_same_names():
    assert list(SYNC) == list(ASYNC)
    assert hasattr(GitMachine, "__enter__")
    assert hasattr(GitMachine, "__exit__")


@pytest.mark.parametrize("name", ASYNC)
def test_both_classes_have_the_same_kind_of_member(name):
    assert type(SYNC[name]) is type(ASYNC[name])
    assert not inspect.iscoroutinefunction(plain(SYNC[name]))


@pytest.mark.parametrize("name", [n for n in ASYNC if not isinstance(ASYNC[n], property)])
def test_both_classes_have_the_same_signatures(name):
    assert signature(SYNC[name]) == signature(ASYNC[name])


@pytest.mark.parametrize("name", [n for n in ASYNC if isinstance(ASYNC[n], property)])
def test_both_classes_have_the_same_properties(name):
    assert signature(SYNC[name].fget) == signature(ASYNC[name].fget)


@pytest.mark.parametrize("name", ASYNC)
def test_both_classes_have_the_same_docstrings(name):
    assert document(SYNC[name]) == document(ASYNC[name])


def test_the_classes_describe_themselves_alike_but_for_where_callbacks_run():
    def parts(cls):
        text = re.sub(r"\n\nCallbacks .*?(?=\n\n)", "", document(cls), flags=re.DOTALL)
        assert text != document(cls)
        return text

    assert parts(GitMachine) == parts(AsyncGitMachine)


# -- every pair, called --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return make_remote(tmp_path_factory.mktemp("sync") / "remote.git", commits=3)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Be in a directory of the test's own: what is downloaded lands there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def remote(template, tmp_path):
    path = tmp_path / "remote.git"
    git("clone", "--quiet", "--bare", template, path)
    return path


@pytest.fixture
def arguments(remote, tmp_path):
    """Return the constructor's keywords for a session on the test's own remote, without installed plugins."""
    return {"repository": str(remote), "session": "feature", "plugins": PluginHost(entry_points=())}


class PausableMachine(StreamMachine):
    """A machine whose pause is only a state: enough for the order of calls."""

    capabilities = StreamMachine.capabilities | {Capability.PAUSE}

    async def pause(self):
        self._state = MachineState.PAUSED

    async def resume(self):
        self._state = MachineState.RUNNING


@pytest.fixture
def machine(tmp_path):
    return PausableMachine(tmp_path)


CALLS = [
    ("start", (), {}),
    ("run", ("echo out; echo err >&2; cat; exit 3",), {"stdin": b"input", "env": {"A": "b"}, "timeout": 60.0}),
    ("write_file", ("dir/new.txt", "text\r\n"), {}),
    ("read_file", ("dir/new.txt",), {}),
    ("read_text", ("dir/new.txt",), {"max_bytes": 100}),
    ("list_files", ("dir",), {}),
    ("upload", (__file__, "dir/up.py"), {}),
    ("download", ("dir", "here"), {"max_entries": 10}),
    ("open_terminal", ("true",), {"columns": 100}),
    ("fork", ("copy",), {"name": "second"}),
    ("snapshot", ("one",), {}),
    ("snapshots", (), {}),
    ("delete_snapshot", ("one",), {}),
    ("diff", (), {}),
    ("changes", (), {}),
    ("plugin_options", ("policy",), {}),
    ("commit", ("a message",), {}),
    ("commit", (), {}),
    ("hash", (), {}),
    ("log", (2,), {}),
    ("push", (), {}),
    ("pull", (), {}),
    ("checkpoint", ("before",), {}),
    ("checkpoints", (), {}),
    ("rollback", (1,), {}),
    ("update", (), {"env": {"LATER": "1"}}),
    ("get_host", (80,), {}),
    ("spawn", (["sleep", "600"],), {"name": "sleeper"}),
    ("runs", (), {}),
    ("attach", ("sleeper",), {}),
    ("pause", (), {}),
    ("resume", (), {}),
    ("logs", (), {}),
    ("stop", (), {"force": False}),
    ("close", (), {}),
]
PROPERTIES = [name for name, value in ASYNC.items() if isinstance(value, property)]


def outcome(value):
    """Return what can be compared of a result: ids, times and paths differ between two sessions."""
    text = re.sub(r"[0-9a-f]{40}", "<sha>", repr(value))
    text = re.sub(r"<(Async)?Run \w+|\bid='\w+'", "<run>", text)
    text = re.sub(r"duration=[0-9.e-]+|datetime\([^)]*\)", "<time>", text)
    return re.sub(r"/[^' ]*machine-\w+|0x[0-9a-f]+", "<machine>", text)


async def drive_async(gm):
    seen = []
    for name, args, kwargs in CALLS:
        try:
            answer = getattr(gm, name)(*args, **kwargs)
            seen.append((name, outcome(await answer if inspect.isawaitable(answer) else answer)))
        except GitMachineError as error:
            seen.append((name, outcome(error)))
    return seen


def drive_sync(gm):
    seen = []
    for name, args, kwargs in CALLS:
        try:
            seen.append((name, outcome(getattr(gm, name)(*args, **kwargs))))
        except GitMachineError as error:
            seen.append((name, outcome(error)))
    return seen


def test_every_method_is_called():
    constructors = {"__init__", "connect", "from_config"}
    assert {name for name, _, _ in CALLS} | set(PROPERTIES) | constructors == set(ASYNC)


def test_each_pair_gives_the_same_answer_or_error(arguments, remote, tmp_path):
    second = tmp_path / "second.git"
    git("clone", "--quiet", "--bare", remote, second)
    events = {AsyncGitMachine: [], GitMachine: []}

    def keywords(cls):
        return {**arguments, "on_event": lambda event, data, gm: events[cls].append((event, sorted(data)))}

    blocking = GitMachine(PausableMachine(tmp_path), **keywords(GitMachine))
    by_sync = drive_sync(blocking)
    asynchronous = AsyncGitMachine(
        PausableMachine(tmp_path), **{**keywords(AsyncGitMachine), "repository": str(second), "session": "feature"}
    )
    by_async = asyncio.run(drive_async(asynchronous))
    assert by_sync == by_async
    assert events[GitMachine] == events[AsyncGitMachine]
    assert dict(by_sync)["run"].startswith("ExecResult(exit_code=3")
    assert dict(by_sync)["upload"] == f"Transfer(files=1, bytes={Path(__file__).stat().st_size})"
    assert (tmp_path / "here" / "up.py").read_bytes() == Path(__file__).read_bytes()
    for name in set(PROPERTIES) - {"key", "repository", "path", "machine", "receipt"}:
        assert outcome(getattr(blocking, name)) == outcome(getattr(asynchronous, name)), name
    assert blocking.receipt.pushed
    assert blocking.machine.id is None
    assert blocking.path.endswith("repo")
    assert (blocking.key, blocking.repository) != (asynchronous.key, asynchronous.repository)


def test_a_session_from_a_configuration(remote, tmp_path, monkeypatch):
    file = tmp_path / "gitmachine.toml"
    file.write_text(f'provider = "local"\nrepository = "{remote}"\nsession = "configured"\n')
    made = GitMachine.from_config(file, session="given", auto_commit=False)
    assert isinstance(made, GitMachine)
    assert made.session == "given"


# -- callbacks -----------------------------------------------------------------------------------------------------


def test_life_cycle_callbacks_get_this_object_on_threads_of_their_own_and_can_act(arguments, machine, remote):
    seen = []

    def callback(name):
        def act(gm):
            seen.append((name, gm, threading.current_thread()))
            gm.run(f"echo {name} >> log.txt", check=True)

        return act

    names = ("on_start", "on_pause", "on_resume", "on_end")
    with GitMachine(machine, **arguments, **{name: callback(name) for name in names}) as gm:
        gm.commit("by on_start")
        gm.pause()
        gm.resume()
        gm.update({"A": "1"}, on_update=callback("on_update"))
    order = ["on_start", "on_pause", "on_resume", "on_update", "on_end"]
    assert [name for name, _, _ in seen] == order
    assert all(given is gm for _, given, _ in seen)
    threads = {thread for _, _, thread in seen}
    assert len(threads) == len(order)
    assert threading.current_thread() not in threads
    assert git("show", "feature:log.txt", cwd=remote).splitlines()[-len(order) :] == order


def test_events_come_in_order_with_this_object_and_an_observer_may_act(arguments, machine):
    seen = []

    def observe(event, data, gm):
        seen.append(event)
        if event == "started":
            assert gm.hash() is not None
            assert data["session"] == "feature"
        if event == "pushed":
            raise ValueError("an observer's mistake")

    with GitMachine(machine, **arguments, on_event=observe) as gm:
        gm.run("echo hi > new.txt")
    assert [event for event in seen if not event.startswith("command")] == [
        *("cloned", "started", "committed", "pushed", "stopping", "stopped")
    ]
    assert [failure.error for failure in gm.hook_failures] == ["ValueError: an observer's mistake"]


def test_an_error_of_on_start_fails_the_start_and_releases_the_machine(arguments, machine):
    def fail(gm):
        raise ZeroDivisionError("in on_start")

    gm = GitMachine(machine, **arguments, on_start=fail)
    with pytest.raises(ZeroDivisionError, match="in on_start"):
        gm.start()
    assert machine.id is None


def test_output_comes_on_one_thread_in_order_while_the_command_runs(arguments, machine, tmp_path):
    pieces, threads, exits = [], set(), []
    seen = tmp_path / "seen"

    def read(text):
        pieces.append(text)
        threads.add(threading.current_thread())
        seen.touch()

    with GitMachine(machine, **arguments) as gm:
        # The command goes on only when its first line was seen.
        script = f"echo first; while [ ! -e '{seen}' ]; do sleep 0.01; done; seq 2 3000; echo err >&2"
        callbacks = {"on_stdout": read, "on_stderr": read, "on_stdout_bytes": read, "on_exit": exits.append}
        result = gm.run(script, timeout=3 * SECONDS, **callbacks)
    # First what became of the command: one that somebody killed has printed nothing, and lost nothing.
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "err\n", 3000)
    text = [piece for piece in pieces if isinstance(piece, str)]
    assert "".join(text).replace("err\n", "") == "first\n" + "".join(f"{n}\n" for n in range(2, 3001))
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)).count(b"\n") == 3000
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert exits == [0]


def test_a_slow_output_callback_slows_its_own_command_only(arguments, machine):
    blocked, release, outputs = threading.Event(), threading.Event(), []

    def slow(_text):
        blocked.set()
        release.wait(SECONDS)

    with GitMachine(machine, **arguments) as gm:
        first = threading.Thread(target=lambda: outputs.append(gm.run("echo slow", on_stdout=slow).stdout))
        first.start()
        assert blocked.wait(SECONDS)
        quick = []
        assert gm.run("echo quick", on_stdout=quick.append).stdout == "quick\n"
        assert (quick, outputs) == (["quick\n"], [])
        release.set()
        first.join(SECONDS)
        assert outputs == ["slow\n"]


def test_an_output_callback_may_run_commands_and_its_error_is_the_commands(arguments, machine):
    inner = []

    def nested(text):
        inner.append(gm.run(["echo", text.strip()]).stdout)

    def fail(_text):
        raise ZeroDivisionError("in on_stdout")

    with GitMachine(machine, **arguments) as gm:
        gm.run("echo hi", on_stdout=nested)
        assert inner == ["hi\n"]
        with pytest.raises(ZeroDivisionError, match="in on_stdout"):
            gm.run("echo hi; sleep 600", on_stdout=fail)
        assert gm.run("echo usable").stdout == "usable\n"


def test_input_may_be_any_blocking_iterable(arguments, machine):
    def produce():
        for number in range(100):
            yield b"%d\n" % number

    def fail():
        yield b"some"
        raise OSError("the input broke")

    with GitMachine(machine, **arguments) as gm:
        assert gm.run("wc -l", stdin=produce()).stdout.strip() == "100"
        assert gm.run("cat", stdin="text").stdout == "text"
        with pytest.raises(OSError, match="the input broke"):
            gm.run("cat; sleep 600", stdin=fail())


@pytest.mark.requires("git-http-backend")
def test_a_token_may_be_a_blocking_callable(arguments, machine, tmp_path):
    asked = []

    def token():
        asked.append(threading.current_thread())
        return "s3cret-token"

    with serving(tmp_path, token="s3cret-token") as server:
        arguments["repository"] = f"{server.url}/remote.git"
        with GitMachine(machine, **arguments, token=token) as gm:
            assert gm.push().local_sha == gm.hash()
    assert asked
    assert threading.current_thread() not in asked


class Everywhere:
    """A plugin that calls one method of a session in every hook it can, and keeps what came of it."""

    def __init__(self, act):
        self.act = act

    @hookimpl
    def gitmachine_commit_message(self, reason):
        self.act(f"commit_message {reason}")

    @hookimpl
    def gitmachine_machine_started(self):
        self.act("machine_started")

    @hookimpl
    def gitmachine_git_committed(self):
        self.act("git_committed")

    @hookimpl
    def gitmachine_machine_paused(self):
        self.act("machine_paused")

    @hookimpl
    def gitmachine_machine_stopping(self):
        self.act("machine_stopping")

    @hookimpl
    def gitmachine_command_finished(self):
        self.act("command_finished")


LIFECYCLE = {"start", "pause", "resume", "stop", "close"}
GROUPS = {name: [call for call in CALLS if call[0] == name] for name in sorted(LIFECYCLE)}
GROUPS["the others"] = [call for call in CALLS if call[0] not in LIFECYCLE]
PLACES = {
    *("token", "on_start", "on_pause", "on_resume", "on_end", "on_update", "on_stdout", "on_exit"),
    *("machine_started", "git_committed", "machine_paused", "machine_stopping", "command_finished"),
    *("commit_message explicit", "commit_message pause", "commit_message stop"),
    *(f"on_event {name}" for name in ("cloned", "started", "command_started", "command_finished", "committed")),
    *(f"on_event {name}" for name in ("pushed", "pulled", "paused", "resumed", "stopping", "stopped")),
}


class Caller:
    """Makes some calls in each place once, and keeps what came of them."""

    def __init__(self, calls):
        self.calls = calls
        self.came = {}
        self.gm = None

    def act(self, place):
        if place in self.came:
            return
        self.came[place] = outcomes = []
        for name, args, kwargs in self.calls:
            record = [name, "hung"]
            outcomes.append(record)
            try:
                getattr(self.gm, name)(*args, **kwargs)
                record[1] = "returned"
            except (GitMachineError, OSError) as error:
                record[1] = type(error).__name__

    def hung(self):
        return [(place, name) for place, calls in self.came.items() for name, result in calls if result == "hung"]


def whole_session(gm, caller):
    """Go through a session in which every callback and hook is called, whatever they do to it."""

    def run(name):
        return gm.run(
            f"echo {name} >> {name}.txt; echo out",
            on_stdout=lambda text: caller.act("on_stdout"),
            on_exit=lambda code: caller.act("on_exit"),
        )

    steps = [gm.start, lambda: run("a"), lambda: gm.write_file("b.txt", "b"), gm.commit, gm.pull]
    steps += [lambda: gm.write_file("c.txt", "c"), gm.pause, gm.resume]
    steps += [lambda: gm.update(on_update=lambda gm: caller.act("on_update")), lambda: run("d"), gm.stop]
    for step in steps:
        try:
            step()
        except (GitMachineError, OSError):
            continue


@pytest.mark.timeout(300)
@pytest.mark.requires("git-http-backend")
@pytest.mark.parametrize("group", GROUPS)
def test_every_method_called_from_every_callback_and_hook_returns_or_raises_a_typed_error(
    arguments, machine, tmp_path, group
):
    caller = Caller(GROUPS[group])

    def token():
        caller.act("token")
        return "s3cret-token"

    host = PluginHost(entry_points=())
    host.register(Everywhere(caller.act), "everywhere")
    arguments["plugins"] = host
    lifecycle = ("on_start", "on_pause", "on_resume", "on_end")
    with serving(tmp_path, token="s3cret-token") as server:
        arguments["repository"] = f"{server.url}/remote.git"
        gm = caller.gm = GitMachine(
            machine,
            **arguments,
            **{name: lambda gm, name=name: caller.act(name) for name in lifecycle},
            on_event=lambda event, data, gm: caller.act(f"on_event {event}"),
            token=token,
        )
        thread = threading.Thread(target=whole_session, args=(gm, caller), daemon=True)
        thread.start()
        thread.join(6 * SECONDS)
        assert not thread.is_alive(), caller.hung()
        gm.stop(force=True)
    assert caller.hung() == []
    if group == "the others":
        assert set(caller.came) >= PLACES, PLACES - set(caller.came)
    else:
        assert caller.came["on_start"] == [[group, "InvalidStateError"]]


# -- the loop ------------------------------------------------------------------------------------------------------


async def test_inside_a_running_loop_it_is_refused_with_the_name_of_the_other_class(arguments, machine):
    with pytest.raises(InvalidStateError, match="use AsyncGitMachine"), GitMachine(machine, **arguments):
        pass
    assert machine.id is None


def test_sixty_four_threads_on_one_session(arguments, machine):
    results = []

    def work(number):
        results.append((number, gm.run(["echo", str(number)]).stdout))
        gm.hash()

    with GitMachine(machine, **arguments) as gm:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert sorted(results) == [(n, f"{n}\n") for n in range(64)]
        assert len(gm.logs()) == 64


def test_close_leaves_the_machine_and_connect_takes_it_over_on_the_same_loop(arguments, machine):
    async def where():
        return asyncio.get_running_loop()

    events = []
    gm = GitMachine(machine, **arguments)
    gm.start()
    loop, identity = gm._lease.call(where), gm.id
    gm.close()
    again = GitMachine.connect(
        machine, **{**arguments, "session": None}, on_event=lambda event, data, gm: events.append((event, data, gm))
    )
    assert again._lease.call(where) is loop
    assert events == [("reconnected", {"id": identity}, again)]
    assert (again.id, again.session) == (identity, "feature")
    assert again.run("git status --short").ok
    again.stop()


def run_script(remote, tmp_path, script):
    """Run a program that has `machine` and the keywords `session`, and return the lines it printed."""
    head = f"""
        import sys
        sys.path.insert(0, {str(TESTS)!r})
        from pathlib import Path
        from gitmachine.plugins.host import PluginHost
        from gitmachine.sync import GitMachine
        from support.machines import StreamMachine

        machine = StreamMachine(Path({str(tmp_path)!r}))
        session = dict(repository={str(remote)!r}, session="s", plugins=PluginHost(entry_points=()))
    """
    code = textwrap.dedent(head) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_loops_thread_ends_when_nobody_needs_it_any_more(remote, tmp_path):
    script = """
        import gc, threading
        gm = GitMachine(machine, **session)
        gm.start()
        gm.stop()
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "gitmachine-loop"]
        gm.close()
        del gm, machine
        gc.collect()
        thread.join(60)
        print(thread.is_alive())
    """
    assert run_script(remote, tmp_path, script) == ["False"]


def test_a_program_ends_although_it_never_stopped_its_machine(remote, tmp_path):
    script = """
        gm = GitMachine(machine, **session)
        gm.start()
        print(gm.state)
    """
    assert run_script(remote, tmp_path, script) == ["running"]


def test_an_interrupted_command_is_killed_and_the_machine_stays_usable(remote, tmp_path):
    script = """
        import os, signal
        with GitMachine(machine, **session) as gm:
            try:
                gm.run("echo $$; exec sleep 600", on_stdout=lambda text: os.kill(os.getpid(), signal.SIGINT))
            except KeyboardInterrupt:
                print("interrupted")
            print([process._child.returncode for process in machine.live][-1])
            print(gm.run("echo usable > u.txt; cat u.txt").stdout, end="")
        print(gm.receipt.pushed)
    """
    assert run_script(remote, tmp_path, script) == ["interrupted", "-9", "usable", "True"]
