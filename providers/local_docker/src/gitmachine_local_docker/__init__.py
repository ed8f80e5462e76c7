"""GitMachine's Docker provider: containers of any Docker engine, with a warm channel for commands."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine_local_docker._images import PullProgress
    from gitmachine_local_docker.config import DockerConfig
    from gitmachine_local_docker.machine import DockerMachine, connect

__all__ = ["DockerConfig", "DockerMachine", "PullProgress", "connect"]

_MODULES = {"DockerConfig": "config", "PullProgress": "_images", "DockerMachine": "machine", "connect": "machine"}


def __getattr__(name: str) -> object:
    # Nothing is loaded before it is used: every gitmachine command imports this package.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
