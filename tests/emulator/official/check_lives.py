"""Sandboxes from their creation to their end, snapshots and forks."""

from __future__ import annotations

import datetime as dt
from typing import Any

import e2b
from calls import MODE, NEW, VERSION, Sandbox, got, raises, until


async def a_sandbox_tells_about_itself(sandbox: Any) -> None:
    info = await got(sandbox.get_info())
    assert info.sandbox_id == sandbox.sandbox_id, info
    assert (info.state, info.name, info.metadata) == (e2b.SandboxState.RUNNING, "base", {"who": "script"}), info
    assert info.envd_version == "0.6.13", info
    now = dt.datetime.now(dt.UTC)
    assert info.started_at <= now <= info.end_at, info
    assert await got(sandbox.is_running()) is True
    await got(sandbox.set_timeout(500))
    later = await got(sandbox.get_info())
    assert later.end_at > info.end_at, (info, later)
    assert isinstance(await got(sandbox.get_metrics()), list)
    await got(sandbox.update_network({"allow_out": ["1.1.1.1"], "deny_out": ["0.0.0.0/0"]}))
    changed = await got(sandbox.get_info())
    assert changed.network["allow_out"] == ["1.1.1.1"], changed


async def sandboxes_are_listed_by_metadata_in_pages(sandbox: Any) -> None:
    odd = {"a b": "c&d=e", "ü/+": "%20"}
    made = [await got(Sandbox.create(metadata={**odd, "n": str(number)}, timeout=100)) for number in range(3)]
    paginator = Sandbox.list(query=e2b.SandboxQuery(metadata=odd), limit=2)
    pages = []
    while paginator.has_next:
        pages.append(await got(paginator.next_items()))
    assert [len(page) for page in pages] == [2, 1], pages
    assert {row.sandbox_id for page in pages for row in page} == {one.sandbox_id for one in made}
    paginator = Sandbox.list(query=e2b.SandboxQuery(metadata={"n": "1"} | odd))
    assert [row.sandbox_id for row in await got(paginator.next_items())] == [made[1].sandbox_id]
    for one in made:
        assert await got(one.kill()) is True
        assert await got(Sandbox.kill(one.sandbox_id)) is False
    assert sandbox.sandbox_id not in {one.sandbox_id for one in made}


async def pause_keeps_processes_and_connect_resumes(sandbox: Any) -> None:
    one = await got(Sandbox.create(timeout=100))
    handle = await got(
        one.commands.run(
            "n=0; while true; do n=$((n+1)); echo $n > c; mv c count; sleep 0.02; done", background=True, timeout=0
        )
    )
    await until(lambda: one.files.exists("count"))
    assert await got(one.pause()) is True
    assert await got(one.pause()) is False
    assert (await got(one.get_info())).state == e2b.SandboxState.PAUSED
    assert await got(one.is_running()) is False
    error = await raises(e2b.TimeoutException, lambda: one.commands.run("true"))
    assert not NEW or isinstance(error, e2b.SandboxNotRunningException), error
    paused = Sandbox.list(query=e2b.SandboxQuery(state=[e2b.SandboxState.PAUSED]))
    assert one.sandbox_id in [row.sandbox_id for row in await got(paused.next_items())]
    again = await got(Sandbox.connect(one.sandbox_id, timeout=77))
    assert again.sandbox_id == one.sandbox_id
    assert handle.pid in [process.pid for process in await got(again.commands.list())]
    before = int(await got(again.files.read("count")) or 0)

    async def counting() -> bool:
        return int(await got(again.files.read("count")) or 0) > before

    await until(counting)
    assert await got(again.kill()) is True


async def pause_without_memory_keeps_only_files(sandbox: Any) -> None:
    one = await got(Sandbox.create(timeout=100))
    handle = await got(one.commands.run("sleep 100", background=True, timeout=0))
    await got(one.files.write("kept", "yes"))
    assert await got(one.pause(keep_memory=False)) is True
    again = await got(Sandbox.connect(one.sandbox_id))
    assert await got(again.files.read("kept")) == "yes"
    assert handle.pid not in [process.pid for process in await got(again.commands.list())]
    await got(again.kill())


async def traffic_wakes_a_sandbox_that_resumes_by_itself(sandbox: Any) -> None:
    lifecycle = {"on_timeout": "pause", "auto_resume": True}
    one = await got(Sandbox.create(timeout=100, lifecycle=lifecycle))
    await got(one.pause())
    assert (await got(one.commands.run("echo awake"))).stdout == "awake\n"
    assert (await got(one.get_info())).state == e2b.SandboxState.RUNNING
    await got(one.kill())


async def snapshots_are_made_used_listed_and_deleted(sandbox: Any) -> None:
    await got(sandbox.files.write("before", "snapshot"))
    name = f"snap-{MODE}-{VERSION[1]}"
    snapshot = await got(sandbox.create_snapshot(name=name))
    assert snapshot.snapshot_id == f"team/{name}:default", snapshot
    assert snapshot.names == [f"team/{name}"], snapshot
    await got(sandbox.files.write("before", "changed"))
    one = await got(Sandbox.create(template=snapshot.snapshot_id, timeout=100))
    assert await got(one.files.read("before")) == "snapshot"
    await got(one.kill())
    listed = await got(sandbox.list_snapshots().next_items())
    assert snapshot.snapshot_id in [row.snapshot_id for row in listed], listed
    unnamed = await got(sandbox.create_snapshot())
    assert await got(Sandbox.delete_snapshot(unnamed.snapshot_id)) is True
    assert await got(Sandbox.delete_snapshot(snapshot.snapshot_id)) is True
    assert await got(Sandbox.delete_snapshot(snapshot.snapshot_id)) is False
    await raises(e2b.SandboxException, lambda: Sandbox.create(template=snapshot.snapshot_id))


async def forks_are_independent(sandbox: Any) -> None:
    await got(sandbox.files.write("shared", "old"))
    forks = await got(sandbox.fork(count=2, timeout=100))
    assert len({sandbox.sandbox_id, *(fork.sandbox_id for fork in forks)}) == 3, forks
    await got(forks[0].files.write("shared", "new"))
    assert await got(forks[0].files.read("shared")) == "new"
    assert await got(forks[1].files.read("shared")) == "old"
    assert await got(sandbox.files.read("shared")) == "old"
    for fork in forks:
        await got(fork.kill())


async def a_sandbox_ends_with_its_timeout(sandbox: Any) -> None:
    one = await got(Sandbox.create(timeout=1))

    async def dead() -> bool:
        try:
            await got(one.get_info())
        except e2b.NotFoundException:
            return True
        return False

    await until(dead)
    await raises(e2b.TimeoutException, lambda: one.commands.run("true"))
