"""What a new shell is told once: where its outputs are, what a command's end looks like, how to look for left-overs.

The shell keeps one more process in waiting: a shell of its own session, which reads the next command from the same
input and becomes it. What makes a session of a process is thus over before a command is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.machines.channel.scripts import PROBES
from gitmachine.machines.channel.shell import Shell

if TYPE_CHECKING:
    from gitmachine.machines.channel.turn import Turn

__all__ = ["look_order", "parse_hello", "preamble", "serve_order", "usable"]

AGED_SECONDS = 5
"""When a process waited and ran for longer, the process ids may have gone round: it has to be said which ones count."""

# The shell's own 1 and 2 go to /dev/null: there it says "Killed" of a child, in words of its own. What the commands
# get are descriptors 3 and 4, opened anew through /proc where that works (see `Shell.reopens`).
_SETTING = r"""exec 3>&1 4>&2 >/dev/null 2>&1
unset CDPATH GLOBIGNORE OLDPWD
cd /
"""

# _gm_last: the last process id that was given out (field 5 of /proc/loadavg), without a fork.
# _gm_held: whether a process holds one of our outputs open for writing. The reading end of a pipe has the same inode
#   where the reader lives in the same process namespace, so the flags decide. A process whose descriptors we may not
#   see (sudo) counts as a holder when it carries the command's mark.
# _gm_scan: says clean or taint, on both outputs, so that on each of them everything before it is known to be old.
#   Holders descend from the command, so only ids given out since it began have to be looked at; and again, as long as
#   more were given out meanwhile (a daemon that forks twice while we look at its parent).
# _gm_serve: for each token and mark, lets a process wait for a command, become it and end; then says how it ended. The
#   number is what that process is known by: a command that was sent to one that died is no other one's. Whatever is
#   not clean ends it, and so does the passing of much time, when nobody knows which ids to look at.
_FUNCTIONS = r"""
_gm_last() { read -r _gm_x _gm_x _gm_x _gm_x _gm_n </proc/loadavg || _gm_n=0; }
_gm_clock() { read -r _gm_x _gm_y </proc/uptime || _gm_x=0; _gm_x=${_gm_x%%.*}; }
_gm_begin() {
  _gm_m=$1 _gm_p=0
  [ "$_gm_c" = 0 ] || { _gm_last; _gm_p=$_gm_n; }
  _gm_clock
  _gm_b=$_gm_x
}
_gm_flags() {
  _gm_v=?
  while read -r _gm_x _gm_y; do [ "$_gm_x" != flags: ] || _gm_v=$_gm_y; done <"/proc/$1/fdinfo/$2"
}
_gm_held() {
  for _gm_f in "/proc/$1/fd/"*; do
    [ -p "$_gm_f" ] || [ -S "$_gm_f" ] || continue
    if [ "$_gm_f" -ef /proc/self/fd/3 ] || [ "$_gm_f" -ef /proc/self/fd/4 ]; then
      _gm_flags "$1" "${_gm_f##*/}"
      case $_gm_v in *[04]) ;; *) [ ! -e "$_gm_f" ] || return 0 ;; esac
    fi
  done
  [ ! -r "/proc/$1/fd" ] && [ "$_gm_m" ] && _gm_stat "$1" && [ "$_gm_state" != Z ] && _gm_marked "$1" "$_gm_m"
}
_gm_scan() {
  _gm_t=clean _gm_i=0
  _gm_last
  if [ "${2-}" ] || [ "$_gm_p" -le 0 ] || [ "$_gm_n" -lt "$_gm_p" ]; then _gm_p=0; fi
  while [ "$_gm_i" -lt 3 ] && [ "$_gm_t" = clean ]; do
    _gm_i=$((_gm_i + 1))
    if [ "$_gm_p" -gt 0 ] && [ $((_gm_n - _gm_p)) -lt 64 ]; then
      while [ "$_gm_p" -lt "$_gm_n" ]; do
        _gm_p=$((_gm_p + 1))
        if [ -d "/proc/$_gm_p" ] && _gm_held "$_gm_p"; then _gm_t=taint; break; fi
      done
    else
      for _gm_d in /proc/[0-9]*; do
        _gm_q=${_gm_d#/proc/}
        [ "$_gm_q" -gt "$_gm_p" ] && [ "$_gm_q" != "$$" ] || continue
        if _gm_held "$_gm_q"; then _gm_t=taint; break; fi
      done
    fi
    _gm_p=$_gm_n
    [ "$_gm_c" = 1 ] || break
    _gm_last
    [ "$_gm_n" -gt "$_gm_p" ] && [ "$_gm_p" -gt 0 ] || break
  done
  if [ "$_gm_r" = 0 ] && [ "$_gm_t" = clean ]; then
    for _gm_i in 3 4; do _gm_flags self "$_gm_i"; case $_gm_v in *[4567]???) _gm_t=spoilt ;; esac; done
  fi
  _gm_say "$1" "$_gm_t"
}
_gm_say() {
  printf '\036%s%s\n' "$1" "$2" >&3
  printf '\036%s%s\n' "$1" "$2" >&4
}
_gm_end() {
  printf '\036%s%s\n' "$1" "$_gm_s" >&3
  printf '\036%s\n' "$1" >&4
  _gm_clock
  _gm_t=aged
  if [ $((_gm_x - _gm_b)) -gt AGED ]; then _gm_say "$1" aged; else _gm_scan "$1"; fi
}
_gm_serve() {
  _gm_k=$1
  shift
  printf '\036%sready\n' "$1" >&3
  while [ $# -gt 0 ]; do
    _gm_begin "$2"
    ( exec setsid sh -s "$_gm_k" )
    _gm_s=$?
    _gm_end "$1"
    [ "$_gm_t" = clean ] || break
    _gm_k=$((_gm_k + 1))
    shift 2
  done
}
"""

_QUESTIONS = r"""
_gm_r=0 _gm_u=- _gm_c=0 _gm_h=0 _gm_e=
(: >/proc/self/fd/3) && (: >/proc/self/fd/4) && _gm_r=1
for _gm_i in x w; do
  [ "$_gm_u" != - ] ||
    { (ulimit -S -$_gm_i 123456789012345678 && _gm_marked self 123456789012345678) && _gm_u=$_gm_i; }
done
_gm_last; _gm_p=$_gm_n
(:); (:)
_gm_last; [ "$_gm_p" -gt 0 ] && [ "$_gm_n" -gt "$_gm_p" ] && _gm_c=1
[ "$(printf xy | head -c 1)" = x ] && _gm_h=1
[ /proc/self/fd/3 -ef /proc/self/fd/3 ] && [ ! / -ef /proc ] || _gm_e="${_gm_e}no-proc,"
[ -r /proc/self/fdinfo/3 ] && _gm_stat self || _gm_e="${_gm_e}no-fdinfo,"
setsid env -- _gm_x=7 sh -c 'exit $_gm_x' </dev/null
[ $? = 7 ] || _gm_e="${_gm_e}no-setsid,"
"""


def preamble(hello: Turn) -> bytes:
    """Return the script to send first: its answer is a word for `parse_hello`, behind the token of `hello`.

    A shell that has everything then serves the turns that follow.
    """
    answer = (
        f"""printf '\\036%s%s\\n' {hello.token} "hello $$ $_gm_u $_gm_r $_gm_c $_gm_h ${{_gm_e:--}}" >&3\n"""
        f"printf '\\036%s\\n' {hello.token} >&4\n"
    )
    assert hello.next is not None
    functions = _FUNCTIONS.replace("AGED", str(AGED_SECONDS))
    text = f"{_SETTING}{PROBES}{functions}{_QUESTIONS}{answer}"
    return text.encode() + b'[ "$_gm_e" ] || ' + serve_order(hello.next)


def serve_order(first: Turn) -> bytes:
    """Return what has a shell prepared for the commands of a chain of turns."""
    words = [str(first.number)]
    turn: Turn | None = first
    while turn is not None:
        words += [turn.token, turn.mark or "''"]
        turn = turn.next
    return f"{{ _gm_serve {' '.join(words)}; }}\n".encode()


def look_order(turn: Turn, before: str) -> bytes:
    """Return what has a shell look for left-overs: of all processes, or of those behind the id `before`."""
    if before.isdigit():
        return f"{{ _gm_p={before}; _gm_scan {turn.token}; }}\n".encode()
    return f"{{ _gm_scan {turn.token} all; }}\n".encode()


_PROBLEMS = {
    "no-proc": "there is no /proc, or its shell cannot compare files",
    "no-fdinfo": "/proc does not show its processes' descriptors",
    "no-setsid": "there is no setsid, or no env that takes --",
}


def parse_hello(word: str) -> Shell:
    """Return what a shell said of itself.

    Raises:
        ValueError: it is no such answer.
    """
    greeting, pid, option, reopens, counts, head, problems = word.split(" ")
    if greeting != "hello":
        raise ValueError(word)
    found = [_PROBLEMS[name] for name in problems.strip("-,").split(",") if name in _PROBLEMS]
    return Shell(
        pid=int(pid),
        mark_option=option if option in {"x", "w"} else "",
        reopens=reopens == "1",
        counts=counts == "1",
        takes_input=head == "1",
        problem="; ".join(found),
    )


def usable(word: str) -> bool:
    """Whether a shell that answers so can be used; it goes on to say that it is ready."""
    try:
        return not parse_hello(word).problem
    except ValueError:
        return False
