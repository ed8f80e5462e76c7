"""The scripts that find all work in a machine: survey, and snapshot.

Both walk the main repository, its linked worktrees, and every nested repository and submodule that is not ignored, and
see the content of each through a copy of its index.
"""

from __future__ import annotations

from gitmachine.git.shell import LIBRARY

__all__ = ["GATHER", "GATHER_LIBRARY"]

_FUNCTIONS = r"""
keep() { printf 'update %s %s\n' "refs/gitmachine/$1" "$2" >>"$tmp/keep"; }

# Untracked files of more than $1 bytes, as pathspecs that leave them out.
leave_out_large() {
  g ls-files -o -z --exclude-standard | xargs -0 sh -c 'for p; do printf "./%s\0" "$p"; done' sh |
    xargs -0 sh -c 'limit=$1; shift; [ $# -eq 0 ] || find "$@" -prune -type f -size "+${limit}c" -print0' sh "$1" \
      >"$tmp/large"
  [ -s "$tmp/large" ] || return 0
  printf ':(top)\0' >"$tmp/pathspecs"
  xargs -0 sh -c 'for p; do printf ":(top,exclude,literal)%s\0" "${p#./}"; done' sh <"$tmp/large" >>"$tmp/pathspecs"
}

# Whether git sees nothing that HEAD does not have: mostly so once everything was committed, and then much is spared.
# What it remembers of directories is not believed. Sets tree.
is_clean() {
  [ "$mode" = survey ] && [ -n "$head" ] || return 1
  seen=$(export GIT_OPTIONAL_LOCKS=0; g -c core.untrackedCache=false status --porcelain --untracked-files=normal \
    --ignored=no --no-renames --ignore-submodules=dirty 2>&1) && [ -z "$seen" ] &&
    tree=$(g rev-parse -q --verify 'HEAD^{tree}')
}

# The tree of everything in the current work tree. Sets tree, and dirty when it differs from HEAD's. Paths that are left
# out go to $tmp/large (or $tmp/left when git could not add them).
see_content() {
  for old in index pathspecs large left; do [ ! -e "$tmp/$old" ] || rm -f -- "$tmp/$old"; done
  dirty=''
  ! is_clean || return 0
  copy_index "$tmp/before"
  [ ! -e "$tmp/before" ] || cp -p -- "$tmp/before" "$tmp/index" || return 1
  [ -z "$cap" ] || leave_out_large "$cap" || return 1
  export GIT_INDEX_FILE="$tmp/index"
  if [ -s "$tmp/pathspecs" ]; then set -- --pathspec-from-file="$tmp/pathspecs" --pathspec-file-nul; else set --; fi
  stage "$tmp/before" "$@" && tree=$(g write-tree) || return 1
  [ "$incomplete" != errors ] || g ls-files -o -m -d -z --exclude-standard >"$tmp/left" || return 1
  unset GIT_INDEX_FILE
  dirty=''
  [ ! -s "$tmp/raw" ] || dirty=yes
}

# A commit of $tree on top of HEAD. A survey's has HEAD's date, so that equal content gives an equal commit.
commit_content() (
  if [ "$mode" = survey ]; then
    when=''
    [ -z "$head" ] || when=$(g log -1 --no-show-signature --format=%ct "$head" --)
    case $when in '' | *[!0-9]*) when=1000000000 ;; esac
    export GIT_AUTHOR_DATE="@$when +0000" GIT_COMMITTER_DATE="@$when +0000"
  fi
  g commit-tree "$tree" ${head:+-p "$head"} -F - <"$message"
)

# Commits that only files of $gitdir name; $1: prefix of their refs, $2: the branch that HEAD is on, if any.
keep_heads() {
  [ -z "$head" ] || [ -n "$2" ] || keep "$1head" "$head"
  for pair in MERGE_HEAD:merge-head MERGE_AUTOSTASH:merge-autostash rebase-merge/autostash:autostash \
    rebase-apply/autostash:autostash rebase-merge/orig-head:orig-head rebase-apply/orig-head:orig-head; do
    [ -f "$gitdir/${pair%:*}" ] || continue
    # An octopus merge has a line for each of its heads.
    number=''
    while read -r named _ || [ -n "$named" ]; do
      named=$(g rev-parse -q --verify "$named^{commit}" 2>/dev/null) || continue
      keep "$1${pair#*:}$number" "$named"
      number=$((${number:-0} + 1))
    done <"$gitdir/${pair%:*}"
  done
}

# The ignored files that pathspecs ($3 and on) match, byte for byte: a filter may leave a pointer in a file's place (Git
# LFS does). The commit has no parent and no date of its own, so that equal files give an equal commit.
see_ignored() (
  shift 2
  [ $# -gt 0 ] || exit 0
  g ls-files -o -i --exclude-standard -z -- "$@" >"$tmp/matched" || exit 1
  [ -s "$tmp/matched" ] || exit 0
  export GIT_INDEX_FILE="$tmp/index"
  rm -f -- "$GIT_INDEX_FILE"
  hash_matched
  g update-index -z --index-info <"$tmp/info" 2>>"$tmp/trouble" || xargs -0 sh -c '
    eval "$1"; export GIT_INDEX_FILE="$2"; shift 2
    for entry; do printf "%s\0" "$entry" | g update-index -z --index-info; done
  ' sh "$library" "$GIT_INDEX_FILE" <"$tmp/info" 2>>"$tmp/trouble"
  g update-index --add --remove -z --stdin <"$tmp/links" 2>>"$tmp/trouble"
  [ ! -s "$tmp/trouble" ] || report_unmatched || exit 1
  g ls-files -z >"$tmp/held" || exit 1
  [ -s "$tmp/held" ] || exit 0
  export GIT_AUTHOR_DATE='@1000000000 +0000' GIT_COMMITTER_DATE='@1000000000 +0000'
  tree=$(g write-tree) && made=$(g commit-tree "$tree" -m 'ignored files') && keep keep/ignored "$made"
)

# Writes the files of $tmp/matched to the object store; what an index is to hold of them to $tmp/info and $tmp/links.
hash_matched() {
  for list in names odd links trouble; do : >"$tmp/$list"; done
  # What ends in a slash is a nested repository. Names with a newline cannot be in a list of lines.
  xargs -0 sh -c '
    tmp=$1 nl=$2
    shift 2
    for path; do
      case $path in */) continue ;; esac
      if [ -h "./$path" ]; then printf "%s\0" "$path" >>"$tmp/links"
      elif [ ! -f "./$path" ]; then continue
      elif [ ! -r "./$path" ]; then echo unreadable >>"$tmp/trouble"
      else case $path in
        *"$nl"*) printf "%s\0" "$path" >>"$tmp/odd" ;;
        *) printf "./%s\n" "$path" >>"$tmp/names" ;;
      esac; fi
    done
  ' sh "$tmp" "$nl" <"$tmp/matched"
  g hash-object -w --no-filters --stdin-paths <"$tmp/names" >"$tmp/ids" 2>>"$tmp/trouble" || {
    tr '\n' '\0' <"$tmp/names" >>"$tmp/odd"
    : >"$tmp/names"
  }
  while read -r id <&3 && IFS= read -r path <&4; do
    bits=100644
    [ ! -x "$path" ] || bits=100755
    printf '%s %s\t%s\0' "$bits" "$id" "${path#./}"
  done 3<"$tmp/ids" 4<"$tmp/names" >"$tmp/info"
  xargs -0 sh -c '
    eval "$1"; shift
    for path; do
      id=$(g hash-object -w --no-filters -- "$path") || continue
      bits=100644
      [ ! -x "$path" ] || bits=100755
      printf "%s %s\t%s\0" "$bits" "$id" "${path#./}"
    done
  ' sh "$library" <"$tmp/odd" >>"$tmp/info" 2>>"$tmp/trouble"
}

# Reports which files of $tmp/matched are still there and not in the index in use; check-ignore leaves out what is.
report_unmatched() {
  ! grep -q -e 'unable to create' -e 'unable to write' -e 'No space left' "$tmp/trouble" ||
    { cat "$tmp/trouble" >&2; return 1; }
  xargs -0 sh -c 'for p; do case $p in */) ;; *) printf "./%s\0" "$p" ;; esac; done' sh <"$tmp/matched" |
    g check-ignore -z --stdin 2>/dev/null | xargs -0 sh -c 'for p; do
      if [ -e "$p" ] || [ -h "$p" ]; then printf "@skipped\0%s\0" "${p#./}"; fi
    done' sh
}

# Each linked worktree of the repository: its HEAD, and its content. Their places go to $tmp/places.
see_worktrees() {
  number=0
  for entry in "$common"/worktrees/*/; do
    entry=${entry%/}
    [ -f "$entry/HEAD" ] && [ "$entry" != "$gitdir" ] || continue
    number=$((number + 1))
    place=$(cat "$entry/gitdir" 2>/dev/null && echo .) || place=''
    place=${place%.} place=${place%"$nl"}
    case $place in /* | '') ;; *) place=$entry/$place ;; esac
    see_worktree "$entry" "${place%/.git}" "$number" || return 1
  done
}

see_worktree() (
  gitdir=$1
  export GIT_DIR="$gitdir"
  read_head
  [ "$mode" != survey ] || keep_heads "keep/worktree/$3/" "$(g symbolic-ref -q HEAD)"
  unset GIT_DIR
  [ -n "$2" ] && [ -e "$2/.git" ] && cd -- "$2" && find_repository && [ "$gitdir" = "$1" ] || return 0
  printf '%s\0' "$PWD" >>"$tmp/places"
  see_content || return 1
  [ -n "$dirty" ] || return 0
  made=$(commit_content) || return 1
  if [ "$mode" = survey ]; then keep "keep/worktree/$3/changes" "$made"
  else keep "worktree-snapshot/$snapshot/$3" "$made"; fi
)

# Makes the refs of $tmp/keep; a survey's replace those of the one before, and all refs are in $tmp/refs afterwards.
write_keeps() {
  if [ "$mode" = survey ]; then
    list_refs || return 1
    sed -n -e 's,^\([^ ]*\) \(refs/gitmachine/keep/.*\)$,update \2 \1,p' "$tmp/refs" >"$tmp/present" || return 1
    [ -s "$tmp/keep" ] || [ -s "$tmp/present" ] || return 0
    sort "$tmp/keep" >"$tmp/wanted" && sort "$tmp/present" >"$tmp/sorted" || return 1
    ! cmp -s "$tmp/wanted" "$tmp/sorted" || return 0
    sed -e 's/^update/delete/' "$tmp/present" >"$tmp/gone"
    [ ! -s "$tmp/gone" ] || g update-ref --stdin <"$tmp/gone" || return 1
  fi
  [ ! -s "$tmp/keep" ] || g update-ref --stdin <"$tmp/keep" || return 1
  [ "$mode" != survey ] || list_refs
}

list_refs() { g for-each-ref --format='%(objectname) %(refname)' >"$tmp/refs"; }

# Everything of the repository whose top is the current directory. $1: its path, $2: its kind; further arguments:
# pathspecs of ignored files that are work.
see_repository() {
  : >"$tmp/keep"
  : >"$tmp/places"
  read_head
  read_operation
  read_branch
  if [ "$2" = main ]; then common=$main_common
  else common=$(g rev-parse --git-common-dir) && common=$(cd -- "$common" && pwd -P) || return 1; fi
  see_content || return 1
  for list in large left; do
    [ ! -s "$tmp/$list" ] || xargs -0 sh -c 'for p; do
      case $p in */) ;; *) printf "@skipped\0%s%s\0" "$0" "${p#./}" ;; esac
    done' "${1:+$1/}" <"$tmp/$list"
  done
  if [ "$mode" = snapshot ]; then
    if [ -n "$dirty" ] || [ "$2" = main ]; then
      made=$(commit_content) || return 1
      keep "snapshot/$snapshot" "$made"
    fi
  else
    keep_heads keep/ "$branch"
    if [ -n "$dirty" ]; then
      made=$(commit_content) || return 1
      keep keep/changes "$made"
    fi
    number=0
    : >"$tmp/stash"
    # Entries are in the reflog, which is a file, or in one with all others (reftable).
    if [ -e "$common/logs/refs/stash" ] || [ -d "$common/reftable" ]; then
      g rev-list -g refs/stash -- >"$tmp/stash" 2>/dev/null || : >"$tmp/stash"
    fi
    while read -r entry; do
      keep "keep/stash/$number" "$entry"
      number=$((number + 1))
    done <"$tmp/stash"
    see_ignored "$@" || return 1
  fi
  see_worktrees && write_keeps || return 1
  [ "$mode" = survey ] || [ -s "$tmp/keep" ] || return 0
  field @repository "$1" "$2" "$head" "${branch#refs/heads/}" "$tree" "$operation" "$dirty"
  if [ "$mode" = survey ]; then cat "$tmp/refs" || return 1
  else sed -e 's/^update \(.*\) \(.*\)$/\2 \1/' "$tmp/keep"; fi
  printf '\0'
}

# Whether a repository that holds the current directory's ignores it, or one further up, to $main.
is_ignored() (
  while :; do
    here=$(pwd -P && echo .) && here=${here%"$nl."}
    [ "$here" != "$main" ] && [ "$here" != / ] || exit 1
    cd .. || exit 1
    [ -z "$(printf './%s\0' "${here##*/}" | g check-ignore -z --stdin 2>/dev/null)" ] || exit 0
    up=$(g rev-parse --show-cdup 2>/dev/null) || exit 1
    [ -z "$up" ] || cd -- "$up" || exit 1
  done
)

# The repository that the current directory seems to be; $1: its path.
visit() {
  find_repository 2>/dev/null || return 0
  if [ -f "$gitdir/commondir" ]; then
    # A linked worktree is seen with the repository that it belongs to, unless that is somewhere else.
    owner=$(g rev-parse --git-common-dir) && owner=$(cd -- "$owner" && pwd -P) || return 1
    case $owner/ in "$main_common"/* | "$main"/*) return 0 ;; esac
  fi
  ! is_ignored || return 0
  kind=nested
  [ -z "$(g rev-parse --show-superproject-working-tree 2>/dev/null)" ] || kind=submodule
  scratch
  see_repository "$1" $kind
}

# A submodule's repository whose work tree is gone: the current directory; $1: its path.
visit_bare() {
  # Its configuration names a work tree that does not exist; git would not start.
  export GIT_DIR=. GIT_WORK_TREE=.
  gitdir=.
  scratch
  : >"$tmp/keep"
  read_head
  keep_heads keep/ "$(g symbolic-ref -q HEAD)"
  write_keeps || return 1
  field @repository "$1" submodule "$head" "" "" "" ""
  cat "$tmp/refs" && printf '\0'
}

# $1: visit or visit_bare; then directories. What fails is reported, and the others go on.
visit_all() {
  how=$1
  shift
  for directory; do
    path=${directory#./}
    if (cd -- "$directory" && $how "$path") >"$outer/record"; then cat "$outer/record"
    else field @broken "$path"; fi
  done
}
"""

GATHER_LIBRARY = LIBRARY + _FUNCTIONS
"""The functions of `GATHER`, and of the shells that it starts for nested repositories."""

GATHER = r"""
mode=$1 cap=$2
shift 2
open_repository
scratch
outer=$tmp
message=$tmp/message
cat >"$message" || fail scratch
exec </dev/null
main=$(pwd -P && echo .) && main=${main%"$nl."}
main_common=$gitdir
[ ! -f "$gitdir/commondir" ] || main_common=$(g rev-parse --git-common-dir) || fail git
main_common=$(cd -- "$main_common" && pwd -P) || fail git
find . -path ./.git -prune -o -name .git -prune -print0 >"$tmp/found" 2>/dev/null &
snapshot=''
if [ "$mode" = survey ]; then
  g ls-files -o -i --exclude-standard --directory -z 2>/dev/null | tr -dc '\0' | wc -c >"$tmp/ignored" &
else
  snapshot=1
  for number in $(g for-each-ref --format='%(refname:lstrip=3)' refs/gitmachine/snapshot/); do
    case $number in *[!0-9]*) ;; *) [ "$number" -lt "$snapshot" ] || snapshot=$((number + 1)) ;; esac
  done
fi
see_repository '' main "$@" || { wait; fail git; }
wait
if [ "$mode" = survey ]; then read -r number <"$tmp/ignored" && field @ignored "$number"; fi
visit_found() {
  [ -s "$tmp/found" ] || return 0
  xargs -0 sh -c '
    library=$1 mode=$2 cap=$3 outer=$4 message=$5 main=$6 main_common=$7 snapshot=$8
    shift 8
    eval "$library"
    for found; do visit_all visit "${found%/.git}"; done
  ' sh "$library" "$mode" "$cap" "$outer" "$message" "$main" "$main_common" "$snapshot" <"$tmp/found"
}
visit_found || fail git
# Repositories nested in a linked worktree that is somewhere else.
if [ -s "$tmp/places" ]; then
  xargs -0 sh -c 'for place; do
    case $place/ in "$0"/*) ;; *) find "$place" -path "$place/.git" -prune -o -name .git -prune -print0 ;; esac
  done' "$main" <"$tmp/places" >"$tmp/found" 2>/dev/null
  visit_found || fail git
fi
if [ "$mode" = survey ] && [ -d "$main_common/modules" ]; then
  find "$main_common/modules" -name HEAD -type f -print0 2>/dev/null | xargs -0 sh -c '
    library=$1 mode=$2 outer=$3 message=$4 main=$5 cap=""
    shift 5
    eval "$library"
    for file; do
      module=${file%/HEAD}
      [ -d "$module/objects" ] && [ -d "$module/refs" ] || continue
      tree=$(g --git-dir="$module" config core.worktree 2>/dev/null) && [ -e "$module/$tree/.git" ] && continue
      [ "${module#"$main"/}" = "$module" ] || cd -- "$main" && module=${module#"$main"/}
      visit_all visit_bare "$module"
    done
  ' sh "$library" "$mode" "$outer" "$message" "$main" || fail git
fi
"""
"""Arguments: ``survey`` or ``snapshot``, the cap for untracked files in bytes or "", pathspecs of ignored files that a
survey keeps (of the main repository only). Standard input: the message.

Prints records: ``@repository`` path kind head branch tree operation dirty refs, ``@ignored`` count, ``@skipped`` path,
``@broken`` path.
"""
