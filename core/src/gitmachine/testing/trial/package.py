"""A check of an installed plugin's package: it is found, loads cheaply, its hooks are valid, its errors are ours."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from gitmachine.plugins.discovery import find_plugins
from gitmachine.provider import Check, normalize_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gitmachine.plugins.discovery import PluginSource

__all__ = ["CHECKS", "HEAVY", "SLOW_SECONDS", "check_plugin_package"]

CHECKS = {
    "installed": "a distribution of this name has an entry point in the group gitmachine",
    "entry-point": "the entry point can be imported",
    "light": "importing it loads nothing heavy",
    "quick": "importing it takes no time",
    "hooks": "each marked function is a hook with the right arguments, and it implements at least one",
    "providers": "each provider's references lead somewhere, and nobody else has its name",
    "errors": "every module can be imported, and every public exception is a GitMachineError",
}
"""What is checked, by the check's name."""

HEAVY = frozenset(
    {"asyncio", "ctypes", "email", "http", "logging.config", "multiprocessing", "sqlite3", "ssl", "tkinter", "unittest"}
    | {"urllib.request", "xml", "gitmachine.session", "gitmachine.sync", "gitmachine.cli"}
)
"""Modules that a plugin's import must not load, with everything in them; other people's packages are added to these."""

SLOW_SECONDS = 2.0
"""More than any import of nothing heavy takes, also on a loaded machine."""

_FREE = frozenset({"gitmachine", "attr", "attrs", "pluggy", "typing_extensions"})
_PROBE_SECONDS = 120


def check_plugin_package(name: str, *, allowed: Collection[str] = ()) -> tuple[Check, ...]:
    """Return what there is to say about an installed plugin's package, good and bad; nothing is raised.

    The plugin is loaded in a fresh interpreter, so it does not matter what this one has imported.

    Args:
        name: the name of the entry point or of the distribution.
        allowed: packages that the plugin may import when it is loaded, although they are not the standard library's.
    """
    folded = normalize_name(name)
    found = [s for s in find_plugins() if folded in {normalize_name(s.name), normalize_name(s.distribution or "")}]
    if not found:
        return (
            _bad(
                "installed", f"no plugin {name!r} is installed", "pip install its package, and look at its entry points"
            ),
        )
    return tuple(check for source in found for check in _checks(source, allowed))


def _checks(source: PluginSource, allowed: Collection[str]) -> Iterator[Check]:
    origin = f"{source.name} = {source.reference} ({source.distribution} {source.version})"
    if source.reference is None:
        yield _bad("installed", f"{origin}: its metadata cannot be read", "install it again")
        return
    yield Check(name="installed", ok=True, detail=origin)
    answer = _probe(source)
    if answer["error"]:
        yield _bad(
            "entry-point", f"{source.reference}: {answer['error']}", "correct the entry point or what it imports"
        )
        return
    yield Check(name="entry-point", ok=True, detail=source.reference)
    yield _light(source, answer, allowed)
    seconds = answer["seconds"]
    yield _verdict(
        "quick",
        [f"importing {source.reference} took {seconds:.1f} s"] if seconds > SLOW_SECONDS else [],
        "do nothing at import: neither work nor waiting",
        f"{seconds * 1000:.0f} ms",
    )
    problems = [answer["cause"]] if answer["cause"] else [] if answer["hooks"] else ["it implements no hook"]
    yield _verdict("hooks", problems, "see docs/hooks.md for names and arguments", ", ".join(answer["hooks"]))
    yield _verdict("providers", answer["faults"], "correct its ProviderSpec", ", ".join(answer["providers"]) or "none")
    yield _verdict("errors", answer["foreign"], "derive it from GitMachineError, or make it private", "all ours")


def _light(source: PluginSource, answer: dict[str, Any], allowed: Collection[str]) -> Check:
    own = (source.reference or "").partition(":")[0].partition(".")[0].strip()
    free = {*_FREE, own, *allowed}
    heavy = set()
    for module in answer["modules"]:
        top = module.partition(".")[0]
        known = next((name for name in HEAVY if f"{module}.".startswith(f"{name}.")), None)
        if known is not None and known not in allowed:
            heavy.add(known)
        elif top not in free and top not in sys.stdlib_module_names and not top.startswith("_sysconfigdata"):
            heavy.add(top)
    heavy |= {module for module in answer["eager"] if module in answer["modules"]}
    return _verdict(
        "light",
        [f"importing {source.reference} loads {', '.join(sorted(heavy))}"] if heavy else [],
        "import it in the function that needs it; a provider's factory is a string for this reason",
        f"{len(answer['modules'])} modules",
    )


def _probe(source: PluginSource) -> dict[str, Any]:
    question = {
        "path": sys.path,
        "reference": source.reference,
        "name": source.name,
        "distribution": source.distribution,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gitmachine.testing.probe"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it was not loaded within {_PROBE_SECONDS} s"}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"error": f"the interpreter that loaded it failed: {last}"}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _verdict(name: str, problems: Collection[str], fix: str, detail: str) -> Check:
    return _bad(name, "; ".join(problems), fix) if problems else Check(name=name, ok=True, detail=detail)


def _bad(name: str, detail: str, fix: str) -> Check:
    return Check(name=name, ok=False, detail=detail, fix=fix)
