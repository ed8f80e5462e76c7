"""A machine for tests: a real file tree, real processes and real git, in a temporary directory and in milliseconds."""

from gitmachine.testing.fake.machine import FakeMachine

__all__ = ["FakeMachine"]
