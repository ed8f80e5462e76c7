"""A sample plugin that implements every hook, half of them as coroutines, and remembers each call.

`calls` holds (hook, arguments, thread name); `providers`, `credential` and `message` are what it answers.
"""

from __future__ import annotations

import threading

from gitmachine import GitCredential, ProviderSpec, hookimpl

calls = []
providers = [ProviderSpec(name="recorder", factory="recorder:make", config="recorder:Config")]
credential = GitCredential("ada", "recorder's secret")
message = "recorder's message"


def note(hook, **arguments):
    calls.append((hook, arguments, threading.current_thread().name))


@hookimpl
def gitmachine_register_providers():
    note("gitmachine_register_providers")
    return providers


@hookimpl
async def gitmachine_git_credentials(repository, operation):
    note("gitmachine_git_credentials", repository=repository, operation=operation)
    return credential


@hookimpl
def gitmachine_commit_message(reason, changes):
    note("gitmachine_commit_message", changes=changes, reason=reason)
    return message


@hookimpl
def gitmachine_machine_started(event):
    note("gitmachine_machine_started", event=event)


@hookimpl
async def gitmachine_machine_paused(event):
    note("gitmachine_machine_paused", event=event)


@hookimpl
def gitmachine_machine_resumed(event):
    note("gitmachine_machine_resumed", event=event)


@hookimpl
async def gitmachine_machine_stopping(event):
    note("gitmachine_machine_stopping", event=event)


@hookimpl
def gitmachine_machine_stopped(event):
    note("gitmachine_machine_stopped", event=event)


@hookimpl
async def gitmachine_machine_reconnected(event):
    note("gitmachine_machine_reconnected", event=event)


@hookimpl
def gitmachine_machine_lost(event):
    note("gitmachine_machine_lost", event=event)


@hookimpl
async def gitmachine_git_cloned(event):
    note("gitmachine_git_cloned", event=event)


@hookimpl
def gitmachine_git_committed(event):
    note("gitmachine_git_committed", event=event)


@hookimpl
async def gitmachine_git_pushed(event):
    note("gitmachine_git_pushed", event=event)


@hookimpl
def gitmachine_git_pulled(event):
    note("gitmachine_git_pulled", event=event)


@hookimpl
def gitmachine_git_checkpointed(event):
    note("gitmachine_git_checkpointed", event=event)


@hookimpl
async def gitmachine_git_rescued(event):
    note("gitmachine_git_rescued", event=event)


@hookimpl
def gitmachine_command_started(event):
    note("gitmachine_command_started", event=event)


@hookimpl
async def gitmachine_command_finished(event):
    note("gitmachine_command_finished", event=event)
