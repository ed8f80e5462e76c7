"""The shell side of git in a machine: the environment of every script and the functions they share.

Each operation is one POSIX ``sh`` script in one round trip. Data reaches it as positional arguments or as standard
input, never as text of the script. What it prints is fields that end in NUL; when it cannot go on, the last three
fields are ``@fail``, a name and a detail, and its exit code is `FAILED`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine.git.model import GitIdentity

__all__ = ["FAILED", "LIBRARY", "arguments", "environment"]

FAILED = 3
"""The exit code of a script that printed ``@fail``."""

LIBRARY = r"""
unset IFS
tab=$(printf '\t')
nl='
'
# Git started by a hook or an editor inherits these; they would point us at another repository or index.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES \
  GIT_IMPLICIT_WORK_TREE GIT_PREFIX GIT_NAMESPACE GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT GIT_GRAFT_FILE \
  GIT_SHALLOW_FILE GIT_NO_REPLACE_OBJECTS GIT_REPLACE_REF_BASE GIT_CEILING_DIRECTORIES GIT_QUARANTINE_PATH \
  GIT_DISCOVERY_ACROSS_FILESYSTEM GIT_EXTERNAL_DIFF GIT_DIFF_OPTS GIT_LITERAL_PATHSPECS GIT_GLOB_PATHSPECS \
  GIT_NOGLOB_PATHSPECS GIT_ICASE_PATHSPECS GIT_AUTHOR_DATE GIT_COMMITTER_DATE GIT_ATTR_SOURCE GIT_INDEX_VERSION \
  GIT_REFLOG_ACTION GIT_TRACE GIT_TRACE2 GIT_TRACE2_EVENT GIT_TRACE2_PERF GIT_TRACE_SETUP GIT_CURL_VERBOSE \
  GIT_TEMPLATE_DIR GIT_DEFAULT_HASH CDPATH GREP_OPTIONS
# Messages are read by us, so they are English; a repository's hooks get the machine's own locale back.
machine_locale=${LC_ALL-}
LC_ALL=C
export LC_ALL

# gh: git with the repository's hooks; g: without. Overridden is what would prompt, or break a script, if it were set.
gh() {
  command git --no-pager -c safe.directory='*' -c core.fsmonitor=false -c core.safecrlf=false -c core.splitIndex=false \
    -c color.ui=false -c gc.auto=0 -c maintenance.auto=false -c submodule.recurse=false -c commit.gpgSign=false \
    -c commit.verbose=false -c i18n.commitEncoding=UTF-8 -c i18n.logOutputEncoding=UTF-8 -c log.showSignature=false \
    -c advice.addEmbeddedRepo=false -c advice.detachedHead=false -c merge.verifySignatures=false "$@"
}
g() { gh -c core.hooksPath=/dev/null "$@"; }

field() { printf '%s\0' "$@"; }
fail() { printf '@fail\0%s\0%s\0' "$1" "${2-}"; exit 3; }

# Sets gitdir. The current directory must be the top of its own work tree: git would climb to a parent repository.
find_repository() {
  answer=$(g rev-parse --show-cdup --absolute-git-dir && echo .) || return 1
  case $answer in "$nl"*) ;; *) return 1 ;; esac
  gitdir=${answer#"$nl"}
  gitdir=${gitdir%"$nl."}
}

open_repository() {
  command -v git >/dev/null 2>&1 || fail no-git
  find_repository || fail not-a-repository
}

scratch() {
  tmp=$(mktemp -d 2>/dev/null || mktemp -d "$gitdir/gitmachine.XXXXXX") || fail scratch
  trap 'rm -rf -- "$tmp"' EXIT
  trap 'exit 130' HUP INT TERM
}

# Sets head (empty when there is no commit yet) and base (a tree-ish to compare with).
read_head() {
  if head=$(g rev-parse -q --verify HEAD 2>/dev/null); then base=$head
  else head='' base=$(g hash-object -t tree /dev/null) || fail git; fi
}

# Sets operation to what somebody has begun and not finished, or to nothing.
read_operation() {
  operation=''
  if [ -d "$gitdir/rebase-merge" ]; then operation=rebase
  elif [ -e "$gitdir/rebase-apply/applying" ]; then operation=am
  elif [ -d "$gitdir/rebase-apply" ]; then operation=rebase
  elif [ -e "$gitdir/MERGE_HEAD" ]; then operation=merge
  elif [ -e "$gitdir/CHERRY_PICK_HEAD" ]; then operation=cherry-pick
  elif [ -e "$gitdir/REVERT_HEAD" ]; then operation=revert
  elif [ -e "$gitdir/sequencer/todo" ]; then operation=cherry-pick
  elif [ -e "$gitdir/BISECT_LOG" ]; then operation=bisect
  fi
}

# Waits up to $1 tenths of a second for whoever holds the index.
await_index() {
  waited=0
  while [ -e "$gitdir/index.lock" ] || [ -h "$gitdir/index.lock" ]; do
    [ "$waited" -lt "$1" ] || fail locked "$gitdir/index.lock"
    if sleep 0.1 2>/dev/null; then waited=$((waited + 1)); else sleep 1; waited=$((waited + 10)); fi
  done
}

# Sets branch to the ref that HEAD is, or to nothing when it is detached. A table of refs has no file that says so.
read_branch() {
  branch=''
  if IFS= read -r branch 2>/dev/null <"$gitdir/HEAD"; then case $branch in
    'ref: refs/heads/.invalid' | *[!A-Za-z0-9._/:\ +@-]* | *..*) ;;
    'ref: refs/heads/'*) branch=${branch#ref: }; return 0 ;;
  esac; fi
  branch=$(g symbolic-ref -q HEAD) || branch=''
}

# $1: a copy of the index. Its mtime is part of git's race check, so it is kept.
copy_index() {
  [ ! -e "$1" ] || rm -f -- "$1"
  [ ! -e "$gitdir/index" ] || cp -p -- "$gitdir/index" "$1" || fail scratch
}

# Takes entries out of the index that `add` made of nested repositories: a gitlink would keep nothing of them.
# $1: the index as it was before; what was a gitlink there is a submodule and stays.
drop_gitlinks() {
  g ls-files -s -z | xargs -0 sh -c '
    eval "$1"; old=$2; shift 2
    for entry; do
      case $entry in "160000 "*) ;; *) continue ;; esac
      path=${entry#*"$tab"}
      was=$(export GIT_INDEX_FILE="$old"; g ls-files -s -- ":(top,literal)$path" 2>/dev/null)
      case $was in "160000 "*) continue ;; esac
      printf "%s\0" "$path"
    done' sh "$library" "$1" >"$tmp/gitlinks" || return 1
  [ ! -s "$tmp/gitlinks" ] || g update-index -z --force-remove --stdin <"$tmp/gitlinks"
}

# `git add`; 1 when some paths could not be added. Tried again when a command that still runs has removed a file under
# git's eyes, or holds the index for a moment. What it says goes to $tmp/errors.
add() {
  tries=0
  until g add --ignore-errors "$@" 2>"$tmp/errors"; do
    code=$?
    [ $code -ne 1 ] && [ $tries -lt 20 ] || return $code
    grep -q -e 'unable to stat' -e 'index\.lock.*File exists' "$tmp/errors" || return $code
    tries=$((tries + 1))
    sleep 0.1 2>/dev/null || sleep 1
  done
}

# Stages everything into the index in use; $1: a copy of the index before; further arguments go to `add`.
# Leaves the difference from base in $tmp/raw. Sets incomplete to what was not added: nested (repositories), or errors.
stage() {
  before=$1
  shift
  incomplete=''
  add -A "$@"
  case $? in
    0) ;;
    1) incomplete=errors
      if grep -q -e 'failed to insert into database' -e 'unable to create' -e 'unable to write' -e 'No space left' \
        "$tmp/errors"; then cat "$tmp/errors" >&2; return 1; fi ;;
    *) cat "$tmp/errors" >&2; return 1 ;;
  esac
  g diff-index --cached --raw -z --no-renames "$base" -- >"$tmp/raw" || return 1
  if tr '\0' '\n' <"$tmp/raw" | grep -q '^:[0-7]* 160000 '; then
    drop_gitlinks "$before" || return 1
    g diff-index --cached --raw -z --no-renames "$base" -- >"$tmp/raw" || return 1
    incomplete=${incomplete:-nested}
  fi
}
"""
"""Functions and settings that every script begins with (it is evaluated; ``$library`` holds it for child shells)."""

_BEGIN = 'library=$1\nshift\neval "$library"\n'


def arguments(script: str, *args: str, library: str = LIBRARY) -> tuple[str, ...]:
    """Return the argv that runs a script; args are its ``$1``, ``$2`` and so on."""
    return ("sh", "-c", _BEGIN + script, "gitmachine", library, *args)


def environment(identity: GitIdentity) -> Mapping[str, str]:
    """Return the variables of every script: the session's identity, no prompts, no editors, no downloads."""
    return {
        "GIT_AUTHOR_NAME": identity.name,
        "GIT_AUTHOR_EMAIL": identity.email,
        "GIT_COMMITTER_NAME": identity.name,
        "GIT_COMMITTER_EMAIL": identity.email,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_SEQUENCE_EDITOR": "true",
        "GIT_MERGE_AUTOEDIT": "no",
        "GIT_PAGER": "cat",
        # A smudge filter that downloads has no credential here; pointers stay pointers, and the checkout is clean.
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
