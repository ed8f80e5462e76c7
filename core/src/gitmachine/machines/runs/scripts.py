r"""The shell side of detached runs: POSIX ``sh`` scripts that any machine with `execute` can run.

A run is a directory. In the order in which they appear:

- ``starter``: pid and start time of the script that starts it; ``info``: one line of JSON from the client.
- ``stdin``, ``out``, ``err``: its input and two named pipes; unlinked as soon as the command has them.
- ``stdout``, ``stderr``: its output, appended by a ``cat`` each. The command itself gets pipes: with a file in their
  place, ``echo x >/dev/stderr`` would truncate what was written before.
- ``pid``: the supervisor's pid, start time, the pids of its cats, its session (0: not its own), and its mark.
- ``killed``: somebody asked for its end.
- ``exit``: exit code, final size of both outputs, the time, and 1 when a cat failed (the disk was full). Renamed into
  place when all output is in; what children that the command left behind write later is in nobody's output.

The mark is the soft value of a resource limit that Linux does not use (RLIMIT_LOCKS): children that called ``setsid``
or ``env -i`` still have it. A machine that marks commands by itself is left its own.
"""

from __future__ import annotations

__all__ = ["LIBRARY", "LIST", "READ", "START", "SUPERVISOR", "argv"]

LIBRARY = r"""
PATH=/usr/local/bin:/usr/bin:/bin${PATH:+:$PATH}
umask 077
fail() { printf '@fail %s\n' "$1"; exit 3; }

# Sets fields to what follows the name in /proc/$1/stat, which may hold blanks, parentheses and newlines; else fails.
stat_of() {
  fields='' part=''
  { while IFS= read -r part || [ -n "$part" ]; do fields="$fields $part" part=; done </proc/"$1"/stat; } 2>/dev/null
  fields=${fields##*") "}
  [ -n "$fields" ]
}

# Sets start to when a process began (field 22), or to nothing: there is none, or only its zombie.
start_of() {
  start=''
  if [ -r /proc/self/stat ]; then
    stat_of "$1" || return 0
    set -- $fields
    case $1 in [ZXx]) ;; *) start=${20} ;; esac
  else
    start=$(ps -o lstart= -p "$1" 2>/dev/null | tr -d ' \n')
  fi
}

# Whether the process with pid $1 and start $2 still is.
is_alive() {
  [ -n "$1" ] || return 1
  start_of "$1"
  [ -n "$start" ] && [ "$start" = "$2" ]
}

# Sets mark to a process's own mark, or to "unlimited".
mark_of() {
  mark=unlimited
  { while read -r a b c d e; do
    case "$a $b $c" in "Max file locks") mark=$d ;; esac
  done </proc/"$1"/limits; } 2>/dev/null
}

# Sets size; a wc that somebody killed is asked again.
size_of() {
  until size=$(wc -c <"$1" 2>/dev/null) && [ -n "$size" ]; do [ -e "$1" ] || size=0; [ -z "$size" ] || break; done
  size=$((size))
}

nap() { sleep "$1" 2>/dev/null || sleep 1; }

read_pid() {
  pid='' begun='' cat1='' cat2='' session=0 marked=unlimited
  { read -r pid begun cat1 cat2 session marked <"$1/pid"; } 2>/dev/null
}

read_exit() {
  [ -e "$1/exit" ] || return 1
  read -r code out err finished broken <"$1/exit"
  state=exited
  if [ -e "$1/killed" ] && [ "$code" -gt 128 ]; then state=killed; fi
}

# Sets state, code, out, err, finished, broken of the run in $1.
look() {
  code=- finished=0 broken=0
  read_exit "$1" && return
  read_pid "$1"
  state=running
  if [ -z "$pid" ]; then
    state=starting
    { read -r pid begun <"$1/starter"; } 2>/dev/null
  fi
  if ! is_alive "$pid" "$begun"; then
    # It may have ended, or begun, since.
    read_exit "$1" && return
    read_pid "$1"
    if [ "$state" = starting ] && is_alive "$pid" "$begun"; then state=running
    elif [ -e "$1/killed" ]; then state=killed code=137
    else state=lost; fi
  fi
  size_of "$1/stdout"
  out=$size
  size_of "$1/stderr"
  err=$size
  read_exit "$1" || :
}
"""
"""What every script begins with. It sets variables of many names."""

SUPERVISOR = (
    r"""
# Until the command runs, variables are set in subshells only: the command may have been given one of the same name.
case $( (ulimit -S -w || ulimit -S -x) 2>/dev/null) in
  unlimited) ulimit -S -w "$4" 2>/dev/null || ulimit -S -x "$4" 2>/dev/null ;;
esac
umask 077
cat <"$1/out" >>"$1/stdout" &
set -- "$!" "$@"
cat <"$2/err" >>"$2/stderr" &
set -- "$!" "$@"
("""
    + LIBRARY
    + r"""
start_of $$
mark_of $$
session=0
if [ -r /proc/self/stat ]; then stat_of $$; else fields=''; fi
line="$$ $start $2 $1" dir=$3
set -- $fields
[ "${4-}" != $$ ] || session=$$
printf '%s\n' "$line $session $mark" >"$dir/pid.new" && mv -f -- "$dir/pid.new" "$dir/pid"
)
(
  if [ -s "$3/stdin" ]; then exec <"$3/stdin"; else exec </dev/null; fi
  exec >"$3/out" 2>"$3/err"
  rm -f -- "$3/stdin" "$3/out" "$3/err"
  umask "$4"
  PATH=$5
  shift 6
  exec "$@"
)
code=$? cat2=$1 cat1=$2 dir=$3
"""
    + LIBRARY
    + r"""
# The output is in when the cats have seen its end; where a child that was left behind holds a pipe, when they have had
# nothing to do for a second.
is_idle() { ! stat_of "$1" || case $fields in [RD]*) return 1 ;; esac; }
quiet=0 last=''
while kill -0 "$cat1" 2>/dev/null || kill -0 "$cat2" 2>/dev/null; do
  size_of "$dir/stdout"
  now=$size
  size_of "$dir/stderr"
  now=$now:$size
  if [ "$now" = "$last" ] && is_idle "$cat1" && is_idle "$cat2"; then quiet=$((quiet + 1)); else quiet=0 last=$now; fi
  [ "$quiet" -lt 50 ] || break
  nap 0.02
done
broken=0
kill -0 "$cat1" 2>/dev/null || wait "$cat1" || broken=1
kill -0 "$cat2" 2>/dev/null || wait "$cat2" || broken=1
size_of "$dir/stdout"
out=$size
size_of "$dir/stderr"
finished=$(date -u +%s)
# A full disk may have room again, and a killed mv is tried again.
tries=0
until printf '%s\n' "$code $out $size ${finished:-0} $broken" >"$dir/exit.new" \
  && mv -f -- "$dir/exit.new" "$dir/exit"; do
  tries=$((tries + 1))
  [ "$tries" -lt 600 ] && [ -d "$dir" ] || exit 1
  nap 1
done
"""
)
"""What stays in the machine beside each run. Arguments: its directory, umask and PATH of the command, mark, command…"""

START = (
    r"""
set -- "$(umask)" "${PATH-}" "$@"
("""
    + LIBRARY
    + r"""
dir=$4/$5
mkdir -p -- "$4" && mkdir -- "$dir" || fail "cannot make the directory $dir"
start_of $$
printf '%s\n' "$$ $start" >"$dir/starter" && printf '%s\n' "$6" >"$dir/info.new" \
  && mv -f -- "$dir/info.new" "$dir/info" && cat >"$dir/stdin" && : >"$dir/stdout" && : >"$dir/stderr" \
  && mkfifo -- "$dir/out" "$dir/err" || fail "cannot write to the directory $dir"
) || exit 3
(
  PATH=/usr/local/bin:/usr/bin:/bin${PATH:+:$PATH}
  gitmachine() {
    gitmachine_umask=$1 gitmachine_path=$2 gitmachine_supervisor=$3 gitmachine_dir=$4/$5 gitmachine_mark=$7
    shift 7
    set -- /bin/sh -c "$gitmachine_supervisor" gitmachine \
      "$gitmachine_dir" "$gitmachine_umask" "$gitmachine_path" "$gitmachine_mark" "$@"
    # What sh starts with & ignores SIGINT for ever (BusyBox has no better); setsid --fork of util-linux does not.
    if setsid --fork true 2>/dev/null; then setsid --fork "$@" </dev/null >/dev/null 2>&1
    elif command -v setsid >/dev/null 2>&1; then setsid "$@" </dev/null >/dev/null 2>&1 &
    else trap '' HUP; "$@" </dev/null >/dev/null 2>&1 &
    fi
  }
  gitmachine "$@"
)
("""
    + LIBRARY
    + r"""
tries=0
until [ -e "$4/$5/pid" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 3000 ] || fail "the supervisor in $4/$5 did not start"
  nap 0.01
done
echo started
)
"""
)
"""Start a run; stdin is its input. Arguments: supervisor, directory of all runs, id, info, mark, command…"""

LIST = (
    LIBRARY
    + r"""
for dir in "$1"/*/; do
  dir=${dir%/}
  [ -e "$dir/starter" ] || continue
  look "$dir"
  printf '%s\n' "${dir##*/} $state $code $out $err $finished $broken"
  cat -- "$dir/info" 2>/dev/null || echo '{}'
done
"""
)
"""Print two lines for each run: what `look` finds, and its info. Argument: the directory of all runs."""

READ = (
    LIBRARY
    + r"""
dir=$1
[ -e "$dir/starter" ] || fail gone
for pause in $6 last; do
  look "$dir"
  case $state in starting|running) ;; *) break ;; esac
  case $2 in *o*) [ "$out" -le "$3" ] || break ;; esac
  case $2 in *e*) [ "$err" -le "$4" ] || break ;; esac
  [ "$pause" = last ] || nap "$pause"
done
printf '%s\n' "${dir##*/} $state $code $out $err $finished $broken"
# $1: file, $2: its size, $3: offset, $4: at most so many bytes.
piece() {
  count=$(($2 - $3))
  [ "$count" -le "$4" ] || count=$4
  [ "$count" -le 0 ] || tail -c +"$(($3 + 1))" -- "$1" | head -c "$count"
}
case $2 in *o*) piece "$dir/stdout" "$out" "$3" "$5" ;; esac
case $2 in *e*) piece "$dir/stderr" "$err" "$4" "$5" >&2 ;; esac
"""
)
"""Print what `look` finds, then a piece of the run's stdout, and a piece of its stderr on stderr.

Waits, while there is nothing new. Arguments: the run's directory, which streams (o, e, oe or -), the offset in each,
the most bytes of each, and how long to nap between looks.
"""


def argv(script: str, *args: str) -> tuple[str, ...]:
    """Return the argv that runs a script; `args` are its ``$1``, ``$2`` and so on."""
    return ("/bin/sh", "-c", script, "gitmachine", *args)
