"""Who passes a closed gate.

Time budget: 5 s.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading

from gitmachine.machines.gate import Gate


def test_an_open_gate_lets_everybody_through():
    gate = Gate()
    assert gate.refusal() is None
    assert gate.reason is None
    assert not gate.permitted


def test_a_closed_gate_says_why():
    gate = Gate()
    with gate.closed("the machine is stopping"):
        assert gate.refusal() == "the machine is stopping"
        with gate.closed("twice"):
            assert gate.reason == "twice"
        assert gate.reason == "the machine is stopping"
    assert gate.refusal() is None


def test_a_permit_is_for_one_gate_only_and_ends():
    gate, other = Gate(), Gate()
    with gate.closed("no"), other.closed("no"):
        with gate.permit():
            assert gate.refusal() is None
            assert other.refusal() == "no"
            with other.permit():
                assert gate.refusal() is None
                assert other.refusal() is None
        assert gate.refusal() == "no"


async def test_tasks_started_under_a_permit_have_it_and_others_do_not():
    gate = Gate()

    async def refusal():
        return gate.refusal()

    with gate.closed("no"):
        outside = asyncio.ensure_future(refusal())
        with gate.permit():
            inside = asyncio.ensure_future(refusal())
            assert await inside is None
        assert await outside == "no"


def test_a_thread_with_a_copy_of_the_context_has_the_permit():
    gate = Gate()
    found = {}
    with gate.closed("no"), gate.permit():
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=lambda: found.update(bare=gate.refusal())),
            threading.Thread(target=lambda: context.run(lambda: found.update(copied=gate.refusal()))),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    assert found == {"bare": "no", "copied": None}
