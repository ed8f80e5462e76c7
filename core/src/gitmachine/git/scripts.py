"""The scripts of the everyday operations: checkout, changes, diff, commit, log."""

from __future__ import annotations

__all__ = ["CHANGES", "CHECKOUT", "COMMIT", "DIFF", "DIVERGENCE", "HEAD", "LOG"]

HEAD = r"""
open_repository
read_head
field "$head"
"""
"""Prints HEAD's commit, or an empty field."""

CHECKOUT = r"""
branch=$1 start=$2 upstream=$3 name=$4 email=$5
open_repository
set_up() {
  g config --local user.name "$name" && g config --local user.email "$email" || return 1
  [ "$upstream" != yes ] || { g config --local "branch.$branch.remote" origin &&
    g config --local "branch.$branch.merge" "refs/heads/$branch"; }
}
# Five processes for five lines, unless something has to be escaped, or is there already.
plain=yes
case $name$email$branch in *[!A-Za-z0-9._@/\ +-]* | ' '*) plain='' ;; esac
while [ -n "$plain" ] && read -r line; do
  case $line in '[user'* | '[branch'* | '[include'*) plain='' ;; esac
done <"$gitdir/config"
if [ -n "$plain" ] && [ -w "$gitdir/config" ] && [ ! -e "$gitdir/config.lock" ]; then
  { printf '[user]\n\tname = "%s"\n\temail = "%s"\n' "$name" "$email" &&
    if [ "$upstream" = yes ]; then
      printf '[branch "%s"]\n\tremote = origin\n\tmerge = refs/heads/%s\n' "$branch" "$branch"
    fi; } >>"$gitdir/config" || fail config
else set_up || fail config; fi
if [ -n "$start" ]; then
  g update-ref -m "gitmachine: start" "refs/heads/$branch" "$start" '' 2>/dev/null || {
    old=$(g rev-parse -q --verify "refs/heads/$branch") && [ "$old" != "$start" ] && fail branch-exists "$branch"
    g update-ref -m "gitmachine: start" "refs/heads/$branch" "$start" "$old" || fail checkout
  }
fi
g symbolic-ref -m "gitmachine: start" HEAD "refs/heads/$branch" || fail checkout
# One tree into the index and the files; unlike `reset --hard` it refuses to overwrite what is there untracked.
[ -z "$start" ] || g read-tree -m -u HEAD </dev/null || fail checkout
read_head
[ "$head" = "$start" ] || fail checkout
field "@status"
export GIT_OPTIONAL_LOCKS=0
g status --porcelain=v2 -z --untracked-files=all --ignored=no --no-renames \
  --ignore-submodules=none || fail checkout
field "@eol"
# Whether status sees a line ending that .gitattributes wants changed depends on time stamps; the attribute does not.
if g ls-files -- ':(glob)**/.gitattributes' | read -r attributes; then
  g ls-files -z --eol -- ':(attr:text)' ':(attr:eol=lf)' ':(attr:eol=crlf)' || fail checkout
fi
"""
"""Arguments: branch, start commit or "", yes when the branch is on the remote, identity name and email."""

RENAME = r"""
old=$1 new=$2
open_repository
sha=$(g rev-parse -q --verify "refs/heads/$old") || sha=
g rev-parse -q --verify "refs/heads/$new" >/dev/null && fail branch-exists "$new"
# Not `branch -m`: a branch without a commit, a rebase in progress and locked files are all the same to this.
[ -z "$sha" ] || g update-ref -m "gitmachine: fork" "refs/heads/$new" "$sha" '' || fail checkout
if [ "$(g symbolic-ref -q HEAD)" = "refs/heads/$old" ]; then
  g symbolic-ref -m "gitmachine: fork" HEAD "refs/heads/$new" || fail checkout
fi
[ -z "$sha" ] || g update-ref -d "refs/heads/$old" "$sha" || fail checkout
"""
"""Arguments: a branch, and what it is to be called; index, files and a detached HEAD stay as they are."""

CHANGES = r"""
open_repository
read_operation
field "$operation"
export GIT_OPTIONAL_LOCKS=0
g status --porcelain=v2 -z --untracked-files=all --ignored=no --no-renames \
  --ignore-submodules=dirty || fail git
"""
"""Prints the operation in progress, then status."""

DIFF = r"""
form=$1
open_repository
scratch
read_head
objects=$(g rev-parse --git-path objects) || fail git
case $objects in /*) ;; *) objects=$PWD/$objects ;; esac
copy_index "$tmp/before"
[ ! -e "$tmp/before" ] || cp -p -- "$tmp/before" "$tmp/index" || fail scratch
# What is written on the way (an empty blob, resolved conflicts) goes to a store of our own.
mkdir "$tmp/objects" && ln -s -- "$objects" "$tmp/real" || fail scratch
export GIT_INDEX_FILE="$tmp/index"
case $tmp in
  *:* | *\"*) ;;
  *) export GIT_OBJECT_DIRECTORY="$tmp/objects" GIT_ALTERNATE_OBJECT_DIRECTORIES="$tmp/real" ;;
esac
g ls-files -u -z >"$tmp/unmerged" || fail git
if [ -s "$tmp/unmerged" ]; then
  g diff --name-only --diff-filter=U -z >"$tmp/paths" && g update-index --add --remove -z --stdin <"$tmp/paths" ||
    fail git
fi
add -N .
case $? in 0 | 1) ;; *) cat "$tmp/errors" >&2; fail git ;; esac
if g ls-files -s | grep -q '^160000 '; then drop_gitlinks "$tmp/before" || fail git; fi
case $form in
  names) set -- --name-status -z ;;
  *) set -- --patch --binary --full-index --unified=3 --inter-hunk-context=0 --src-prefix=a/ --dst-prefix=b/ \
    --submodule=short ;;
esac
g -c diff.suppressBlankEmpty=false -c diff.orderFile=/dev/null diff --no-color --no-ext-diff --no-textconv \
  --no-renames --no-relative --ignore-submodules=dirty "$@" "$base" -- || fail git
"""
"""Argument: ``patch`` or ``names``. Prints everything that differs from HEAD; writes nothing in the repository."""

COMMIT = r"""
mode=$1 patience=$2 length=$3
report() {
  count=0
  [ ! -s "$tmp/left" ] || count=$(tr -dc '\0' <"$tmp/left" | wc -c)
  field "$1" "$incomplete" "$count" && cat "$tmp/left" "$tmp/raw"
}
open_repository
scratch
cat >"$tmp/message" || fail scratch
exec </dev/null
if [ -n "$length" ]; then
  mv -- "$tmp/message" "$tmp/input" && head -c "$length" "$tmp/input" >"$tmp/message" || fail scratch
  tail -c "+$((length + 1))" "$tmp/input" >"$tmp/withheld" || fail scratch
  xargs -0 sh -c 'for p; do printf ":(top,literal)%s\0" "$p"; done' sh <"$tmp/withheld" >"$tmp/out" || fail scratch
  { printf ':(top)\0' && xargs -0 sh -c 'for p; do printf ":(top,exclude,literal)%s\0" "$p"; done' sh; } \
    <"$tmp/withheld" >"$tmp/in" || fail scratch
fi
read_operation
g ls-files -u -z >"$tmp/unmerged" || fail git
[ ! -s "$tmp/unmerged" ] || fail unmerged "${operation:-conflicts}"
case $mode/$operation in
  auto/?*) fail in-progress "$operation" ;;
  */rebase | */am | */bisect) fail in-progress "$operation" ;;
esac
hooks=''
if [ "$mode" != auto ]; then
  folder=$(gh rev-parse --git-path hooks && echo .) || fail git
  for hook in pre-commit prepare-commit-msg commit-msg post-commit reference-transaction post-index-change; do
    [ ! -x "${folder%"$nl."}/$hook" ] || hooks=yes
  done
fi

stage_all() {
  await_index "$patience"
  read_head
  copy_index "$tmp/before"
  if [ -n "$length" ]; then
    stage "$tmp/before" --pathspec-from-file="$tmp/in" --pathspec-file-nul || { await_index 0; fail commit; }
    # What is to be left out may have been staged before.
    g reset -q --pathspec-from-file="$tmp/out" --pathspec-file-nul >&2 || { await_index 0; fail commit; }
    g diff-index --cached --raw -z --no-renames "$base" -- >"$tmp/raw" || fail git
  else
    stage "$tmp/before" || { await_index 0; fail commit; }
  fi
  : >"$tmp/left"
  [ -n "$incomplete" ] || return 0
  g ls-files -o -m -d -z --exclude-standard >"$tmp/left" || fail git
  if [ "$mode/$incomplete" = explicit/errors ] && tr '\0\n' '\n ' <"$tmp/left" | grep -q '[^/]$'; then
    cat "$tmp/errors" >&2
    cat "$tmp/left"
    fail unreadable
  fi
}

commit_with_git() {
  ( if [ -n "$machine_locale" ]; then LC_ALL=$machine_locale; else unset LC_ALL; fi
    gh commit -q --no-gpg-sign --cleanup=verbatim -F - <"$tmp/message" >&2 )
  code=$?
  if [ $code -ne 0 ]; then
    await_index 0
    if [ $code -eq 1 ] && [ -n "$hooks" ]; then fail rejected; else fail commit; fi
  fi
  new=$(g rev-parse -q --verify HEAD) || fail git
  g diff-tree -r --raw -z --no-renames "$base" "$new" -- >"$tmp/raw" || fail git
}

# Without hooks the same by plumbing: `git commit` would look at every file a second time.
commit_directly() {
  tree=$(g write-tree) || fail commit
  new=$(g commit-tree "$tree" ${head:+-p "$head"} -F - <"$tmp/message") || fail commit
  g update-ref -m "commit: gitmachine" HEAD "$new" "$head"
}

for attempt in 1 2 3; do
  stage_all
  [ -s "$tmp/raw" ] || [ -n "$operation" ] || { report ''; exit 0; }
  if [ -n "$hooks$operation" ]; then commit_with_git && break; fi
  commit_directly && break
  # The branch was moved by a command that still runs; its commit is ours to build on.
  [ "$attempt" != 3 ] || fail commit
done
report "$new"
"""
"""Arguments: ``auto`` or ``explicit``, tenths of a second to wait for the index, the message's length in bytes or "".
Standard input: the message; when its length was given, the paths to leave out after it, each ended by NUL.

Prints the new commit or an empty field; ``nested`` or ``errors`` when something was not added, else an empty field; how
many paths were not added; those paths; the raw difference.
"""

LOG = r"""
limit=$1 since=$2
open_repository
read_head
[ -n "$head" ] || exit 0
if [ -n "$since" ]; then set -- "$head" "^$since"; else set -- "$head"; fi
g log --no-show-signature --no-notes --no-color --no-mailmap --max-count="$limit" -z \
  --format='%H%x00%an%x00%ae%x00%at%x00%s%x00%b' "$@" -- || fail git
"""
"""Arguments: how many commits, and a revision to stop at or ""."""

DIVERGENCE = r"""
open_repository
read_head
other=$(g rev-parse -q --verify "$1^{commit}") || fail no-revision "$1"
field "$other"
if [ -n "$head" ]; then g rev-list --count --left-right "$head...$other" -- || fail git
else printf '0\t' && g rev-list --count "$other" -- || fail git; fi
"""
"""Argument: a revision. Prints its commit, then ahead and behind separated by a tab."""
