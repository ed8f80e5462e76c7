"""Wraps a hook, which is refused: a wrapper could change what other plugins answered."""

from gitmachine import hookimpl


@hookimpl(wrapper=True)
def gitmachine_commit_message():
    return (yield)
