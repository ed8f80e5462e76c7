"""A process that drives a session and is killed by SIGKILL at a chosen instant; and what can be seen of it afterwards.

Run as a program it is that process: it takes one JSON document that says what to do and at which call to die. The
call is found by wrapping the method in this process only; nothing that is shipped knows of it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
SECONDS = 120


def die(*_ignored: object) -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(target: str, when: str, argument: str | None = None, count: int = 1) -> None:
    """Wrap ``package.module:Class.method`` so that the process dies before or after it.

    Only calls that have the argument count, if one is given, and the first `count` - 1 of them go well.
    """
    module, _, path = target.partition(":")
    owner: Any = import_module(module)
    *parts, name = path.split(".")
    for part in parts:
        owner = getattr(owner, part)
    static = inspect.getattr_static(owner, name)
    original = static.__func__ if isinstance(static, classmethod) else static

    calls = itertools.count(1)

    def fits(arguments: tuple[object, ...]) -> bool:
        return (argument is None or argument in arguments) and next(calls) == count

    @functools.wraps(original)
    def plain(*args: Any, **keywords: Any) -> Any:
        now = fits(args)
        if now and when == "before":
            die()
        result = original(*args, **keywords)
        if now:
            die()
        return result

    @functools.wraps(original)
    async def coroutine(*args: Any, **keywords: Any) -> Any:
        now = fits(args)
        if now and when == "before":
            die()
        result = await original(*args, **keywords)
        if now:
            die()
        return result

    wrapper: Any = coroutine if inspect.iscoroutinefunction(original) else plain
    setattr(owner, name, classmethod(wrapper) if isinstance(static, classmethod) else wrapper)


def crash(plan: dict[str, Any], *, alive: Callable[[subprocess.Popen[str]], None] | None = None) -> str:
    """Run a plan in a process of its own until it dies of SIGKILL; returns what it printed.

    A plan without a point where to die is killed from here once `alive` returns.
    """
    argv = [sys.executable, "-m", "support.crashing", json.dumps(plan)]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            if alive is not None:
                alive(process)
                process.kill()
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL, f"it was to be killed, and exited {process.returncode}:\n{err}"
    return out


def processes_under(folder: Path) -> dict[int, str]:
    """Return the processes that live in a folder: their working directory, or a file that they hold open, is in it."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            links = [str(path.readlink()) for path in (entry / "cwd", *(entry / "fd").iterdir())]
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if any(link.startswith(f"{folder}/") for link in links):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace")
    return found


def end_local_machines() -> None:
    """End the local machines that a test left, as one that fails may."""
    from gitmachine_local import _records

    for record in _records.all_records():
        record.destroy()


async def _steps(gm: Any, steps: list[list[str]]) -> None:
    for name, *arguments in steps:
        if name == "write":
            await gm.write_file(arguments[0], arguments[1])
        elif name == "die":
            die()
        elif name == "say":
            print(*arguments, flush=True)
        else:
            call: Callable[..., Awaitable[object]] = getattr(gm, name)
            await call(*arguments)


async def _wander(gm: Any, seed: int) -> None:
    """Do what an agent and its user might, at random; each file that was written for certain is told."""
    from gitmachine.errors import GitMachineError

    choice = random.Random(seed)
    for number in range(8):
        name = choice.choice(["write", "write", "write", "commit", "push", "pause", "checkpoint", "diff", "stop"])
        if gm.state == "stopped":
            break
        try:
            if name == "write":
                if gm.state == "paused":
                    await gm.resume()
                file = f"{seed}-{number}.txt"
                await gm.write_file(file, f"work {seed} {number}")
                print(file, flush=True)
            else:
                await getattr(gm, name)()
        except GitMachineError as error:
            print(f"{name}: {error}", file=sys.stderr)
    die()


async def _take_up(plan: dict[str, Any]) -> Any:
    """Attach to the machine, or start one when there is none."""
    from gitmachine.catalog import attach
    from gitmachine.errors import MachineLostError, StateError

    try:
        return await attach(plan.get("name", "a"))
    except (StateError, MachineLostError) as error:
        print(f"attach: {error}", file=sys.stderr)
    return await _start(plan)


async def _main(plan: dict[str, Any]) -> None:
    if "wander" in plan:
        _arm(plan)
        await _wander(await _take_up(plan), plan["wander"])
    gm = await _start(plan)
    await _steps(gm, plan.get("before", []))
    if plan.get("late"):
        _arm(plan)
    await _steps(gm, plan.get("steps", []))
    print("survived", flush=True)


async def _start(plan: dict[str, Any]) -> Any:
    from gitmachine import AsyncGitMachine

    async def on_start(gm: Any) -> None:
        await _steps(gm, plan.get("on_start", []))

    gm = AsyncGitMachine(
        plan.get("provider", "local"),
        repository=plan["repository"],
        session=plan.get("session", "feature"),
        name=plan.get("name", "a"),
        options=plan.get("options", {"isolation": plan.get("isolation", "none")}),
        auto_commit=plan.get("auto_commit", True),
        on_start=on_start,
        plugins=import_module(plan["plugin"]).host() if "plugin" in plan else None,
    )
    if not plan.get("late") and "wander" not in plan:
        _arm(plan)
    await gm.start()
    return gm


def _arm(plan: dict[str, Any]) -> None:
    if "at" in plan:
        die_at(*plan["at"])


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
