"""Asks for an argument that the hook does not have."""

from gitmachine import hookimpl


@hookimpl
def gitmachine_commit_message(changes, weather):
    return f"{weather}: {changes}"
