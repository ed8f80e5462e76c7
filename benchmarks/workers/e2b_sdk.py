"""E2B's own SDK: `commands.run` in a running sandbox."""

from e2b import Sandbox
from work import arguments, serve

given = arguments()
sandbox = Sandbox.connect(
    given["sandbox"], api_key=given["api_key"], api_url=given["api_url"], sandbox_url=given["sandbox_url"]
)


def work() -> None:
    if sandbox.commands.run(given["command"]).exit_code != 0:
        raise SystemExit("the command failed")


serve(work)
