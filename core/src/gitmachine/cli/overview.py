"""All commands on one page, by what they are for."""

from __future__ import annotations

__all__ = ["OVERVIEW", "PLUGINS"]

PLUGINS = "Commands of plugins"

OVERVIEW = {
    "All at once": {
        "run": "Run a command on a repository, and push its work.",
    },
    "Step by step": {
        "start": "Start a machine with the repository in it, and leave it.",
        "connect": "Take over a machine that runs already, by its provider's id.",
        "exec": "Run a command in a machine.",
        "shell": "Open a terminal in a machine.",
        "cp": "Copy files between this host and a machine.",
        "port": "Print where a port of a machine can be reached.",
        "pause": "Commit what changed, and freeze a machine.",
        "resume": "Continue a paused machine.",
        "stop": "Publish the work of a machine, verify that, and end it.",
    },
    "Git in a machine": {
        "status": "Show the branch and what is uncommitted.",
        "diff": "Print everything that differs from HEAD.",
        "commit": "Commit everything; the repository's hooks run.",
        "push": "Publish the commits, and ask the remote whether it has them.",
        "pull": "Bring in what the remote's branch has.",
        "log": "Show the commits, and the commands that ran before each.",
        "checkpoint": "Take a snapshot of the working tree.",
        "checkpoints": "List those snapshots.",
        "rollback": "Go back to one of them.",
    },
    "Commands that go on without you": {
        "spawn": "Begin a command, and leave it running.",
        "runs": "List such runs of a machine.",
        "attach": "Show the output of one from its beginning.",
    },
    "Copies of a machine": {
        "fork": "Make another machine that is as this one is now.",
        "snapshot": "Save its disk, to make new machines from.",
        "snapshots": "List and delete what was saved.",
    },
    "What there is": {
        "ls": "List the machines.",
        "show": "Show what this host knows of a machine.",
        "logs": "Show every command that ran in a machine.",
        "providers": "List the providers that are installed.",
        "plugins": "List the plugins, and which are broken and why.",
    },
    "Upkeep": {
        "rescue": "Show, push or drop work that could not be published.",
        "withheld": "Show, restore or drop files left out of commits.",
        "gc": "Publish the work of machines nobody drives, and end them.",
        "cache": "Show and prune the copies of repositories on this host.",
    },
    "Setting up": {
        "doctor": "Check this host and the providers.",
        "config": "Show and check the configuration.",
        "completion": "Print what a shell needs to complete command lines.",
        "new-provider": "Write the package of a new provider.",
        "new-plugin": "Write the package of a new plugin.",
    },
}
"""Each command in one short line, under what it is for."""
