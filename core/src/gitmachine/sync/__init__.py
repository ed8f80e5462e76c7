"""`GitMachine`: `AsyncGitMachine` for blocking code, written out, without any logic of its own."""

from gitmachine.sync.gitmachine import GitMachine

__all__ = ["GitMachine"]
