"""How a behaviour is run: a loop, a machine, a deadline, a private GitMachine home; and what the author declares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from gitmachine.testing.home import private_home
from gitmachine.testing.kit.behaviour import Behaviour, ConformanceFailure, NotApplicable
from gitmachine.testing.kit.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from gitmachine.machine import Machine

__all__ = ["KitBase"]

_CLEANUP_SECONDS = 30.0


class KitBase:
    """What an author overrides. Only `make_machine` has to be.

    Attributes:
        limits: what this provider cannot do and says so: from a behaviour's id, or a group's name, to the reason. Such
            behaviours are not run; reports list them.
        patience: seconds to wait for anything that has to happen. A slow provider needs more.
        quiet_seconds: how long something is watched that must not happen.
        flood_bytes: how much output is sent through to see that memory stays bounded.
        port_server: a script that serves HTTP on ``{port}``; for machines with ports.
        other_user: a user that commands can run as; for machines with users.
        host_address: where the machine reaches a server on the client's loopback, or None when it cannot; with it, git
            inside the machine is tried too.
    """

    limits: ClassVar[Mapping[str, str]] = {}
    patience: ClassVar[float] = 30.0
    quiet_seconds: ClassVar[float] = 0.6
    flood_bytes: ClassVar[int] = 96 << 20
    port_server: ClassVar[str] = "exec python3 -m http.server {port}"
    other_user: ClassVar[str] = "nobody"
    host_address: ClassVar[str | None] = None

    observed: ClassVar[dict[str, Any]]
    """What the machines of this class said of themselves: for reports."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.observed = {}

    async def make_machine(self) -> Machine:
        """Return a machine that is not started yet; called once or more for each behaviour."""
        raise ConformanceFailure(f"{type(self).__name__} has no make_machine: write it, so that there is a machine")

    async def connect(self, machine_id: str) -> Machine:
        """Take over a running machine by its id, as another client would."""
        raise NotApplicable(f"{type(self).__name__} has no connect")

    async def kill_machine(self, machine: Machine) -> None:
        """End a running machine behind its client's back, as a crash would."""
        raise NotApplicable(f"{type(self).__name__} has no kill_machine")

    async def fill_disk(self, machine: Machine) -> None:
        """Leave no room for a file of 1 MiB on the machine's disk."""
        raise NotApplicable(f"{type(self).__name__} has no fill_disk")

    @classmethod
    def behaviours(cls) -> dict[str, Behaviour]:
        """Return every behaviour by id, in the order of the kit."""
        found: dict[str, Behaviour] = {}
        for ancestor in reversed(cls.__mro__):
            for value in vars(ancestor).values():
                known = getattr(value, "behaviour", None)
                if isinstance(known, Behaviour):
                    found[known.id] = known
        return found

    @classmethod
    def method_of(cls, identifier: str) -> str:
        """Return the name of the test method of a behaviour."""
        for name in dir(cls):
            known = getattr(getattr(cls, name), "behaviour", None)
            if isinstance(known, Behaviour) and known.id == identifier:
                return name
        raise KeyError(identifier)

    @classmethod
    def limit_of(cls, behaviour: Behaviour) -> str | None:
        """Return the declared limit that concerns a behaviour, or None."""
        return cls.limits.get(behaviour.id, cls.limits.get(behaviour.group))

    @classmethod
    def _check_limits(cls) -> None:
        known = cls.behaviours()
        names = known.keys() | {behaviour.group for behaviour in known.values()}
        unknown = sorted(set(cls.limits) - names)
        if unknown:
            raise ConformanceFailure(
                f"limits of {cls.__name__} name no behaviour and no group: {', '.join(unknown)}; there are "
                f"{', '.join(sorted(names))}"
            )

    def run_behaviour(self, behaviour: Behaviour, body: Callable[[Any, Stage], Awaitable[None]]) -> None:
        """Run one behaviour from a plain function.

        Raises:
            ConformanceFailure: the machine does not do it, or not in time.
            NotApplicable: it cannot be looked at here.
        """
        self._check_limits()
        limit = self.limit_of(behaviour)
        if limit is not None:
            raise NotApplicable(limit, limit=True)
        with private_home():
            _run(self._perform(behaviour, body))

    async def _perform(self, behaviour: Behaviour, body: Callable[[Any, Stage], Awaitable[None]]) -> None:
        stage = Stage(self)
        try:
            await stage.open(started=behaviour.started)
            self._observe(stage.raw)
            stage.need(*behaviour.needs)
            await self._bounded(behaviour, body, stage)
        except BaseException as error:
            try:
                await stage.close()
            except Exception as problem:  # noqa: BLE001  # the first error is what matters; this one is put beside it
                error.add_note(f"and the machine could not be stopped: {problem!r}")
            raise
        await stage.close()

    async def _bounded(self, behaviour: Behaviour, body: Callable[[Any, Stage], Awaitable[None]], stage: Stage) -> None:
        task = asyncio.ensure_future(body(self, stage))
        seconds = 4 * self.patience
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CLEANUP_SECONDS)
            raise ConformanceFailure(f"{behaviour.id} did not come to an end within {seconds:g} s")
        task.result()

    def _observe(self, machine: Machine) -> None:
        self.observed["provider"] = machine.provider
        self.observed["class"] = f"{type(machine).__module__}.{type(machine).__qualname__}"
        self.observed["capabilities"] = sorted(capability.value for capability in machine.capabilities)


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a loop of its own; unlike asyncio.run, no stubborn task can keep it from returning."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=_CLEANUP_SECONDS))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
