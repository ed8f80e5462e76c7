"""A remote, a machine and the transport between them, ready for a test of the git side."""

from __future__ import annotations

from pathlib import Path

from gitmachine.execution import ExecRequest
from gitmachine.git.credentials import credential_source
from gitmachine.git.host import Limits
from gitmachine.git.model import FoundRepository, GitOptions, Survey
from gitmachine.git.names import check_repository
from gitmachine.git.redaction import Redactor
from gitmachine.git.transport import Populated, Transport, TransportSetup, make_transport
from support.machines import FilesMachine, StreamMachine

QUICK = Limits(ask_seconds=30, idle_seconds=30, work_seconds=60, lock_seconds=60, direct_seconds=60)


class Bench:
    """One session's git side, without the session: what `AsyncGitMachine` does around it is done by hand."""

    def __init__(self, machine: FilesMachine, transport: Transport, root: Path) -> None:
        self.machine = machine
        self.transport = transport
        self.root = root
        self.path = f"{machine.workdir}/repo"

    async def sh(self, script: str, *, cwd: str | None = None, check: bool = True) -> str:
        """Run a script in the repository in the machine; returns its output without the final newline."""
        result = await self.machine.execute(ExecRequest(shell=script, cwd=cwd or self.path))
        if check:
            assert result.ok, result.stderr
        return result.stdout.rstrip("\n")

    async def begin(self, branch: str = "feat", base: str | None = None) -> Populated:
        """Open, populate, check the session branch out."""
        await self.transport.open()
        populated = await self.transport.populate(self.machine, self.path, branch=branch, base=base)
        await self.sh("git config --global user.name Ada && git config --global user.email ada@example.org")
        if populated.start_sha is None:
            await self.sh(f"git symbolic-ref HEAD refs/heads/{branch}")
        else:
            await self.sh(f"git checkout -q -b {branch} {populated.start_sha}")
        return populated

    async def commit(self, name: str, content: str = "work\n", *, message: str = "work") -> str:
        """Commit one file; returns the commit."""
        await self.machine.write_file(f"{self.path}/{name}", content)
        return await self.sh(f"git add -A && git commit -q -m '{message}' && git rev-parse HEAD")

    async def survey(self, *nested: str) -> Survey:
        """List the refs of the main repository and of nested ones."""
        refs = await self._refs(self.path)
        head = await self.sh("git rev-parse -q --verify HEAD", check=False)
        branch = await self.sh("git symbolic-ref -q --short HEAD", check=False)
        found = [FoundRepository(path=""), *(FoundRepository(path=path, kind="nested") for path in nested)]
        inside = {path: await self._refs(f"{self.path}/{path}") for path in nested}
        return Survey(
            head=head or None,
            branch=branch or None,
            tree="",
            refs=refs,
            repositories=tuple(found),
            nested_refs=inside,
        )

    async def _refs(self, path: str) -> dict[str, str]:
        listed = await self.sh("git for-each-ref --format='%(objectname) %(refname)'", cwd=path)
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name: sha for sha, name in pairs if not name.startswith("refs/remotes/origin/")}

    async def collect(self, *nested: str) -> Survey:
        """Bring all work to the host."""
        survey = await self.survey(*nested)
        await self.transport.collect(self.machine, self.path, survey)
        return survey


async def make_bench(
    root: Path,
    address: str,
    *,
    machine: type[FilesMachine] = StreamMachine,
    options: GitOptions | None = None,
    token: str | None = None,
    session_id: str = "s1",
    limits: Limits = QUICK,
) -> Bench:
    """Start a machine and make the transport for an address; whoever calls stops ``bench.machine``."""
    started = machine(root)
    await started.start()
    url = check_repository(address)
    redactor = Redactor()
    setup = TransportSetup(
        repository=url,
        options=options if options is not None else GitOptions(),
        credentials=credential_source(url, token, redactor=redactor),
        mirrors=root / "mirrors",
        sessions=root / "sessions",
        session_id=session_id,
        redactor=redactor,
        limits=limits,
    )
    return Bench(started, make_transport(setup, started), root)
