"""Files by the shell: for hosts without SFTP, and to find out why SFTP said no more than "failure".

Each script ends with 0, or with the errno of what was wrong; 97 when the machine itself is gone.
"""

from __future__ import annotations

import errno

from gitmachine.machines.channel.quoting import quote

__all__ = ["FULL_KIB", "list_script", "read_script", "why_script", "write_script"]

FULL_KIB = 64
"""A disk with less than this is full: what is left belongs to root, or to nobody."""

_WHY = rb"""
[ -f %(label)b ] || exit 97
_gm_why() {
  _gm_f=$1
  case $_gm_f in
    /*) ;;
    *) exit 22 ;;
  esac
  while [ "$_gm_f" != / ] && [ "$_gm_f" ]; do
    _gm_f=${_gm_f%%/*}
    if [ ! -d "${_gm_f:-/}" ]; then
      if [ -e "$_gm_f" ] || [ -L "$_gm_f" ]; then exit 20; fi
    elif [ ! -x "${_gm_f:-/}" ]; then exit 13
    fi
  done
}
"""


def _start(label: bytes) -> bytes:
    return _WHY % {b"label": quote(label.decode("utf-8", "surrogateescape"))}


def _word(path: bytes) -> bytes:
    return quote(path.decode("utf-8", "surrogateescape"))


def why_script(label: bytes, verb: str, path: bytes, size: int) -> bytes:
    """Return the script that finds out why a file could not be read, written or listed."""
    name = _word(path)
    parts = [_start(label), b"_gm_why %b\n" % name]
    if verb == "write":
        parts += [
            b"if [ -d %b ]; then exit 21; fi\n" % name,
            b"_gm_f=%b; _gm_f=${_gm_f%%/*}\n" % name,
            b"_gm_free=$(df -Pk -- \"${_gm_f:-/}\" 2>/dev/null | awk 'NR == 2 { print $4 }')\n",
            b'[ "${_gm_free:-999999}" -ge %d ] || exit %d\n' % (FULL_KIB + size // 1024, errno.ENOSPC),
            b'[ -w "${_gm_f:-/}" ] || exit 13\n',
        ]
    else:
        parts += [
            b"[ -e %b ] || exit 2\n" % name,
            b"if [ -d %b ]; then %b; else %b; fi\n"
            % (name, b":" if verb == "list" else b"exit 21", b"exit 20" if verb == "list" else b":"),
            b"[ -r %b ] || exit 13\n" % name,
        ]
    return b"".join([*parts, b"exit 5\n"])


def read_script(label: bytes, path: bytes, max_bytes: int) -> bytes:
    """Return the script that prints a file."""
    name = _word(path)
    return _start(label) + (
        b"_gm_why %b; [ -e %b ] || exit 2\n"
        b"if [ -d %b ]; then exit 21; fi\n"
        b"[ -f %b ] || exit 22\n"
        b"[ -r %b ] || exit 13\n"
        b"head -c %d <%b\n"
    ) % (name, name, name, name, name, max_bytes + 1, name)


def list_script(label: bytes, path: bytes) -> bytes:
    """Return the script that prints the names in a directory, each ended by a NUL."""
    name = _word(path)
    return _start(label) + (
        b"_gm_why %b; [ -e %b ] || [ -L %b ] || exit 2\n"
        b"[ -d %b ] || exit 20\n"
        b"cd -P -- %b 2>/dev/null && [ -r . ] || exit 13\n"
        b"for _gm_f in ./* ./.*; do\n"
        b'  if [ -e "$_gm_f" ] || [ -L "$_gm_f" ]; then printf \'%%s\\0\' "${_gm_f#./}"; fi\n'
        b"done\n"
    ) % (name, name, name, name, name)


def write_script(label: bytes, path: bytes, temporary: bytes, size: int) -> str:
    """Return the script that replaces a file by its input, if that is as long as it has to be."""
    name, new = _word(path), _word(temporary)
    free = b"$(df -Pk -- \"${_gm_d:-/}\" 2>/dev/null | awk 'NR == 2 { print $4 }')"
    script = _start(label) + (
        b"_gm_why %b\n"
        b"if [ -d %b ]; then exit 21; fi\n"
        b"if [ -e %b ] && [ ! -f %b ]; then exit 22; fi\n"
        b'_gm_t=%b; _gm_d=${_gm_t%%/*}; mkdir -p -- "${_gm_d:-/}" 2>/dev/null\n'
        b"_gm_n=%b; _gm_i=0\n"
        b'while [ -L "$_gm_t" ] && [ $_gm_i -lt 40 ] && _gm_l=$(readlink "$_gm_t"); do\n'
        b"  case $_gm_l in /*) _gm_t=$_gm_l ;; *) _gm_t=${_gm_t%%/*}/$_gm_l ;; esac\n"
        b"  _gm_n=${_gm_t%%/*}/${_gm_n##*/}; _gm_i=$((_gm_i + 1))\n"
        b"done\n"
        b"trap 'rm -f -- \"$_gm_n\"' EXIT\n"
        b'( umask 077; exec cat >"$_gm_n" ) 2>/dev/null\n'
        b'if [ ! -e "$_gm_n" ] || [ "$(wc -c <"$_gm_n")" -ne %d ]; then\n'
        b'  [ "%b" -ge %d ] || exit %d\n'
        b'  [ -w "${_gm_d:-/}" ] || exit 13\n'
        b"  exit 5\n"
        b"fi\n"
        b"_gm_m=644\n"
        b'if [ -e "$_gm_t" ]; then\n'
        b'  _gm_m=$(stat -c %%a -- "$_gm_t" 2>/dev/null || stat -f %%Lp -- "$_gm_t" 2>/dev/null) || _gm_m=644\n'
        b"fi\n"
        b'chmod "$_gm_m" "$_gm_n"\n'
        b'mv -f -- "$_gm_n" "$_gm_t" || exit 5\n'
        b"trap - EXIT\n"
    ) % (name, name, name, name, name, new, size, free, FULL_KIB + size // 1024, errno.ENOSPC)
    return script.decode("utf-8", "surrogateescape")
