"""From a request for a sandbox to one in which commands run, or none at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from gitmachine import AuthenticationError, MachineError, MachineStartError, QuotaError
from gitmachine_e2b import _births
from gitmachine_e2b._envd import Envd
from gitmachine_e2b._errors import PROBLEMS, PROVIDER, Broken, Refusal, machine_error
from gitmachine_e2b._hosts import Sandboxed, address_of
from gitmachine_e2b._shell import run_script

if TYPE_CHECKING:
    from gitmachine_e2b._api import ControlPlane
    from gitmachine_e2b._records import Sandbox
    from gitmachine_e2b.config import E2BConfig

READY_SECONDS = 30.0
READY_WAIT_SECONDS = 0.2
SCRIPT_SECONDS = 15.0
WHERE = "pwd && printf x"


async def begin(api: ControlPlane, config: E2BConfig, body: dict[str, Any]) -> tuple[Sandbox, Envd, str]:
    """Make a sandbox and return it, the way to its daemon, and its working directory; when that fails, there is none.

    Raises:
        Refusal: the service refused.
        Broken: it cannot be reached, or the sandbox cannot.
    """
    sandbox = await _births.create(api, body)
    try:
        known = Sandboxed.of(sandbox)
        if not known.has(0, 1, 0):
            text = f"its daemon is too old ({sandbox.envd_version}): build the template again"
            raise Refusal(text, status=200, code="failed_precondition")
        envd = Envd(address_of(config, known), seconds=config.seconds)
        try:
            return sandbox, envd, await find_workdir(envd)
        except BaseException:
            await envd.close()
            raise
    except BaseException:
        await asyncio.shield(_remove(api, sandbox.id))
        raise


async def _remove(api: ControlPlane, sandbox_id: str) -> None:
    with contextlib.suppress(*PROBLEMS):  # its timeout ends it, and the first error is what matters
        await api.kill(sandbox_id)


async def find_workdir(envd: Envd) -> str:
    """Return the directory where commands start, which the template chooses; waits for the daemon to be there."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            answer = await run_script(envd, WHERE, seconds=SCRIPT_SECONDS)
        except (Refusal, Broken) as problem:
            passes = isinstance(problem, Broken) or (problem.unreachable and not problem.sandbox_gone)
            if not passes or time.monotonic() > deadline:
                raise
            await asyncio.sleep(READY_WAIT_SECONDS)
        else:
            return os.fsdecode(answer.output).removesuffix("\nx") if answer.code == 0 else "/"


def start_error(problem: Exception, template: str, operation: str) -> MachineError:
    """Return why there is no sandbox, as one of GitMachine's errors."""
    ours = machine_error(problem, None, operation)
    if isinstance(ours, AuthenticationError | QuotaError):
        return ours
    advice = ""
    if isinstance(problem, Refusal) and problem.status in (400, 403, 404):
        advice = f"; the template was {template!r}"
    reason = problem.reason if isinstance(problem, Broken) else str(problem)
    status = f" (HTTP {problem.status})" if isinstance(problem, Refusal) and problem.status != 200 else ""
    return MachineStartError(
        f"the E2B sandbox did not start: {reason}{status}{advice}", provider=PROVIDER, operation=operation
    )
