"""What a behaviour is: an id, a statement, who gets it wrong, and a test method that needs no plugin for coroutines."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.machine import Capability  # noqa: TC001  # attrs resolves annotations

if TYPE_CHECKING:
    from gitmachine.testing.kit.base import KitBase
    from gitmachine.testing.kit.stage import Stage

__all__ = ["Behaviour", "BehaviourTest", "ConformanceFailure", "NotApplicable", "behaviour", "check"]


class ConformanceFailure(AssertionError):  # noqa: N818  # it is a failed test, not an error of ours
    """The machine does not do what the behaviour states; the message says what was expected and what happened."""


class NotApplicable(unittest.SkipTest):  # it is an outcome, not an error
    """The behaviour cannot be looked at here; `limit` when the provider declared so."""

    def __init__(self, reason: str, *, limit: bool = False) -> None:
        super().__init__(f"declared limit: {reason}" if limit else reason)
        self.reason = reason
        self.limit = limit


@attrs.frozen(kw_only=True)
class Behaviour:
    """One thing that every machine does.

    Attributes:
        id: its name in reports and in `limits`, such as ``timeout-setsid``.
        group: the part of the kit it belongs to, such as ``timeouts``.
        statement: what the machine does, in one line.
        story: why it is checked: which tools in the field get it wrong.
        needs: capabilities without which it does not apply.
        started: whether the machine is running when the check begins.
    """

    id: str
    group: str
    statement: str
    story: str
    needs: frozenset[Capability] = frozenset()
    started: bool = True


BehaviourTest = Callable[[Any], None]
"""A test method: carries its `Behaviour` as the attribute ``behaviour``."""


def behaviour(
    identifier: str, statement: str, *, needs: tuple[Capability, ...] = (), started: bool = True
) -> Callable[[Callable[[Any, Stage], Awaitable[None]]], BehaviourTest]:
    """Make a test method of a coroutine function; its docstring is the story.

    The method is a plain function that runs the coroutine in a loop of its own, so it works with every plugin for
    coroutines and without any.
    """

    def decorate(body: Callable[[Any, Stage], Awaitable[None]]) -> BehaviourTest:
        def test(self: KitBase) -> None:
            self.run_behaviour(found, body)

        found = Behaviour(
            id=identifier,
            group=body.__module__.rpartition(".")[2],
            statement=statement,
            story=inspect.cleandoc(body.__doc__ or ""),
            needs=frozenset(needs),
            started=started,
        )
        # Not functools.wraps: whoever looks through it would see a coroutine function with an unknown argument.
        test.__name__ = getattr(body, "__name__", identifier)
        test.__qualname__ = getattr(body, "__qualname__", identifier)
        test.__module__ = body.__module__
        test.__doc__ = f"{statement[:1].upper()}{statement[1:]}.\n\n{found.story}"
        test.behaviour = found  # type: ignore[attr-defined]  # functions take attributes
        return test

    return decorate


def check(condition: object, message: str) -> None:
    """Fail with a message unless the condition holds; asserts may be compiled away."""
    if not condition:
        raise ConformanceFailure(message)
