"""All processes of a machine on hosts without /proc (macOS, the BSDs): by ps, their groups and their environment.

There is no mark that every child keeps. A process belongs when the machine's id is in its environment, when a command's
first process (each writes its id down) leads its group, or when its parent belongs. What takes all three off escapes.
"""

from __future__ import annotations

from gitmachine.machines.channel.quoting import quote_text

__all__ = ["freeze_by_ps", "kill_by_ps", "noting", "thaw_by_ps"]

_FIND = r"""
_gm_find() {
  _gm_env=$( { ps -A -E -ww -o pid= -o command= 2>/dev/null || ps -A -e -ww -o pid= -o command= 2>/dev/null; } |
    grep -F "GITMACHINE_MACHINE=@ID@" | awk '{ print $1 }')
  _gm_roots=$(cat @LEADERS@ 2>/dev/null | tr '\n' ' ')
  ps -A -o pid= -o ppid= -o pgid= -o stat= 2>/dev/null |
    awk -v roots="$_gm_roots" -v env="$(echo $_gm_env)" -v parent='@PARENT@' -v self=$$ '
      { pid[NR] = $1; up[$1] = $2; group[$1] = $3; state[$1] = $4 }
      END {
        n = split(roots, list, " "); for (i = 1; i <= n; i++) root[list[i]] = 1
        n = split(env, list, " "); for (i = 1; i <= n; i++) in_it[list[i]] = 1
        mine[self] = 1
        for (more = 1; more;) {
          more = 0
          for (i = 1; i <= NR; i++) {
            p = pid[i]
            if (!mine[p] && mine[up[p]]) { mine[p] = 1; more = 1 }
            if (in_it[p] == 2 || p == parent || mine[p]) continue
            if (in_it[p] || root[p] || root[group[p]] || in_it[up[p]] == 2 || (parent != "" && up[p] == parent)) {
              in_it[p] = 2; more = 1
            }
          }
        }
        for (i = 1; i <= NR; i++) {
          p = pid[i]
          if (in_it[p] == 2 && !mine[p] && state[p] !~ /^Z/) print p, (state[p] ~ /^T/ ? "stopped" : "runs")
        }
      }'
}
"""

_FREEZE = r"""
( : >>@RECORD@ ) 2>/dev/null || exit 1
_gm_round=0 _gm_done=' '
while [ $_gm_round -lt 50 ]; do
  _gm_round=$((_gm_round + 1)) _gm_new=
  for _gm_p in $(_gm_find | awk '$2 == "runs" { print $1 }'); do
    case $_gm_done in *" $_gm_p "*) continue ;; esac
    echo "$_gm_p" >>@RECORD@ && kill -STOP "$_gm_p" 2>/dev/null
    _gm_done="$_gm_done$_gm_p " _gm_new=1
  done
  [ "$_gm_new" ] || break
done
exit 0
"""

_THAW = r"""
[ -e @RECORD@ ] || exit 0
_gm_all=" $(_gm_find | awk '$2 == "stopped" { print $1 }' | tr '\n' ' ')"
while read -r _gm_p; do
  case $_gm_all in *" $_gm_p "*) kill -CONT "$_gm_p" 2>/dev/null ;; esac
done <@RECORD@
rm -f -- @RECORD@
exit 0
"""

_KILL = r"""
_gm_round=0 _gm_done=' '
while [ $_gm_round -lt 50 ]; do
  _gm_round=$((_gm_round + 1)) _gm_new=
  for _gm_p in $(_gm_find | awk '{ print $1 }'); do
    case $_gm_done in *" $_gm_p "*) continue ;; esac
    kill -STOP "$_gm_p" 2>/dev/null
    _gm_done="$_gm_done$_gm_p " _gm_new=1
  done
  [ "$_gm_new" ] || break
done
case $_gm_done in *[0-9]*) kill -KILL $_gm_done 2>/dev/null ;; esac
:
"""


def _filled(script: str, directory: str, machine_id: str, parent: str = "") -> str:
    script = script.replace("@PARENT@", parent).replace("@ID@", machine_id)
    return script.replace("@LEADERS@", quote_text(f"{directory}/leaders"))


def noting(directory: str) -> str:
    """Return the command by which a shell that is about to become a command writes its process id down."""
    return f"""echo "$(exec sh -c 'echo $PPID')" >>{quote_text(f"{directory}/leaders")}"""


def kill_by_ps(directory: str, machine_id: str, *, control: int | None = None) -> str:
    """Return the script that kills all of a machine, or only what descends from a shell, which stays."""
    if control is None:
        return _filled(_FIND, directory, machine_id) + _KILL
    return _filled(_FIND, "/dev/null", "no machine", str(control)) + _KILL


def freeze_by_ps(directory: str, machine_id: str, record: str) -> str:
    """Return the script that stops all that runs, and writes down what it stopped."""
    return _filled(_FIND, directory, machine_id) + _FREEZE.replace("@RECORD@", quote_text(record))


def thaw_by_ps(directory: str, machine_id: str, record: str) -> str:
    """Return the script that continues what was stopped, and nothing that was stopped before."""
    return _filled(_FIND, directory, machine_id) + _THAW.replace("@RECORD@", quote_text(record))
