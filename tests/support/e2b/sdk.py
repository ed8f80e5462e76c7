"""The official SDK in environments of its own, one per version, kept between runs outside the repository.

`python -m support.e2b.sdk` makes them all. What else they contain is pinned by `tests/emulator/sdk-<version>.txt`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import platformdirs

VERSIONS = ("2.63.0", "2.45.1")
_PINS = Path(__file__).resolve().parents[2] / "emulator"
_INSTALL_SECONDS = 240.0


class UnavailableError(Exception):
    """The SDK cannot be installed here."""


def cache() -> Path:
    """Return where environments are kept: the user's cache, or beside temporary files for who has none."""
    home = platformdirs.user_cache_path("gitmachine-tests")
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        home = Path(tempfile.gettempdir(), f"gitmachine-tests-{os.getuid()}")
        home.mkdir(mode=0o700, exist_ok=True)
    return home


def python(version: str) -> Path:
    """Return the interpreter of an environment with this version of the SDK; makes it when it is not there.

    Raises:
        UnavailableError: it could not be installed; the message has the installer's last words.
    """
    pins = _PINS / f"sdk-{version}.txt"
    key = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache()
    place = home / f"e2b-{version}-{key}"
    program = place / "bin" / "python"
    with (home / f"e2b-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers that come at the same time wait for the first
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            venv.create(place, with_pip=False, symlinks=True)
            _install(program, pins, version)
            (place / "complete").touch()
    return program


def _install(program: Path, pins: Path, version: str) -> None:
    argv = [sys.executable, "-m", "pip", "--python", str(program), "--disable-pip-version-check", "install", "-q"]
    argv += ["--constraint", str(pins), f"e2b=={version}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"installing e2b {version} took more than {_INSTALL_SECONDS:g} s") from error
    if done.returncode != 0:
        raise UnavailableError(f"e2b {version} cannot be installed: {done.stderr.strip()[-300:]}")


def missing() -> str | None:
    """Return why the SDKs are not to be had, or None; installs them."""
    try:
        for version in VERSIONS:
            python(version)
    except (UnavailableError, OSError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(missing())
