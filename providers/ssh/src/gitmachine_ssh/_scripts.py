"""Scripts for the host: how a machine is made, found, listed and removed. POSIX sh, and values only in quotes."""

from __future__ import annotations

import re

from gitmachine.machines.channel.quoting import quote_text

__all__ = ["GONE", "inventory_script", "kill_orphans_script", "look_script", "make_script", "remove_script"]

GONE = 97
"""The status of a script that finds no machine."""
MIN_FREE_KIB = 50 << 10

_BASE = r"""
_gm_base=@BASE@
case $_gm_base in /*) ;; *) _gm_base=${HOME:-/}/$_gm_base ;; esac
"""

_MAKE = (
    _BASE
    + r"""
umask 077
_gm_bad=
for _gm_tool in git awk cat chmod cp env grep head kill ls mkdir mv ps rm sed sleep stty tar tr wc; do
  command -v "$_gm_tool" >/dev/null 2>&1 || { echo "tool $_gm_tool"; _gm_bad=1; }
done
if mkdir -p -- "$_gm_base" 2>/dev/null && [ -w "$_gm_base" ] && cd -P -- "$_gm_base"; then
  _gm_free=$(df -Pk . 2>/dev/null | awk 'NR == 2 { print $4 }')
  case $_gm_free in
    '' | *[!0-9]*) ;;
    *) [ "$_gm_free" -ge @FREE@ ] || { echo "space $_gm_free"; _gm_bad=1; } ;;
  esac
else
  echo "base $_gm_base"; _gm_bad=1
fi
[ ! "$_gm_bad" ] || exit 3
rm -rf ./.removing-* 2>/dev/null
mkdir ./.new-@ID@ ./.new-@ID@/home && printf '%s' @LABEL@ >./.new-@ID@/label &&
  printf '%s\n' @TIME@ >./.new-@ID@/created && mv ./.new-@ID@ ./@ID@ ||
  { rm -rf ./.new-@ID@; echo "make $_gm_free"; exit 3; }
printf 'made %s\n' "$(pwd -P)"
"""
)

_LOOK = (
    _BASE
    + r"""
cd -P -- "$_gm_base/@ID@" 2>/dev/null && [ -f label ] || exit 97
printf '%s\n' "${PWD%/*}"
_gm_boot=/proc/sys/kernel/random/boot_id
if [ -e paused ] && { [ ! -r $_gm_boot ] || [ "$(cat $_gm_boot)" = "$(cat paused.boot 2>/dev/null)" ]; }; then
  echo paused
else
  echo running
fi
cat label
"""
)

_INVENTORY = (
    _BASE
    + r"""
cd -P -- "$_gm_base" 2>/dev/null || exit 0
for _gm_d in *; do
  [ -f "./$_gm_d/label" ] || continue
  printf '%s\n' "$_gm_d"
  od -An -v -tx1 <"./$_gm_d/label" | tr -d ' \n'
  printf '\n'
done
"""
)

_REMOVE = r"""
cd -P -- @BASE@ 2>/dev/null || exit 0
[ -d ./@ID@ ] && mv ./@ID@ ./.removing-@ID@
[ -d ./.removing-@ID@ ] || exit 0
rm -rf ./.removing-@ID@ 2>/dev/null && exit 0
chmod -R u+rwx ./.removing-@ID@ 2>/dev/null
rm -rf ./.removing-@ID@
"""


def _filled(script: str, **values: str) -> str:
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], script)


def make_script(base: str, machine_id: str, label: str, time: str) -> str:
    """Return the script that makes a machine: prints ``made PARENT``, or all that is missing and exits with 3."""
    return _filled(
        _MAKE,
        FREE=str(MIN_FREE_KIB),
        ID=machine_id,
        TIME=quote_text(time),
        BASE=quote_text(base),
        LABEL=quote_text(label),
    )


def look_script(base: str, machine_id: str) -> str:
    """Return the script that prints a machine's parent directory, its state and its label, or exits with `GONE`."""
    return _filled(_LOOK, ID=machine_id, BASE=quote_text(base))


def inventory_script(base: str) -> str:
    """Return the script that prints each machine's id and its label in hexadecimal digits, a line each."""
    return _filled(_INVENTORY, BASE=quote_text(base))


def remove_script(parent: str, machine_id: str) -> str:
    """Return the script that removes a machine's directory, whatever modes its commands left there."""
    return _filled(_REMOVE, ID=machine_id, BASE=quote_text(parent))


def kill_orphans_script(orphans: dict[int, str], kill: dict[int, str]) -> str:
    """Return the script that kills what runs in shells whose connection was cut, if they are still those shells.

    Args:
        orphans: by process id, the word that the shell has in its environment.
        kill: by process id, the script that kills it with its children.
    """
    return "".join(
        f"if grep -aqs '_gm_hello={hello}' /proc/{pid}/environ; then (\n{kill[pid]}\n) fi\n"
        for pid, hello in orphans.items()
    )
