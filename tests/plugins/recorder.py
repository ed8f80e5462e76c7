"""A sample plugin that implements every hook, half of them as coroutines, and remembers each call.

`calls` holds (hook, arguments, thread name); `providers`, `credential`, `message`, `withhold` and `request` are what it
answers.
"""

from __future__ import annotations

import threading

import click

from gitmachine import GitCredential, ProviderSpec, hookimpl

calls = []
providers = [ProviderSpec(name="recorder", factory="recorder:make", config="recorder:Config")]
credential = GitCredential("ada", "recorder's secret")
message = "recorder's message"
withhold = []
request = None


def note(hook, **arguments):
    calls.append((hook, arguments, threading.current_thread().name))


@hookimpl
def gitmachine_register_providers():
    note("gitmachine_register_providers")
    return providers


@hookimpl
def gitmachine_register_commands(cli):
    note("gitmachine_register_commands", cli=cli)

    @click.command()
    def record():
        """Say what was recorded."""
        click.echo(f"{len(calls)} calls")

    cli.add_command(record)


@hookimpl
async def gitmachine_git_credentials(repository, operation):
    note("gitmachine_git_credentials", repository=repository, operation=operation)
    return credential


@hookimpl
def gitmachine_commit_message(reason, changes):
    note("gitmachine_commit_message", changes=changes, reason=reason)
    return message


@hookimpl
def gitmachine_setup(gm):
    note("gitmachine_setup", gm=gm)


@hookimpl
async def gitmachine_before_command(gm, request):
    note("gitmachine_before_command", gm=gm, request=request)
    return globals()["request"]


@hookimpl
def gitmachine_before_pause(gm):
    note("gitmachine_before_pause", gm=gm)


@hookimpl
async def gitmachine_after_resume(gm):
    note("gitmachine_after_resume", gm=gm)


@hookimpl
def gitmachine_select_changes(gm, changes):
    note("gitmachine_select_changes", gm=gm, changes=changes)
    return withhold


@hookimpl
async def gitmachine_before_commit(gm, changes):
    note("gitmachine_before_commit", gm=gm, changes=changes)


@hookimpl
def gitmachine_before_push(gm, commits):
    note("gitmachine_before_push", gm=gm, commits=commits)


@hookimpl
async def gitmachine_teardown(gm):
    note("gitmachine_teardown", gm=gm)


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
def gitmachine_git_withheld(event):
    note("gitmachine_git_withheld", event=event)


@hookimpl
def gitmachine_command_started(event):
    note("gitmachine_command_started", event=event)


@hookimpl
async def gitmachine_command_finished(event):
    note("gitmachine_command_finished", event=event)
