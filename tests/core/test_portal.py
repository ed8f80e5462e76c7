"""The way from blocking code into the shared event loop.

Time budget: 20 s.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from gitmachine import InvalidStateError, _portal
from gitmachine._portal import Lease, adapt
from gitmachine.plugins.threads import OrderedThread, run_in_thread


@pytest.fixture(autouse=True)
def fresh_loop(monkeypatch):
    """Give each test a loop that nobody else in this process holds."""
    monkeypatch.setattr(_portal, "_shared", None)


@pytest.fixture
def lease(fresh_loop):
    with Lease() as held:
        yield held


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


async def where():
    return threading.current_thread()


def until(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def run_python(script, *options):
    code = textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )


def test_a_coroutine_runs_on_the_loops_thread_and_its_answer_comes_back(lease):
    assert lease.call(double, 21) == 42
    thread = lease.call(where)
    assert thread.name == "gitmachine-loop"
    assert thread.daemon


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), StopAsyncIteration()])
def test_an_error_comes_back_as_it_is_and_the_loop_goes_on(lease, error):
    async def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        lease.call(fail)
    assert caught.value is error
    assert lease.call(double, 1) == 2


def test_an_exit_raised_by_a_task_of_its_own_does_not_end_the_loop(lease):
    async def leave():
        raise SystemExit(3)

    async def start():
        return asyncio.ensure_future(leave())

    task = lease.call(start)
    assert until(task.done)
    assert lease.call(double, 2) == 4
    assert isinstance(task.exception(), SystemExit)


def test_a_cancelled_operation_is_an_error_of_ours(lease):
    async def cancelled():
        raise asyncio.CancelledError

    with pytest.raises(InvalidStateError, match=r"cancelled\(\) was cancelled"):
        lease.call(cancelled)


def test_context_variables_go_in_and_changes_stay_out(lease):
    variable = contextvars.ContextVar("variable")
    variable.set("outer")

    async def change():
        before = variable.get()
        variable.set("inner")
        return before

    assert lease.call(change) == "outer"
    assert variable.get() == "outer"


async def test_a_call_inside_a_running_loop_is_refused_and_names_the_other_class():
    with pytest.raises(InvalidStateError, match=r"double\(\) of GitMachine .* use AsyncGitMachine"):
        Lease().call(double, 1)


async def test_a_call_from_a_thread_of_a_program_with_a_loop_works(lease):
    assert await asyncio.to_thread(lease.call, double, 1) == 2


def test_a_call_on_the_loop_itself_is_refused_instead_of_hanging(lease):
    async def inside():
        lease.call(double, 1)

    with pytest.raises(InvalidStateError, match=r"GitMachine's own event loop, where waiting .* would hang"):
        lease.call(inside)


def test_many_threads_at_once(lease):
    answers = []

    def work(number):
        for _ in range(20):
            answers.append(lease.call(double, number) == 2 * number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 64 * 20


def test_callbacks_nested_deeper_than_there_are_cores_do_not_starve(lease):
    def descend(depth):
        if depth == 0:
            return 0
        return 1 + lease.call(run_in_thread, descend, depth - 1)

    async def many():
        return await asyncio.wait_for(asyncio.gather(*(run_in_thread(descend, 12) for _ in range(4))), 90)

    assert lease.call(many) == [12] * 4


def test_context_variables_pass_through_a_callback_and_back_into_the_loop(lease):
    variable = contextvars.ContextVar("variable", default="unset")

    async def read():
        return variable.get()

    async def outer():
        variable.set("operation")
        return await run_in_thread(lease.call, read)

    assert lease.call(outer) == "operation"
    assert lease.call(read) == "unset"


def test_all_leases_share_one_loop_that_ends_with_the_last():
    first, second = Lease(), Lease()
    thread = first.call(where)
    assert second.call(where) is thread
    first.end()
    assert second.call(where) is thread
    second.end()
    second.end()
    thread.join(30)
    assert not thread.is_alive()
    assert second.call(where).is_alive()
    second.end()


def test_a_lease_ends_with_its_owner():
    class Owner:
        pass

    owner = Owner()
    thread = Lease.of(owner).call(where)
    del owner
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


def test_the_loop_does_not_end_under_a_call_of_a_lease_that_was_ended():
    lease = Lease()
    entered, release = threading.Event(), threading.Event()

    async def slow():
        entered.set()
        await run_in_thread(release.wait, 60)
        return "done"

    answers = []
    caller = threading.Thread(target=lambda: answers.append(lease.call(slow)))
    caller.start()
    assert entered.wait(30)
    lease.end()
    release.set()
    caller.join(30)
    assert answers == ["done"]


def test_leases_that_come_and_go_while_others_call_never_lose_a_call():
    answers = []

    def work():
        for number in range(50):
            with Lease() as lease:
                answers.append(lease.call(double, number) == 2 * number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 400


def test_a_loop_that_was_shut_down_is_replaced(lease):
    old = lease.call(where)
    _portal._at_exit()
    assert not old.is_alive()
    assert lease.call(where) is not old


def test_what_is_under_way_at_a_shutdown_is_cancelled_and_its_caller_told():
    lease = Lease()
    entered, ended, errors = threading.Event(), threading.Event(), []

    async def endless():
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def work():
        try:
            lease.call(endless)
        except InvalidStateError as error:
            errors.append(str(error))

    caller = threading.Thread(target=work)
    caller.start()
    assert entered.wait(30)
    _portal._at_exit()
    caller.join(30)
    assert ended.is_set()
    assert errors == ["endless() was cancelled"]


INTERRUPT = """
    import asyncio, os, signal
    from gitmachine._portal import Lease

    async def work():
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            print("cleaned up", flush=True)
            {cleanup}

    lease = Lease()
    try:
        lease.call(work)
    except KeyboardInterrupt as interrupt:
        print("interrupted", *getattr(interrupt, "__notes__", []))

    async def more():
        return "goes on"
    print(lease.call(more))
"""


def test_an_interrupt_cancels_the_operation_and_waits_for_its_cleanup():
    done = run_python(INTERRUPT.format(cleanup=""))
    assert (done.stdout.splitlines(), done.stderr) == (["cleaned up", "interrupted", "goes on"], "")


def test_a_cleanup_that_fails_after_an_interrupt_is_a_note_of_it():
    done = run_python(INTERRUPT.format(cleanup="raise OSError('disk full')"))
    assert done.stdout.splitlines()[1] == "interrupted work() ended with OSError: disk full"


def test_a_cleanup_that_takes_too_long_is_left_alone():
    script = f"from gitmachine import _portal\n_portal.CLEANUP_SECONDS = 0.1\n{textwrap.dedent(INTERRUPT)}"
    done = run_python(script.format(cleanup="await asyncio.sleep(3600)"))
    assert done.stdout.splitlines()[1:] == ["interrupted work() was still cleaning up after 0.1 s", "goes on"]


def test_the_interpreter_ends_although_a_lease_is_held_and_a_call_is_under_way():
    done = run_python("""
        import asyncio, threading
        from gitmachine._portal import Lease

        entered = threading.Event()

        async def endless():
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned up", flush=True)

        lease = Lease()
        threading.Thread(target=lambda: lease.call(endless), daemon=True).start()
        entered.wait(60)
        print("end of main", flush=True)
    """)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == ["end of main", "cleaned up"]


@pytest.mark.requires("linux")
def test_a_forked_process_is_told_and_can_start_afresh():
    script = """
        import os, sys
        from gitmachine import InvalidStateError
        from gitmachine._portal import Lease

        async def f():
            return os.getpid()

        lease = Lease()
        parent = lease.call(f)
        child = os.fork()
        if child == 0:
            try:
                lease.call(f)
            except InvalidStateError as error:
                print(error, flush=True)
            lease.end()
            print(Lease().call(f) == os.getpid() != parent, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(lease.call(f) == parent)
    """
    lines = run_python(script, "-W", "ignore").stdout.splitlines()
    assert "forked" in lines[0]
    assert lines[1:] == ["True", "True"]


async def test_adapted_callbacks_run_on_threads_and_awaitables_they_return_are_awaited():
    assert adapt(None) is None
    assert await adapt(threading.current_thread)() is not threading.current_thread()
    assert await adapt(double)(4) == 8
    with OrderedThread("ordered") as thread:
        assert (await adapt(threading.current_thread, thread.call)()).name.startswith("ordered-")


def test_a_call_costs_no_more_than_some_milliseconds(lease):
    # It is about 0.06 ms on an idle machine; only a mistake such as polling would come near this bound.
    lease.call(double, 1)
    began = time.perf_counter()
    for _ in range(100):
        lease.call(functools.partial(double, 1))
    assert time.perf_counter() - began < 10
