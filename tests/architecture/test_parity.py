"""The blocking and the asynchronous class are one interface: names, signatures, docstrings.

That each pair also does the same is tried by calling them, in tests/core/test_sync.py.
Time budget: 5 s.
"""

from __future__ import annotations

import inspect
import re

import pytest

from gitmachine import AsyncGitMachine, GitMachine


def _public(cls: type) -> dict[str, object]:
    return {
        name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_") or name == "__init__"
    }


ASYNC, BLOCKING = _public(AsyncGitMachine), _public(GitMachine)
SHARED = sorted(ASYNC.keys() & BLOCKING.keys())


def _function(member: object) -> object:
    if isinstance(member, property):
        return member.fget
    return getattr(member, "__func__", member)


def test_both_classes_have_the_same_public_names():
    assert ASYNC.keys() ^ BLOCKING.keys() == set()


@pytest.mark.parametrize("name", SHARED)
def test_both_members_are_of_one_kind(name):
    assert type(ASYNC[name]) is type(BLOCKING[name])


@pytest.mark.parametrize("name", SHARED)
def test_both_members_take_the_same_parameters(name):
    def parameters(member):
        signature = inspect.signature(_function(member))
        return [(p.name, p.kind, p.default) for p in signature.parameters.values()]

    assert parameters(ASYNC[name]) == parameters(BLOCKING[name])


@pytest.mark.parametrize("name", SHARED)
def test_nothing_of_the_blocking_class_is_a_coroutine_function(name):
    assert not inspect.iscoroutinefunction(_function(BLOCKING[name]))


@pytest.mark.parametrize("name", [name for name in SHARED if name != "__init__"])
def test_both_docstrings_say_the_same(name):
    def first_line(member):
        text = inspect.getdoc(_function(member)) or ""
        return re.sub(r"\s+", " ", text.split("\n")[0])

    assert first_line(ASYNC[name]) == first_line(BLOCKING[name]) != ""


def test_both_classes_are_context_managers_of_their_kind():
    assert hasattr(GitMachine, "__enter__")
    assert hasattr(GitMachine, "__exit__")
    assert hasattr(AsyncGitMachine, "__aenter__")
    assert hasattr(AsyncGitMachine, "__aexit__")
