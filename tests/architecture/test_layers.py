"""Who may import whom, read from the sources.

Time budget: 5 s.
"""

from __future__ import annotations

import ast

LAYERS = [
    {
        "archives",
        "clock",
        "errors",
        "execution",
        "events",
        "machine",
        "outcomes",
        "output",
        "pipes",
        "provider",
        "pump",
        "streams",
        "transfers",
    },
    {"hookspecs", "git"},
    {"machines", "state", "plugins", "config"},
    {"catalog", "session", "steps", "upkeep"},
    {"sync", "_portal"},
    {"cli", "__main__", "testing"},
]
"""From the bottom up; a room imports its own layer or a lower one."""

HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

ONLY_IN = {
    "click": {"cli"},
    "rich": {"cli"},
    "sqlite3": {"state"},
    "platformdirs": {"state", "config"},
    "pluggy": {"plugins", "hookspecs"},
    "cattrs": {"config"},
}
"""Libraries that one room hides from the others."""

PROGRAM_RUNNERS = {"git", "plugins.builtin", "cli", "testing"}
"""Rooms (or modules) of the core that start programs on the host; everything else asks a machine."""


def room(name: str) -> str:
    """Return the part of a module's name after ``gitmachine.``, up to the next dot ("" for the package itself)."""
    return name.split(".")[1] if "." in name else ""


def targets(source):
    """Yield the modules of the core that a source imports, whichever way it is spelled."""
    for imported in source.imports():
        top = imported.module.split(".")[0]
        if top == "gitmachine":
            if imported.module == "gitmachine" and imported.name is not None:
                yield f"gitmachine.{imported.name}", imported.line
            else:
                yield imported.module, imported.line


def test_every_room_of_the_core_has_a_layer(core):
    rooms = {room(source.name) for source in core} - {""}
    assert rooms <= set(HEIGHT), f"say in LAYERS where these belong: {sorted(rooms - set(HEIGHT))}"


def test_a_module_imports_its_own_layer_or_a_lower_one(core):
    wrong = []
    for source in core:
        if source.name == "gitmachine":
            continue
        own = HEIGHT[room(source.name)]
        for target, line in targets(source):
            height = HEIGHT.get(room(target))
            if height is not None and height > own:
                wrong.append(f"{source.where(line)} imports {target}, a layer above it")
    assert wrong == []


def test_no_module_of_the_core_goes_through_the_facade(core):
    # It would load names lazily in the middle of their own import, and hide which room is meant.
    wrong = []
    for source in core:
        for imported in source.imports():
            facade = imported.module == "gitmachine" and imported.name not in {None, *HEIGHT, "__version__"}
            if facade and source.name != "gitmachine":
                wrong.append(f"{source.where(imported.line)} imports {imported.name} from the façade")
    assert wrong == []


def test_the_facade_imports_nothing_at_run_time_but_the_standard_library(core):
    facade = next(source for source in core if source.name == "gitmachine")
    at_run_time = [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in facade.tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert set(at_run_time) <= {"__future__", "importlib", "typing"}


def test_libraries_stay_in_the_room_that_hides_them(core):
    wrong = []
    for source in core:
        for imported in source.imports():
            rooms = ONLY_IN.get(imported.module.split(".")[0])
            if rooms is not None and room(source.name) not in rooms:
                wrong.append(f"{source.where(imported.line)} imports {imported.module}, which belongs in {rooms}")
    assert wrong == []


def test_installed_distributions_are_looked_up_in_one_module(shipped):
    found = {
        source.name
        for source in shipped
        for imported in source.imports()
        if imported.module.split(".")[0] == "importlib_metadata"
        or imported.module == "importlib.metadata"
        or (imported.module == "importlib" and imported.name == "metadata")
    }
    assert len(found) == 1, found
    assert found.pop().startswith("gitmachine.plugins.")


def test_programs_are_started_only_where_that_is_the_work(core):
    wrong = []
    for source in core:
        name = source.name.removeprefix("gitmachine.")
        if room(source.name) in PROGRAM_RUNNERS or name in PROGRAM_RUNNERS:
            continue
        wrong += [source.where(i.line) for i in source.imports() if i.module.split(".")[0] == "subprocess"]
        wrong += [
            source.where(node.lineno)
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Attribute) and node.attr in {"create_subprocess_exec", "subprocess_exec", "Popen"}
        ]
    assert wrong == []


def test_the_core_never_names_a_provider(core):
    wrong = []
    for source in core:
        wrong += [source.where(i.line) for i in source.imports() if i.module.startswith("gitmachine_")]
        wrong += [
            f"{source.where(node.lineno)} {node.value!r}"
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("gitmachine_l")
        ]
    assert wrong == []


def test_providers_and_plugins_import_only_public_names_of_the_core_and_never_each_other(providers, plugins):
    wrong = []
    for source in providers + plugins:
        own = source.name.split(".")[0]
        for imported in source.imports():
            top, *rest = imported.module.split(".")
            if top.startswith("gitmachine_") and top != own:
                wrong.append(f"{source.where(imported.line)} imports another distribution, {top}")
            if top == "gitmachine" and any(part.startswith("_") for part in [*rest, imported.name or ""]):
                wrong.append(f"{source.where(imported.line)} imports {imported.module}.{imported.name}")
    assert wrong == []
