"""POSIX scripts that find, stop, continue and kill the processes of one machine by the mark they carry.

The mark is the soft limit of file locks (RLIMIT_LOCKS), which Linux has not used since 2.4.24: a number that every
child inherits, that survives exec, setsid, ``env -i`` and setuid, and that anybody can read in /proc/PID/limits. It
has 18 decimal digits: ten for the machine, eight for the command.

The scripts use nothing but the shell's builtins and /proc, so that they work when nothing can be forked. Each runs as
``sh -c SCRIPT`` or on a shell's standard input, never touches the shell that runs it, and cannot find what is hidden
from it: another user's processes where /proc hides them.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from gitmachine.machines.channel.quoting import quote_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PROBES", "freeze_script", "kill_script", "machine_mark", "new_mark", "thaw_script", "wake_script"]

PROBES = r"""
_gm_stat() {
  _gm_l= _gm_x=
  while IFS= read -r _gm_x || [ "$_gm_x" ]; do _gm_l="$_gm_l$_gm_x " _gm_x=; done <"/proc/$1/stat" || return 1
  set -- ${_gm_l##*) }
  [ $# -ge 20 ] || return 1
  _gm_state=$1 _gm_parent=$2 _gm_session=$4 _gm_start=${20}
}
_gm_marked() {
  while read -r _gm_x _gm_y _gm_z _gm_l _gm_o; do
    case "$_gm_x $_gm_y $_gm_z" in "Max file locks") break ;; esac
  done <"/proc/$1/limits" || return 1
  case "$_gm_x $_gm_l" in "Max $2"*) return 0 ;; esac
  return 1
}
"""
"""Shell functions.

``_gm_stat PID`` sets the process's state, parent, session and start time (field 22 of /proc/PID/stat, which begins
behind the last ``)``: a name may hold anything). The variable is emptied each time: where the process ends meanwhile,
reading fails, and bash leaves it as it was. ``_gm_marked PID MARK`` tells whether the process carries a mark that
begins so.
"""

# What was killed may still be on its way out; what the kernel does not let go is not waited for for ever.
_ENDS = r"""
_gm_await_ends() {
  _gm_round=0
  for _gm_q; do
    while [ "$_gm_round" -lt 2000 ] && _gm_stat "$_gm_q"; do
      case $_gm_state in [ZX]) break ;; esac
      _gm_round=$((_gm_round + 1))
    done
  done
}
"""

# Round after round over /proc: what belongs is stopped, so that it can make no more children, until a round finds
# nothing new. Reading costs a system call for each byte in some shells, so nothing is read twice without need: what is
# older than the control shell ($2) is none of its commands', and who was there before us without a mark gets none.
_GATHER = (
    PROBES
    + r"""
_gm_gather() {
  _gm_set=" $3 " _gm_old=" $$ $2 " _gm_bare=' ' _gm_round=0 _gm_since=0
  _gm_stat "$$" && _gm_own=$_gm_start
  [ ! "$2" ] || { _gm_stat "$2" && _gm_since=$_gm_start; }
  while [ "$_gm_round" -lt 200 ]; do
    _gm_round=$((_gm_round + 1)) _gm_new=
    for _gm_d in /proc/[0-9]*; do
      _gm_q=${_gm_d#/proc/}
      case "$_gm_old$_gm_set" in *" $_gm_q "*) continue ;; esac
      _gm_stat "$_gm_q" || continue
      if [ "$_gm_start" -lt "$_gm_since" ]; then _gm_old="$_gm_old$_gm_q "; continue; fi
      case $_gm_state in [ZX]) continue ;; esac
      _gm_in=
      if [ "$_gm_parent" = "$2" ]; then _gm_in=1
      else case "$_gm_set" in *" $_gm_parent "* | *" $_gm_session "*) _gm_in=1 ;; esac
      fi
      if [ ! "$_gm_in" ] && [ "$1" ]; then
        case $_gm_bare in *" $_gm_q "*) continue ;; esac
        if _gm_marked "$_gm_q" "$1"; then _gm_in=1
        elif [ "$_gm_start" -lt "${_gm_own:-0}" ]; then _gm_bare="$_gm_bare$_gm_q "
        fi
      fi
      [ "$_gm_in" ] || continue
      _gm_each
      _gm_set="$_gm_set$_gm_q " _gm_new=1
    done
    [ "$_gm_new" ] || [ "$_gm_round" -lt 2 ] || break
  done
}
"""
)


def machine_mark(key: str) -> str:
    """Return the ten digits that mark the processes of the machine with this id."""
    return str(10**9 + int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % (9 * 10**9))


def new_mark(machine: str) -> str:
    """Return a mark for one command of a machine: its ten digits and eight random ones."""
    return f"{machine}{secrets.randbelow(10**8):08}"


def kill_script(mark: str, *, control: int | None = None, hard: bool = False) -> str:
    """Return a script that kills every process with this mark (18 digits), or of this machine (10 digits).

    Descendants and members of their sessions are included. It stops round after round until nothing new is found,
    then kills all at once, and waits until they are dead. Its status is 0. A shell that stays is continued, in case
    that somebody stopped it: it would not say how the command ended.

    Args:
        mark: may be empty, when there are no marks; then only the tree and its sessions are found.
        control: the pid of the shell whose children are killed too, though it stays.
        hard: kill that shell itself, and first.
    """
    parent = "" if control is None else str(control)
    first = parent if hard else ""
    stop_first = f"kill -STOP {first}\n" if first else ""
    go_on = f"kill -CONT {parent} 2>/dev/null\n" if parent and not hard else ""
    return (
        f"{_GATHER}{_ENDS}"
        '_gm_each() { kill -STOP "$_gm_q"; }\n'
        f"{stop_first}"
        f"_gm_gather '{mark}' '{parent}' '{first}' 2>/dev/null\n"
        "case $_gm_set in *[0-9]*) kill -KILL $_gm_set ;; esac 2>/dev/null\n"
        "_gm_await_ends $_gm_set 2>/dev/null\n"
        f"{go_on}"
        ":\n"
    )


def wake_script(shells: Sequence[int], mark: str) -> str:
    """Return a script that continues those of these shells that are stopped, and what waits in them for a command.

    Commands (they carry the machine's mark) stay as they are. It says nothing; its status is 0.
    """
    pids = " ".join(map(str, shells))
    waiting = (
        "for _gm_d in /proc/[0-9]*; do\n"
        '  _gm_stat "${_gm_d#/proc/}" && [ "$_gm_state" = T ] || continue\n'
        f'  case " {pids} " in *" $_gm_parent "*) ;; *) continue ;; esac\n'
        f'  _gm_marked "${{_gm_d#/proc/}}" \'{mark}\' || kill -CONT "${{_gm_d#/proc/}}"\n'
        "done 2>/dev/null\n"
    )
    return (
        f"{PROBES}"
        f"for _gm_q in {pids}; do\n"
        '  _gm_stat "$_gm_q" && [ "$_gm_state" = T ] && kill -CONT "$_gm_q"\n'
        "done 2>/dev/null\n"
        f"{waiting if mark else ''}"
        ":\n"
    )


def freeze_script(machine: str, record: str) -> str:
    """Return a script that stops every process of a machine that is not stopped already.

    Those that it stopped are appended to the file `record` (a path on the machine), one ``PID START`` a line, so that
    `thaw_script` continues these and no others. It may be run again. Exits with 0, or 1 when the record cannot be
    written (then nothing was stopped).
    """
    target = quote_text(record)
    return (
        f"( : >>{target} ) 2>/dev/null || exit 1\n"
        f"{_GATHER}"
        # Recorded first: a record of one that was not stopped is harmless, the opposite is not.
        "_gm_each() {\n"
        "  case $_gm_state in [Tt]) return ;; esac\n"
        f'  echo "$_gm_q $_gm_start" >>{target} && kill -STOP "$_gm_q"\n'
        "}\n"
        f"_gm_gather '{machine}' '' '' 2>/dev/null\n"
        "exit 0\n"
    )


def thaw_script(record: str) -> str:
    """Return a script that continues what `freeze_script` stopped and removes the record; exits with 0."""
    target = quote_text(record)
    return (
        f"{PROBES}"
        f"[ -e {target} ] || exit 0\n"
        "{ while read -r _gm_q _gm_was; do\n"
        '  _gm_stat "$_gm_q" && [ "$_gm_start" = "$_gm_was" ] && kill -CONT "$_gm_q"\n'
        f"done <{target}; }} 2>/dev/null\n"
        f"rm -f -- {target} || : >{target}\n"
        "exit 0\n"
    )
