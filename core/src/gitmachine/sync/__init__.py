"""`GitMachine`: `AsyncGitMachine` for blocking code, written out, without any logic of its own."""

from gitmachine.sync.gitmachine import GitMachine, view_of

__all__ = ["GitMachine", "view_of"]
