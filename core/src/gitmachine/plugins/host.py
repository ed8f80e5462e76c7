"""The plugins of one process or one GitMachine: loaded one by one, checked, reported."""

from __future__ import annotations

import inspect
import math
import os
import threading
import time
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from gitmachine import hookspecs
from gitmachine.errors import ConfigError, PluginLoadError
from gitmachine.plugins.discovery import PluginSource, find_plugins
from gitmachine.provider import normalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "HOOK_SECONDS",
    "SLOW_SECONDS",
    "TOO_SLOW_SECONDS",
    "Implementation",
    "PluginHost",
    "PluginReport",
    "PluginStatus",
]

SLOW_SECONDS = 2.0
"""How long an import may take, also on a loaded machine, before it is said that every command waits for it."""

TOO_SLOW_SECONDS = 10.0
"""How long an import may take before the plugin counts as broken: no loaded machine explains that."""

HOOK_SECONDS = 3600.0
"""How long a plugin may take in a hook: room for a test suite before a push, or for somebody who is asked."""


class PluginStatus(StrEnum):
    """What became of a plugin."""

    OK = "ok"
    SLOW = "slow"
    """It works, but its import kept everybody waiting."""
    BROKEN = "broken"
    DISABLED = "disabled"


@attrs.frozen(kw_only=True)
class PluginReport:
    """What became of one plugin.

    Attributes:
        name: the name it is registered under: the entry point's, or ``name@distribution`` when that was taken.
        distribution: what pip calls its package; None for a plugin registered by the program.
        version: the version of that package, or None.
        status: ok, slow, broken or disabled.
        cause: why it is not ok, in one sentence; "" when it is.
        hooks: the hooks it implements, sorted.
        seconds: how long its import took.
        error: the exception behind `cause`, or None.
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    status: PluginStatus = PluginStatus.OK
    cause: str = ""
    hooks: tuple[str, ...] = ()
    seconds: float = attrs.field(default=0.0, eq=False)
    error: BaseException | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def origin(self) -> str:
        """The package and its version for messages, or the plugin's own name."""
        if self.distribution is None:
            return f"plugin {self.name!r}"
        return f"{self.distribution} {self.version}" if self.version else self.distribution


@attrs.frozen
class Implementation:
    """One plugin's implementation of one hook."""

    report: PluginReport
    function: Callable[..., Any]
    argnames: tuple[str, ...]
    kwargnames: tuple[str, ...]

    @property
    def plugin(self) -> str:
        """The plugin's name."""
        return self.report.name

    def bind(self, values: Mapping[str, Any]) -> Callable[[], Any]:
        """Return the call with the arguments that the implementation takes."""
        positional = [values[name] for name in self.argnames]
        named = {name: values[name] for name in self.kwargnames if name in values}
        return lambda: self.function(*positional, **named)


class PluginHost:
    """Loads plugins and keeps them; there is no global one.

    Args:
        allow: names of the only plugins to load (entry point or distribution, separators and case folded); None
            allows all.
        disable: names of plugins not to load.
        strict: whether `load` raises when any plugin is broken.
        trace: whether each hook call is logged as one line on standard error.
        entry_points: the plugins to choose from; None finds the installed ones.
        options: what is configured for each plugin, by its name.
        hook_timeout: how many seconds each plugin may take in a hook of a session; None is no limit.

    Attributes:
        trace, hook_timeout: as given.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] | None = None,
        disable: Iterable[str] = (),
        strict: bool = False,
        trace: bool = False,
        entry_points: Iterable[PluginSource] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        hook_timeout: float | None = HOOK_SECONDS,
    ) -> None:
        self.hook_timeout = hook_timeout
        self._allow = None if allow is None else {normalize_name(name): name for name in allow}
        self._disable = {normalize_name(name) for name in disable}
        self._strict = strict
        self.trace = trace
        self._options = {normalize_name(name): dict(given) for name, given in (options or {}).items()}
        self._sources = None if entry_points is None else tuple(sorted(entry_points, key=lambda s: s.name))
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._specs = frozenset(name for name in dir(hookspecs) if name.startswith(f"{hookspecs.GROUP}_"))
        self._reports: dict[str, PluginReport] = {}
        self._known: dict[str, tuple[Implementation, ...]] = {}
        """The answers of `implementations`, since commands ask for them each time."""
        self.offers: dict[str, tuple[Any, ...]] = {}
        """What each plugin offers, kept here by `Registry`, so that each is asked once however many there are."""
        self._pending: list[PluginSource] | None = None
        self._loading = False
        self._lock = threading.RLock()  # a plugin's import may ask for the plugins again

    @classmethod
    def default(
        cls, environ: Mapping[str, str] = os.environ, *, options: Mapping[str, Mapping[str, Any]] | None = None
    ) -> PluginHost:
        """Make a host as the environment says, with the plugins' options.

        ``GITMACHINE_PLUGINS=a,b`` loads only these (empty: none), ``GITMACHINE_DISABLE_PLUGINS=x`` all but these,
        ``GITMACHINE_STRICT_PLUGINS=1`` makes a broken one fatal, ``GITMACHINE_TRACE_HOOKS=1`` logs each hook call,
        ``GITMACHINE_HOOK_TIMEOUT=60`` is how many seconds a plugin may take in a hook (0: as long as it likes).

        Raises:
            ConfigError: that is no number of seconds.
        """
        allow = environ.get("GITMACHINE_PLUGINS")
        return cls(
            allow=None if allow is None else _names(allow),
            disable=_names(environ.get("GITMACHINE_DISABLE_PLUGINS", "")),
            strict=_flag(environ.get("GITMACHINE_STRICT_PLUGINS")),
            trace=_flag(environ.get("GITMACHINE_TRACE_HOOKS")),
            options=options,
            hook_timeout=_seconds(environ.get("GITMACHINE_HOOK_TIMEOUT")),
        )

    def load(self) -> None:
        """Import and register every installed plugin that is allowed; does nothing the second time.

        Raises:
            PluginLoadError: in strict mode, naming every broken plugin.
        """
        with self._lock:
            if self._loading:
                return  # asked by a plugin that is being imported
            if not self.loaded:
                self._loading = True
                try:
                    self._load_all()
                finally:
                    self._loading = False
            if self._strict:
                self._raise_broken()

    @property
    def loaded(self) -> bool:
        """Whether `load` has nothing left to do."""
        return self._pending is not None and not self._pending

    @property
    def plugins(self) -> tuple[PluginReport, ...]:
        """What became of each plugin, sorted by name; loads them first when that was not done."""
        self.load()
        with self._lock:
            return tuple(sorted(self._reports.values(), key=lambda report: report.name))

    def options_of(self, plugin: str) -> Mapping[str, Any]:
        """Return what is configured for a plugin, by its name (separators and case folded)."""
        return dict(self._options.get(normalize_name(plugin), {}))

    def register(self, plugin: object, name: str) -> PluginReport:
        """Add a plugin that the program made: a module, or an object with methods marked with `hookimpl`.

        Raises:
            PluginLoadError: it is not a valid plugin, or the name is taken; nothing of it stays registered.
        """
        with self._lock:
            if name in self._reports:
                raise PluginLoadError(f"a plugin named {name!r} is registered already", plugin=name)
            try:
                hooks = self._register(plugin, name)
            except Exception as error:
                raise PluginLoadError(f"plugin {name!r} cannot be used: {_cause(error)}", plugin=name) from error
            self._reports[name] = PluginReport(name=name, hooks=hooks)
            self._known.clear()
            return self._reports[name]

    def implementations(self, hook: str) -> tuple[Implementation, ...]:
        """Return a hook's implementations in calling order; loads the plugins first when that was not done."""
        known = self._known.get(hook)
        if known is not None:
            return known
        self.load()
        with self._lock:
            if hook not in self._specs:
                raise ValueError(f"there is no hook {hook!r}")  # a mistake of ours, not of a plugin
            found = reversed(getattr(self._manager.hook, hook).get_hookimpls())
            known = tuple(
                Implementation(self._reports[impl.plugin_name], impl.function, impl.argnames, impl.kwargnames)
                for impl in found
            )
            if self.loaded and not self._loading:
                self._known[hook] = known
            return known

    def mark_broken(self, name: str, error: BaseException, cause: str) -> None:
        """Record that a loaded plugin turned out to be unusable, and call none of its hooks from now on."""
        with self._lock:
            self._known.clear()
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            self._reports[name] = attrs.evolve(
                self._reports[name], status=PluginStatus.BROKEN, cause=cause, error=error, hooks=()
            )

    def mark_conflict(self, name: str, cause: str) -> None:
        """Record that something a plugin offers cannot be used, because of another; its hooks are called as before."""
        with self._lock:
            self._reports[name] = attrs.evolve(self._reports[name], status=PluginStatus.BROKEN, cause=cause)

    def _load_all(self) -> None:
        if self._sources is None:
            self._sources = find_plugins()
        if self._pending is None:
            self._report_missing(self._sources)
            self._pending = list(self._sources)
        while self._pending:  # after an interrupt, the next call goes on where it struck
            self._load(self._pending[0])
            del self._pending[0]

    def _load(self, source: PluginSource) -> None:
        name = source.name
        if name in self._reports:
            name = f"{source.name}@{source.distribution}"
        report = PluginReport(name=name, distribution=source.distribution, version=source.version)
        reason = self._refusal(source)
        if reason:
            self._reports[name] = attrs.evolve(report, status=PluginStatus.DISABLED, cause=reason)
            return
        self._reports[name] = report  # before registering: another thread may ask for implementations
        try:
            began = time.perf_counter()
            plugin = source.load()
            report = _timed(report, time.perf_counter() - began)
            if report.seconds > TOO_SLOW_SECONDS:
                raise TimeoutError(report.cause)
            self._reports[name] = attrs.evolve(report, hooks=self._register(plugin, name))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin's import may raise anything
            self._reports[name] = attrs.evolve(report, status=PluginStatus.BROKEN, cause=_cause(error), error=error)
        except BaseException:
            del self._reports[name]  # interrupted: the next `load` tries it again
            raise

    def _refusal(self, source: PluginSource) -> str:
        names = {normalize_name(source.name)}
        if source.distribution is not None:
            names |= {normalize_name(source.distribution), normalize_name(f"{source.name}@{source.distribution}")}
        if self._allow is not None and not names & self._allow.keys():
            return "it is not among the plugins that are allowed (GITMACHINE_PLUGINS or plugins.enable)"
        if names & self._disable:
            return "it is disabled (GITMACHINE_DISABLE_PLUGINS or plugins.disable)"
        return ""

    def _register(self, plugin: object, name: str) -> tuple[str, ...]:
        """Register a plugin and return its hooks; on any error nothing of it stays."""
        self._check(plugin)
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except BaseException:
            if self._manager.get_plugin(name) is plugin:
                self._manager.unregister(name=name)
            raise
        return tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or ()))

    def _check(self, plugin: Any) -> None:
        """Refuse what pluggy would take but this host does not call, with the reason."""
        if plugin is None or inspect.isclass(plugin):
            raise TypeError(f"expected a module or an object with hook implementations, not {plugin!r}")
        if any(plugin is known for known in self._manager.get_plugins()):
            raise ValueError(f"the same plugin is registered already as {self._manager.get_name(plugin)!r}")
        for attribute in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, attribute)
            if options is None:
                if attribute in self._specs and self._manager.parse_hookspec_opts(plugin, attribute) is None:
                    raise TypeError(f"{attribute} is not marked: put @gitmachine.hookimpl above it")
                continue
            hook = options.get("specname") or attribute
            if options.get("wrapper") or options.get("hookwrapper"):
                raise TypeError(f"{hook} is a hook wrapper, which GitMachine does not call: remove wrapper=True")
            if hook not in self._specs and not options.get("optionalhook"):
                close = get_close_matches(hook, self._specs, n=1)
                hint = f"did you mean {close[0]}?" if close else "see docs/hooks.md for the hooks there are"
                raise TypeError(f"unknown hook {hook!r}: {hint}")

    def _report_missing(self, sources: Iterable[PluginSource]) -> None:
        if self._allow is None:
            return
        known = {normalize_name(name) for source in sources for name in (source.name, source.distribution or "")}
        known |= {normalize_name(f"{source.name}@{source.distribution}") for source in sources}
        for folded, name in self._allow.items():
            if folded not in known:
                self._reports[name] = PluginReport(
                    name=name, status=PluginStatus.BROKEN, cause="it is allowed by name but not installed"
                )

    def _raise_broken(self) -> None:
        broken = [report for report in self._reports.values() if report.status is PluginStatus.BROKEN]
        if broken:
            listing = "; ".join(f"{report.name} ({report.origin}): {report.cause}" for report in broken)
            raise PluginLoadError(
                f"broken plugins, and strict loading is on (GITMACHINE_STRICT_PLUGINS): {listing}",
                plugin=broken[0].name,
                distribution=broken[0].distribution,
                version=broken[0].version,
            ) from broken[0].error


def _timed(report: PluginReport, seconds: float) -> PluginReport:
    if seconds <= SLOW_SECONDS:
        return attrs.evolve(report, seconds=seconds)
    cause = f"its import took {seconds:.1f} s, for which every command waits: nothing should happen at import"
    return attrs.evolve(report, seconds=seconds, status=PluginStatus.SLOW, cause=cause)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _flag(text: str | None) -> bool:
    return (text or "").strip().lower() in {"1", "true", "yes", "on"}


def _seconds(text: str | None) -> float | None:
    if not (text or "").strip():
        return HOOK_SECONDS
    try:
        seconds = float(text or "")
    except ValueError:
        seconds = -1.0
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ConfigError(f"GITMACHINE_HOOK_TIMEOUT: expected a number of seconds (0 is no limit), not {text!r}")
    return seconds or None


def _cause(error: BaseException) -> str:
    """Say what went wrong in one line."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r}) while it was imported"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
