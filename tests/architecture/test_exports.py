"""The public façade: its lists agree, each name can be had, every error is there and drawn in the tree.

Time budget: 5 s.
"""

from __future__ import annotations

import ast
import re

import pytest

import gitmachine
from gitmachine import errors


def _facade(core):
    return next(source for source in core if source.name == "gitmachine")


def _typed_imports(core) -> dict[str, str]:
    """Return name → module, as the type checker sees the façade."""
    block = next(
        node
        for node in _facade(core).tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _error_classes(cls=errors.GitMachineError):
    yield cls
    for sub in cls.__subclasses__():
        if sub.__module__ == "gitmachine.errors":
            yield from _error_classes(sub)


def test_all_is_sorted_and_without_duplicates():
    assert list(gitmachine.__all__) == sorted(set(gitmachine.__all__))


@pytest.mark.parametrize("name", gitmachine.__all__)
def test_each_exported_name_can_be_had(name):
    assert getattr(gitmachine, name) is not None


def test_what_the_type_checker_sees_is_what_is_loaded(core):
    loaded = {name: f"gitmachine.{home}" for name, home in gitmachine._HOMES.items()}
    assert _typed_imports(core) == loaded
    assert set(gitmachine.__all__) == {*loaded, "__version__"}


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = gitmachine.no_such_name


def test_the_interfaces_users_rely_on_are_there():
    promised = """AsyncGitMachine Capability ExecRequest ExecResult GitIdentity GitMachine GitOptions Machine
        MachineState Process ProviderSpec create_machine hookimpl load_config providers"""
    assert set(promised.split()) <= set(gitmachine.__all__)


def test_every_error_class_is_exported():
    names = {cls.__name__ for cls in _error_classes()}
    assert names <= set(errors.__all__)
    assert names <= set(gitmachine.__all__)


def test_the_error_tree_in_the_docstring_is_the_real_one():
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 3
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else ""
    real = {cls.__name__: cls.__bases__[0].__name__ for cls in _error_classes()}
    real["GitMachineError"] = ""
    assert drawn == real


def test_public_modules_declare_what_they_export(core):
    wrong = []
    for source in core:
        public = not any(part.startswith("_") for part in source.name.split("."))
        if not public or source.path.name == "__init__.py" or ".cli" in source.name:
            continue
        declared = [
            node
            for node in source.tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if not declared:
            wrong.append(f"{source.where(1)} has no __all__")
            continue
        names = ast.literal_eval(declared[0].value)
        defined = {
            target
            for node in source.tree.body
            for target in (
                [node.name]
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                else [ast.unparse(t) for t in node.targets]
                if isinstance(node, ast.Assign)
                else [ast.unparse(node.target)]
                if isinstance(node, ast.AnnAssign)
                else [alias.asname or alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if set(names) - defined:
            wrong.append(f"{source.where(1)} exports what it does not define: {sorted(set(names) - defined)}")
    assert wrong == []
