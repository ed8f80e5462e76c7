"""`PluginConformance`: what every plugin's package does, as tests that its author inherits."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gitmachine.errors import GitMachineError
from gitmachine.testing.kit.behaviour import ConformanceFailure
from gitmachine.testing.trial.package import check_plugin_package
from gitmachine.testing.trial.session import PluginSession, plugin_session

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gitmachine.provider import Check

__all__ = ["PluginConformance"]


class PluginConformance:
    """Everything a plugin's package does: inherit it, name the package, and run pytest.

    ::

        from gitmachine.testing import PluginConformance


        class TestMyPlugin(PluginConformance):
            package = "my-plugin"

    Attributes:
        package: the name of the distribution, or of the entry point; it has to be installed.
        allowed_imports: other people's packages that it may import when it is loaded.
    """

    package: ClassVar[str] = ""
    allowed_imports: ClassVar[Collection[str]] = ()

    _found: ClassVar[tuple[Check, ...] | None] = None

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        cls._found = None

    def exercise(self, session: PluginSession) -> None:
        """Do in a session what brings the plugin's hooks about; override it for what an ordinary one does not do.

        A refusal, such as a vetoed command, is a plugin's right and no failure.
        """
        steps: list[Callable[[], object]] = [
            lambda: session.run("echo work > kit.txt"),
            lambda: session.run(["sh", "-c", "exit 3"]),
            session.gm.commit,
            session.gm.push,
            session.gm.pause,
            session.gm.resume,
            lambda: session.run("echo more >> kit.txt"),
        ]
        for step in steps:
            with contextlib.suppress(GitMachineError):
                step()

    def test_it_is_installed_with_an_entry_point(self) -> None:
        """A distribution of this name has an entry point in the group ``gitmachine``."""
        self._good("installed")

    def test_its_entry_point_can_be_imported(self) -> None:
        """Nothing is missing, and nothing is raised."""
        self._good("entry-point")

    def test_its_import_loads_nothing_heavy(self) -> None:
        """Every ``gitmachine`` command imports every plugin, so what one does there, all pay."""
        self._good("light")

    def test_its_import_takes_no_time(self) -> None:
        """Neither work nor waiting happens at import."""
        self._good("quick")

    def test_its_hooks_are_valid(self) -> None:
        """Each marked function is a hook, with arguments that the hook has."""
        self._good("hooks")

    def test_its_providers_lead_somewhere(self) -> None:
        """What a `ProviderSpec` names can be imported, and nobody else offers the name."""
        self._good("providers")

    def test_its_errors_are_ours(self) -> None:
        """Users catch `GitMachineError`: a public exception that is none escapes them."""
        self._good("errors")

    def test_its_hooks_raise_nothing_but_our_errors_in_a_session(self) -> None:
        """Anything else is a mistake: an observer's is only logged, but any other hook's stops the session."""
        with tempfile.TemporaryDirectory(prefix="gmk-", ignore_cleanup_errors=True) as folder:
            session = self._session(Path(folder))
        wrong = [
            f"{call.hook}: {type(call.error).__name__}: {call.error}"
            for call in session.calls
            if call.error is not None and not isinstance(call.error, GitMachineError)
        ]
        self._fail_for(wrong)

    def _session(self, folder: Path) -> PluginSession:
        kept: list[PluginSession] = []
        with contextlib.suppress(GitMachineError), plugin_session(self.package, folder, start=False) as session:
            kept.append(session)
            session.gm.start()
            self.exercise(session)
        if not kept:
            raise ConformanceFailure(f"{self.package!r} cannot be used in a session: see the other tests")
        return kept[0]

    def _good(self, name: str) -> None:
        cls = type(self)
        if not cls.package:
            raise ConformanceFailure(f"{cls.__name__} has no package: name the distribution that it is about")
        if cls._found is None:
            cls._found = check_plugin_package(cls.package, allowed=cls.allowed_imports)
        looked_at = [check for check in cls._found if check.name == name]
        if not looked_at:
            reason = next(check.detail for check in cls._found if not check.ok)
            raise ConformanceFailure(f"this could not be looked at: {reason}")
        self._fail_for([f"{check.detail}: {check.fix}" for check in looked_at if not check.ok])

    def _fail_for(self, problems: list[str]) -> None:
        if problems:
            raise ConformanceFailure("; ".join(problems))
