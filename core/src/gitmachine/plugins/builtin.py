"""The core's own plugin: credentials from the host's git helpers, and commit messages that say what changed.

Both come last among the plugins, so anybody else's answer wins.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gitmachine.git.model import GitCredential
from gitmachine.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine.git.model import Change, Changes

__all__ = ["gitmachine_commit_message", "gitmachine_git_credentials"]

CREDENTIAL_SECONDS = 30.0
"""How long the host's credential helpers may take."""

MAX_NAMED_FILES = 3
"""How many files a summary names before it counts."""

MAX_NAME_CHARACTERS = 60
"""How much of a long path a summary shows: its end."""


@hookimpl(trylast=True)
def gitmachine_git_credentials(repository: str) -> GitCredential | None:
    """Ask the host's git credential helpers, without ever prompting; None when they know nothing."""
    description = _describe(repository)
    git = shutil.which("git")
    if description is None or git is None:
        return None
    answer = _fill(git, description)
    fields = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    if not fields.get("password"):
        return None
    return GitCredential(fields.get("username", ""), fields["password"])


@hookimpl(trylast=True)
def gitmachine_commit_message(changes: Changes, reason: str) -> str | None:
    """Summarise the changed files when ``GITMACHINE_COMMIT_SUMMARY=1`` asks for it, else pass."""
    if os.environ.get("GITMACHINE_COMMIT_SUMMARY", "").strip().lower() not in {"1", "true", "yes", "on"}:
        return None
    if not changes.files:
        return None
    subject = _summary(changes.files)
    return subject if reason == "explicit" else f"auto: {subject[0].lower()}{subject[1:]}"


def _describe(repository: str) -> str | None:
    """Return what `git credential` reads on its input, or None for what has no credentials to ask for."""
    try:
        url = urlsplit(repository)
        host, port = url.hostname, url.port
    except ValueError:
        return None
    if url.scheme not in {"http", "https"} or not host:
        return None
    if ":" in host:
        host = f"[{host}]"
    fields = {
        "protocol": url.scheme,
        "host": f"{host}:{port}" if port else host,
        "path": unquote(url.path).lstrip("/"),
        "username": unquote(url.username or ""),
    }
    # A line end inside a value would let a URL write fields of its own.
    if any(c in value for value in fields.values() for c in "\n\r\0"):
        return None
    return "".join(f"{name}={value}\n" for name, value in fields.items() if value) + "\n"


def _fill(git: str, description: str) -> str:
    """Run `git credential fill` away from any repository; "" when it fails or takes too long."""
    environ = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    environ |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "GCM_INTERACTIVE": "never", "LC_ALL": "C"}
    with tempfile.TemporaryDirectory(prefix="gitmachine-") as nowhere:
        environ["GIT_CEILING_DIRECTORIES"] = tempfile.gettempdir()
        with subprocess.Popen(
            [git, "credential", "fill"],
            cwd=nowhere,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # no terminal to prompt on, and one group to kill with its helpers
        ) as process:
            try:
                answer, _ = process.communicate(os.fsencode(description), timeout=CREDENTIAL_SECONDS)
            except subprocess.TimeoutExpired:
                return ""
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
    return answer.decode("utf-8", "surrogateescape") if process.returncode == 0 else ""


_REPOSITORY_VARIABLES = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_PREFIX",
        "GIT_TRACE",
        "GIT_TRACE_CURL",
        "GIT_TRACE_PACKET",
        "GIT_CURL_VERBOSE",
        "SSH_ASKPASS",
    }
)
"""What would tie git to the caller's repository, prompt, or print secrets."""


def _summary(files: Sequence[Change]) -> str:
    """Return one line such as ``Update a.py and b.py`` or ``Add 12 files, update 3``."""
    verbs = {"A": "add", "D": "delete"}
    counts = Counter(verbs.get(change.status, "update") for change in files)
    if len(counts) == 1 and len(files) <= MAX_NAMED_FILES:
        names = [_one_line(change.path) for change in files]
        named = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        text = f"{next(iter(counts))} {named}"
    else:
        text = ", ".join(f"{verb} {counts[verb]}" for verb in ("add", "update", "delete") if counts[verb])
        first, _, rest = text.partition(", ")
        text = f"{first} file{'' if first.endswith(' 1') else 's'}" + (f", {rest}" if rest else "")
    return text[0].upper() + text[1:]


def _one_line(path: str) -> str:
    """Return a path fit for a subject line: printable, and not endless."""
    text = "".join(c if c.isprintable() else "?" for c in path)
    return text if len(text) <= MAX_NAME_CHARACTERS else f"…{text[1 - MAX_NAME_CHARACTERS :]}"
