"""POSIX scripts that find, stop, continue and kill the processes of one machine by the mark they carry.

The mark is the soft limit of file locks (RLIMIT_LOCKS), which Linux has not used since 2.4.24: a number that every
child inherits, that survives exec, setsid, ``env -i`` and setuid, and that anybody can read in /proc/PID/limits. It
has 18 decimal digits: ten for the machine, eight for the command.

The scripts use nothing but the shell's builtins and /proc, so that they work when nothing can be forked. Each runs as
``sh -c SCRIPT`` or on a shell's standard input, and never touches the shell that runs it or that shell's parents.
"""

from __future__ import annotations

import hashlib
import secrets

__all__ = ["freeze_script", "kill_script", "machine_mark", "new_mark", "thaw_script"]


def machine_mark(key: str) -> str:
    """Return the ten digits that mark the processes of the machine with this id."""
    return str(10**9 + int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % (9 * 10**9))


def new_mark(machine: str) -> str:
    """Return a mark for one command of a machine: its ten digits and eight random ones."""
    return f"{machine}{secrets.randbelow(10**8):08}"


def kill_script(mark: str) -> str:
    """Return a script that kills every process with this mark (18 digits), or of this machine (10 digits).

    Descendants and members of their sessions are included. It stops round after round until nothing new is found,
    then kills all at once. Exits with 0.
    """
    return ""


def freeze_script(machine: str, record: str) -> str:
    """Return a script that stops every process of a machine that is not stopped already.

    Those that it stopped are appended to the file `record` (a path on the machine), one ``PID START`` a line, so that
    `thaw_script` continues these and no others. It may be run again. Exits with 0, or 1 when the record cannot be
    written (then nothing was stopped).
    """
    return ""


def thaw_script(record: str) -> str:
    """Return a script that continues what `freeze_script` stopped and removes the record; exits with 0."""
    return ""
