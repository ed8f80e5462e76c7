"""Git over the machine: what arrives in it, what comes out of it, and that nothing is lost."""

from __future__ import annotations

from gitmachine.testing.kit.base import KitBase

__all__ = ["GitBehaviours"]


class GitBehaviours(KitBase):
    """A session over a real repository."""
