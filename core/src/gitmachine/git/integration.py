"""The scripts that move the session's branch: integrate what the remote has, and go back to a snapshot."""

from __future__ import annotations

__all__ = ["INTEGRATE", "RESTORE"]

INTEGRATE = r"""
upstream=$1 policy=$2 patience=$3
open_repository
scratch
other=$(g rev-parse -q --verify "$upstream^{commit}") || fail no-revision "$upstream"
read_operation
[ -z "$operation" ] || fail in-progress "$operation"
g ls-files -u -z >"$tmp/unmerged" || fail git
[ ! -s "$tmp/unmerged" ] || fail unmerged conflicts
read_head

# In a linked worktree without files: whatever happens there, the user's files, index and branch are not involved.
aside() { (cd -- "$tmp/aside" && g -c core.sparseCheckout=true -c core.sparseCheckoutCone=false \
  -c rerere.enabled=false -c rebase.updateRefs=false -c merge.autoStash=false "$@"); }

combine() {
  trap 'g worktree remove --force "$tmp/aside" >/dev/null 2>&1; rm -rf -- "$tmp"' EXIT
  g worktree add -q --detach --no-checkout -- "$tmp/aside" "$head" || fail git
  place=$(aside rev-parse --absolute-git-dir) && mkdir -p -- "$place/info" || fail git
  printf '/.gitmachine-no-files\n' >"$place/info/sparse-checkout"
  aside read-tree -m -u HEAD || fail git
  if [ "$policy" = merge ]; then
    aside merge -q --no-edit --no-verify --no-ff --commit --no-squash --no-stat \
      -m "Merge remote-tracking branch '${upstream#refs/remotes/}'" "$other"
  else
    merges=''
    [ -z "$(g rev-list --merges --max-count=1 "$other..$head" --)" ] || merges=--rebase-merges
    aside rebase -q --merge --no-verify --no-autostash --no-autosquash --no-fork-point --no-stat --no-gpg-sign \
      $merges "$other"
  fi >"$tmp/output" 2>&1 || {
    cat "$tmp/output" >&2
    aside diff --name-only --diff-filter=U -z >"$tmp/conflicts"
    [ -s "$tmp/conflicts" ] || fail git
    cat "$tmp/conflicts"
    fail conflict
  }
  new=$(aside rev-parse -q --verify HEAD) || fail git
}

if [ -z "$head" ]; then new=$other
elif g merge-base --is-ancestor "$other" "$head"; then field "$head" "$head"; exit 0
elif g merge-base --is-ancestor "$head" "$other"; then new=$other
else
  [ "$policy" != ff ] || fail diverged "$(g rev-list --count --left-right "$head...$other" --)"
  combine
fi
await_index "$patience"
# Tried on a copy first: uncommitted changes survive in place, and where they are in the way nothing is touched.
copy_index "$tmp/index"
try() (
  export GIT_INDEX_FILE="$tmp/index"
  g update-index -q --refresh >/dev/null
  g read-tree -n -m -u "$base" "$new"
)
# Git takes ignored files for expendable; a file that the user has and no commit holds is not.
g diff-tree -r --name-only -z --no-renames --diff-filter=A "$base" "$new" -- | xargs -0 sh -c '
  eval "$1"
  shift
  for added; do
    path=$added
    while :; do
      if [ -h "./$path" ] || { [ -e "./$path" ] && { [ "$path" = "$added" ] || [ ! -d "./$path" ]; }; }; then
        [ -n "$(g ls-files -- ":(top,literal)$path")" ] || printf "%s\0" "$path"
        break
      fi
      case $path in */*) path=${path%/*} ;; *) break ;; esac
    done
  done' sh "$library" >"$tmp/way" || fail git
if [ -s "$tmp/way" ] || ! try; then
  if [ -s "$tmp/way" ]; then cat "$tmp/way"
  else
    g ls-files -m -d -o -z --exclude-standard
    g diff-index --cached --name-only -z --no-renames "$base" --
  fi
  field //
  g diff-tree -r --name-only -z --no-renames "$base" "$new" --
  fail overlap
fi
g update-index -q --refresh >/dev/null
g read-tree -m -u "$base" "$new" || fail git
g update-ref -m "pull ($policy): gitmachine" HEAD "$new" "$head" || {
  g read-tree -m -u "$new" "$base"
  fail git
}
# A submodule that was where the old commit had it goes along when it has the new commit; otherwise the next commit of
# everything would take the pointer back.
g diff-tree -r --raw -z --no-renames --diff-filter=M "$base" "$new" -- >"$tmp/moved"
if tr '\0' '\n' <"$tmp/moved" | grep -q '^:160000 160000 '; then
  # Few at a time: a longer list could be split between a difference and its path.
  xargs -0 -n 20 sh -c '
    eval "$1"
    shift
    while [ $# -gt 1 ]; do
      was=${1#:160000 160000 }
      will=${was#* } was=${was%% *}
      if [ "$was" != "$1" ] && [ -e "./$2/.git" ]; then
        (cd -- "./$2" && find_repository && [ "$(g rev-parse -q --verify HEAD)" = "$was" ] &&
          g checkout -q --detach "${will%% *}" --) 2>/dev/null
      fi
      shift 2
    done' sh "$library" <"$tmp/moved"
fi
field "$head" "$new"
"""
"""Arguments: a revision, the policy, tenths of a second to wait for the index. Prints HEAD before and after."""

RESTORE = r"""
branch=$2 cap=$3 patience=$4
open_repository
scratch
target=$(g rev-parse -q --verify "$1^{commit}") || fail no-revision "$1"
parent=$(g rev-parse -q --verify "$target^1") || parent=''
await_index "$patience"
read_head
read_operation
copy_index "$tmp/before"
[ ! -e "$tmp/before" ] || cp -p -- "$tmp/before" "$tmp/index" || fail scratch
[ -z "$cap" ] || leave_out_large "$cap" || fail git
if [ -n "$cap" ] && [ -s "$tmp/large" ]; then
  # No snapshot holds these, so nothing may be put in their place.
  xargs -0 sh -c '
    eval "$1"
    target=$2
    shift 2
    for path; do ! g cat-file -e "$target:${path#./}" 2>/dev/null || printf "%s\0" "${path#./}"; done
  ' sh "$library" "$target" <"$tmp/large" >"$tmp/lost"
  [ ! -s "$tmp/lost" ] || { cat "$tmp/lost"; fail large; }
fi
if [ -s "$tmp/pathspecs" ]; then set -- --pathspec-from-file="$tmp/pathspecs" --pathspec-file-nul; else set --; fi
# An index that knows every file lets git itself replace and remove what differs, untracked files included.
(export GIT_INDEX_FILE="$tmp/index"; stage "$tmp/before" "$@" && g read-tree --reset -u "$target") || fail git
case $operation in
  rebase) g rebase --quit ;;
  am) g am --quit ;;
  cherry-pick | revert) g "$operation" --quit ;;
  bisect) g bisect reset HEAD >/dev/null 2>&1 ;;
esac
if [ -n "$branch" ]; then
  g symbolic-ref -m "rollback: gitmachine" HEAD "refs/heads/$branch" || fail git
fi
if [ -n "$parent" ]; then
  g reset -q --mixed --no-refresh "$parent" -- 2>/dev/null || g reset -q --mixed "$parent" -- || fail git
else
  g read-tree --empty || fail git
  [ -z "$head" ] || g update-ref -m "rollback: gitmachine" -d HEAD || fail git
fi
field "$parent"
"""
"""Arguments: a snapshot, the branch HEAD shall be on or "", the cap for untracked files or "", the patience."""
