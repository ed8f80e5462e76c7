"""Implements a hook that does not exist; one letter is missing."""

from gitmachine import hookimpl


@hookimpl
def gitmachine_comit_message():
    return "never asked for"
