"""Fifty containers at once: started, used and stopped, and nothing left. Time budget: 45 s."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import pytest

from gitmachine import ExecRequest
from gitmachine_local_docker import DockerMachine

pytestmark = [pytest.mark.requires("docker"), pytest.mark.slow]

COUNT = 50


async def test_fifty_containers_are_started_used_and_stopped_at_once(making, docker, record_property):
    machines = [DockerMachine(making.config(image=docker.busybox)) for _ in range(COUNT)]
    figures = {}

    async def measured(what, calls):
        began = time.monotonic()
        results = await asyncio.gather(*calls)
        figures[what] = time.monotonic() - began
        return results

    tracemalloc.start()
    try:
        await measured("start", (machine.start() for machine in machines))
        assert len({machine.id for machine in machines}) == COUNT
        assert len(docker.containers()) == COUNT
        figures["KiB a machine"] = tracemalloc.get_traced_memory()[0] / COUNT / 1024
        tracemalloc.stop()
        for turn in range(2):
            requests = [ExecRequest(shell=f"echo {turn} {number}; exit {number}") for number in range(COUNT)]
            calls = (machine.execute(request) for machine, request in zip(machines, requests, strict=True))
            results = await measured(f"use {turn + 1}", calls)
            assert [result.exit_code for result in results] == list(range(COUNT))
            assert [result.stdout for result in results] == [f"{turn} {number}\n" for number in range(COUNT)]
    finally:
        tracemalloc.stop()
        await measured("stop", (machine.stop() for machine in machines))
    assert docker.containers() == []
    print(", ".join(f"{what} {value:.2f}" for what, value in figures.items()))
    for what, value in figures.items():
        record_property(what, round(value, 3))
