"""Imports a package that nobody has."""

import no_such_dependency_anywhere

from gitmachine import hookimpl


@hookimpl
def gitmachine_commit_message():
    return no_such_dependency_anywhere.words()
