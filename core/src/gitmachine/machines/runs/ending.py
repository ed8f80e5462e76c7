r"""The script that ends runs with everything they started, wherever it went.

A run's processes are its supervisor's descendants, whoever is in the supervisor's session, and whoever has its mark;
what has left the session, lost its parents and cleared its environment is found by the mark alone.
"""

from __future__ import annotations

from gitmachine.machines.runs.scripts import LIBRARY

__all__ = ["END"]

END = (
    LIBRARY
    + r"""
grace=$1
shift
if [ "$1" = all ]; then set -- "$2"/*/; fi

# Prints "pid parent session" of each process that is not a zombie.
table() {
  if [ -r /proc/self/stat ]; then
    for entry in /proc/[0-9]*; do
      stat_of "${entry#/proc/}" || continue
      set -- $fields
      case $1 in [ZXx]) ;; *) echo "${entry#/proc/} $2 $4" ;; esac
    done
  else
    ps -A -o pid= -o ppid= -o pgid=
  fi
}

# Looks at all processes once, for as many runs as there are: rows, and the marks that are not our own.
survey() {
  rows=$(table)
  mark_of $$
  marks=$(grep -Hs '^Max file locks ' /proc/[0-9]*/limits | grep -v "locks  *\(unlimited\|$mark\) ")
}

# Sets targets to the processes of the run in $1, without its supervisor and cats, which are to see its end.
find_targets() {
  read_pid "$1"
  members=' ' targets=''
  [ -n "$pid" ] || return 0
  start_of "$pid"
  own=$start
  # The number of a session is not given to a new process while the session has members.
  [ -z "$own" ] || [ "$own" = "$begun" ] || session=0
  [ "$own" != "$begun" ] || members=" $pid "
  case $marked in
    unlimited|'') ;;
    *) while read -r entry b c its_mark d; do
      [ "$its_mark" = "$marked" ] || continue
      entry=${entry#/proc/}
      members="$members${entry%%/*} "
    done <<MARKS
$marks
MARKS
  esac
  grown=1
  while [ -n "$grown" ]; do
    grown=''
    while read -r one parent its_session; do
      case $members in *" $one "*) continue ;; esac
      case $members in
        *" $parent "*) ;;
        *) [ "$session" != 0 ] && [ "$its_session" = "$session" ] || continue ;;
      esac
      members="$members$one " grown=1
    done <<ROWS
$rows
ROWS
  done
  while read -r one parent its_session; do
    case " $$ $pid $cat1 $cat2 " in *" $one "*) continue ;; esac
    case $members in *" $one "*) targets="$targets $one" ;; esac
  done <<ROWS
$rows
ROWS
}

is_over() {
  find_targets "$1"
  [ -z "$targets" ] && { [ -e "$1/exit" ] || ! is_alive "$pid" "$begun"; }
}

# Ask.
survey
for dir; do
  dir=${dir%/}
  [ -e "$dir/starter" ] || continue
  find_targets "$dir"
  [ -e "$dir/exit" ] || : >"$dir/killed"
  [ "$grace" -gt 0 ] && [ -n "$targets" ] || continue
  kill -TERM $targets 2>/dev/null
  kill -CONT $targets 2>/dev/null
done

# Wait.
began=$(date +%s)
while [ "$grace" -gt 0 ]; do
  busy=''
  survey
  for dir; do
    dir=${dir%/}
    [ ! -e "$dir/starter" ] || is_over "$dir" || busy=1
  done
  [ -n "$busy" ] && [ $(($(date +%s) - began)) -lt "$grace" ] || break
  nap 0.05
done

# Kill, all stopped first so that none forks out of sight; then the supervisors write down how it ended.
rounds=0 stopped=' '
while [ "$rounds" -lt 100 ]; do
  rounds=$((rounds + 1)) all='' fresh=''
  survey
  for dir; do
    dir=${dir%/}
    [ -e "$dir/starter" ] || continue
    find_targets "$dir"
    all="$all$targets"
  done
  [ -n "$all" ] || break
  for one in $all; do
    case $stopped in *" $one "*) ;; *) fresh="$fresh $one" stopped="$stopped$one " ;; esac
  done
  if [ -n "$fresh" ]; then kill -STOP $fresh 2>/dev/null; continue; fi
  kill -KILL $all 2>/dev/null
  stopped=' '
  nap 0.02
done
for dir; do
  dir=${dir%/}
  [ -e "$dir/starter" ] || continue
  read_pid "$dir"
  rounds=0
  while [ ! -e "$dir/exit" ] && is_alive "$pid" "$begun"; do
    rounds=$((rounds + 1))
    if [ "$rounds" -gt 250 ]; then kill -KILL "$pid" "$cat1" "$cat2" 2>/dev/null; break; fi
    nap 0.02
  done
done
echo ended
"""
)
"""End runs with everything they started. Arguments: seconds between SIGTERM and SIGKILL (0: SIGKILL at once), then the
runs' directories, or ``all`` and the directory of all runs."""
