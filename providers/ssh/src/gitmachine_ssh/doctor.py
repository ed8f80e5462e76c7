"""Whether SSH machines can work on a host: found out by logging in and making one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from gitmachine import AuthenticationError, Check, ConfigError, ExecRequest, GitMachineError
from gitmachine_ssh._errors import HostKeyError
from gitmachine_ssh._link import Link
from gitmachine_ssh._shells import Shells
from gitmachine_ssh.machine import SSHMachine

if TYPE_CHECKING:
    from gitmachine_ssh.config import SSHConfig

__all__ = ["doctor"]

TIMEOUT_SECONDS = 90.0
SLOW_LOGIN_SECONDS = 1.0


async def doctor(config: SSHConfig) -> list[Check]:
    """Look at the way to the host, at its login, and run a command in a real machine."""
    link = Link(config)
    try:
        checks = [await _connection(link)]
        if checks[-1].ok:
            checks.append(await _login(link, config))
    finally:
        await asyncio.shield(link.close())
    if all(check.ok for check in checks):
        checks.append(await _machine(config))
    return checks


async def _connection(link: Link) -> Check:
    try:
        line = await link.line()
    except (GitMachineError, OSError) as error:
        fix = "look at host, port and the network"
        if isinstance(error, HostKeyError):
            fix = "compare the fingerprint with the host's own before you accept it"
        elif isinstance(error, AuthenticationError):
            fix = "set user, identity_file or password, or add a key to the agent"
        elif isinstance(error, ConfigError):
            fix = "correct the configuration"
        return Check(name="connection", ok=False, detail=str(error), fix=fix)
    version = str(line.ssh.get_extra_info("server_version") or "an unnamed server")
    return Check(name="connection", ok=True, detail=f"logged in to {link.where} ({version})")


async def _login(link: Link, config: SSHConfig) -> Check:
    shells = Shells(link, config.shell)
    began = time.monotonic()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            answer = await shells.run(f"command -v {config.shell}", seconds=30, operation="doctor")
    except (GitMachineError, TimeoutError) as error:
        return Check(
            name="login", ok=False, detail=str(error), fix="look at the account's login shell and its rc files"
        )
    finally:
        await asyncio.shield(shells.close())
    took = time.monotonic() - began
    told = [f"{answer.stdout.decode('utf-8', 'replace').strip()} after {took:.1f} s"]
    if took > SLOW_LOGIN_SECONDS:
        told.append("its rc files are slow, which is paid once for each shell")
    if shells.noisy:
        told.append("its rc files print something, so files go over the shell and not over SFTP")
    return Check(name="login", ok=True, detail="; ".join(told))


async def _machine(config: SSHConfig) -> Check:
    machine = SSHMachine(config)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                await machine.start()
                result = await machine.execute(ExecRequest(argv=["git", "--version"], timeout=30))
                await machine.write_file("probe", b"ok")
                data = await machine.read_file("probe")
            finally:
                await machine.stop()
    except (GitMachineError, OSError) as error:
        return Check(name="machine", ok=False, detail=str(error), fix="see what is missing on the host")
    if result.exit_code != 0 or data != b"ok":
        said = f"git answered {result.stdout!r} and {result.stderr!r}"
        return Check(name="machine", ok=False, detail=said, fix="install git on the host")
    return Check(name="machine", ok=True, detail=f"a command ran in {config.base_dir} ({result.stdout.strip()})")
