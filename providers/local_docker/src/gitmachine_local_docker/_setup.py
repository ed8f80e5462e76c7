"""What a new container is given: a directory and a home for its user, and git where it has none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from gitmachine import MachineStartError
from gitmachine_local_docker._errors import PROVIDER

if TYPE_CHECKING:
    from gitmachine import ExecResult

__all__ = ["INSTALL_GIT", "INSTALL_SECONDS", "SETUP", "Profile", "announced", "no_git", "prepared", "profile"]

INSTALL_SECONDS = 900.0

# Run by root. $1 the container's user as Docker takes it (name or uid, with :group or without), $2 the working
# directory, $3 whether that is a volume of ours. Prints the uid, whether there is git, how often memory ran out, the
# home.
SETUP = """\
LC_ALL=C; export LC_ALL
user=${1%%:*}; group=; case $1 in *:*) group=${1#*:};; esac
[ -n "$user" ] || user=0
uid= gid= home=
while IFS=: read -r n _ u g _ h _; do
  if [ "$n" = "$user" ] || [ "$u" = "$user" ]; then uid=$u gid=$g home=$h; break; fi
done </etc/passwd 2>/dev/null
known() { case $1 in *[!0-9]*) echo "the image has no $2 $1" >&2; exit 1 ;; esac; }
[ -n "$uid" ] || { known "$user" user; uid=$user; }
if [ -n "$group" ]; then
  gid=$group
  while IFS=: read -r n _ g _; do
    if [ "$n" = "$group" ]; then gid=$g; break; fi
  done </etc/group 2>/dev/null
  known "$gid" group
fi
if [ ! -d "$2" ]; then mkdir -p -- "$2" && chown "$uid:${gid:-0}" "$2" || exit 1
elif [ "$3" = 1 ]; then chown "$uid:${gid:-0}" "$2" || exit 1; fi
if [ -z "$home" ] || [ ! -d "$home" ] || [ ! -w "$home" ] || [ "$(stat -c %u -- "$home" 2>/dev/null)" != "$uid" ]; then
  home=$2
fi
git=no
if command -v git >/dev/null 2>&1; then
  git=yes
  # Whose files they are says nothing in a container that has one user; and mounted trees belong to anybody.
  grep -q '^\\[safe\\]' /etc/gitconfig 2>/dev/null || printf '[safe]\\n\\tdirectory = *\\n' >>/etc/gitconfig 2>/dev/null
fi
kills=$(cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null | grep '^oom_kill ')
printf '%s\\n%s\\n%s\\n%s\\n' "$uid" "$git" "${kills#* }" "$home"
"""

INSTALL_GIT = """\
DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
has() { command -v "$1" >/dev/null 2>&1; }
if has apt-get; then apt-get update -qq && apt-get install -qq -y --no-install-recommends git ca-certificates
elif has apk; then apk add --no-cache git
elif has dnf; then dnf install -y git-core || dnf install -y git
elif has microdnf; then microdnf install -y git-core || microdnf install -y git
elif has yum; then yum install -y git
elif has zypper; then zypper --non-interactive install git-core
elif has pacman; then pacman -Sy --noconfirm git
else echo "it has none of apt-get, apk, dnf, microdnf, yum, zypper, pacman" >&2; exit 1
fi >&2
command -v git >/dev/null
"""


_ANNOUNCED = "( {setup})\nprintf '\\036%s\\n' \"$?\"\n{main}"
_END = re.compile(rb"\x1e(\d+)\n\Z")


def prepared(main: str, *words: str) -> list[str]:
    """Return the container's command: `SETUP` with its words, its exit code for `announced`, then the main script.

    An exec of its own would cost as much as starting the container. Whatever `SETUP` finds wrong, the container stays
    up, for somebody to say it.
    """
    return ["sh", "-c", _ANNOUNCED.format(setup=SETUP, main=main), "sh", *words]


def announced(output: bytes) -> tuple[bool, Profile | None]:
    """Return whether the output of `prepared` is all there, and what it says; None when `SETUP` failed."""
    end = _END.search(output)
    if end is None:
        return False, None
    lines = output[: end.start()].decode("utf-8", "surrogateescape").split("\n", 3)
    return True, _profile(lines) if end[1] == b"0" and len(lines) == 4 else None


@attrs.frozen(kw_only=True)
class Profile:
    """What is known of a container from inside.

    Attributes:
        uid: the number of the user that commands run as.
        home: a directory that is the user's.
        git: whether there is git.
        oom_kills: how often the kernel has killed for want of memory.
        user: that user, as Docker takes it.
        workdir: the directory that commands start from.
    """

    uid: str
    home: str
    git: bool
    oom_kills: int = 0
    user: str = ""
    workdir: str = ""


def profile(result: ExecResult) -> Profile:
    """Return what `SETUP` found.

    Raises:
        MachineStartError: it failed.
    """
    lines = result.stdout.split("\n", 3)
    if result.exit_code != 0 or len(lines) != 4:
        said = " ".join(result.stderr.split()) or f"exit code {result.exit_code}"
        message = f"the container cannot be prepared: {said}: give another `workdir`, or another `user`"
        raise MachineStartError(message, provider=PROVIDER, operation="start")
    return _profile(lines)


def _profile(lines: list[str]) -> Profile:
    uid, git, kills, home = lines
    count = int(kills) if kills.isdecimal() else 0
    return Profile(uid=uid, git=git == "yes", oom_kills=count, home=home.removesuffix("\n"))


def no_git(image: str, result: ExecResult | None = None) -> MachineStartError:
    """Return the error for an image without git; `result` is that of a try to install it."""
    if result is None:
        message = (
            f'the image {image!r} has no git: take one that has it, add it to the image, or set git = "install" to '
            "have it installed at each start"
        )
    else:
        said = " ".join(result.stderr[-1000:].split())
        message = f"the image {image!r} has no git, and installing it failed: {said}: it needs a network"
    return MachineStartError(message, provider=PROVIDER, operation="start")
