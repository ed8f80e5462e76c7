"""Telling a process from a later one with its pid.

Time budget: 10 s.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gitmachine.state.owner import is_alive, process_start, this_process


def test_this_process_is_alive():
    pid, start = this_process()
    assert pid == os.getpid()
    assert is_alive(pid, start)
    assert is_alive(pid, None)


@pytest.mark.requires("linux")
def test_another_process_with_the_same_pid_is_not_it():
    pid, start = this_process()
    assert start is not None
    assert not is_alive(pid, start + "0")


def test_an_ended_process_is_not_alive_even_before_it_is_collected():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(child.pid)
    assert is_alive(child.pid, start)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    if start is not None:
        assert not is_alive(child.pid, start)
    child.communicate()
    assert not is_alive(child.pid, start)
    assert not is_alive(child.pid, None)


def test_no_pid_is_no_process():
    assert not is_alive(None, None)
    assert not is_alive(0, None)
    assert not is_alive(-1, None)
