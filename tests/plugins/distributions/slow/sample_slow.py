"""Waits for something while it is imported, as one that asks a service does."""

import time

from gitmachine import hookimpl

time.sleep(10.2)


@hookimpl
def gitmachine_machine_started(event):
    print("after a while:", event)
