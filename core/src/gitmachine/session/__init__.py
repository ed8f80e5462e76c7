"""`AsyncGitMachine`: one branch of a repository in one machine, from start to stop."""

from gitmachine.session.gitmachine import AsyncGitMachine, context_of

__all__ = ["AsyncGitMachine", "context_of"]
