"""Rules of style that a linter does not know, read from the sources.

Time budget: 5 s.
"""

from __future__ import annotations

import ast
import re

CEILING_LINES = 400
BROAD = {"Exception", "BaseException"}


def _names(node: ast.expr | None) -> set[str]:
    if node is None:
        return {"BaseException"}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _has_reason(line: str) -> bool:
    """Tell whether a line ends in a comment with words in it (a bare noqa gives no reason)."""
    comment = "#".join(line.split("#")[1:])
    return len(re.sub(r"noqa: [A-Z0-9, ]+|type: ignore\[[a-z-, ]+\]", "", comment).strip(" #")) > 5


def test_no_module_is_longer_than_the_ceiling(shipped):
    long = {s.where(1): len(s.lines) for s in shipped if len(s.lines) > CEILING_LINES}
    assert long == {}


def test_every_module_says_what_it_is_for(shipped):
    assert [s.where(1) for s in shipped if not ast.get_docstring(s.tree)] == []


def test_no_broad_except_swallows_an_error_in_silence(shipped):
    wrong = []
    for source in shipped:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ExceptHandler) or not _names(node.type) & BROAD:
                continue
            if all(isinstance(statement, ast.Pass) for statement in node.body):
                wrong.append(f"{source.where(node.lineno)} swallows everything")
    assert wrong == []


def test_every_broad_except_gives_its_reason(shipped):
    wrong = []
    for source in shipped:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ExceptHandler) or not _names(node.type) & {"Exception"}:
                continue
            near = source.lines[node.lineno - 1 : node.body[0].lineno + 1]
            reraises = any(isinstance(part, ast.Raise) for part in ast.walk(node))
            if not reraises and not any("#" in line and _has_reason(line) for line in near):
                wrong.append(f"{source.where(node.lineno)} {source.lines[node.lineno - 1].strip()}")
    assert wrong == []


def test_every_suppressed_exception_class_is_narrow_or_has_a_reason(shipped):
    wrong = []
    for source in shipped:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("suppress"):
                continue
            line = source.lines[node.lineno - 1]
            if any(_names(argument) & BROAD for argument in node.args) and not _has_reason(line):
                wrong.append(f"{source.where(node.lineno)} {line.strip()}")
    assert wrong == []


def test_every_lint_ignore_has_a_reason_on_its_line(shipped):
    wrong = [
        f"{source.where(number)} {line.strip()}"
        for source in shipped
        for number, line in enumerate(source.lines, 1)
        if "# noqa" in line and not _has_reason(line)
    ]
    assert wrong == []


def test_nothing_shipped_is_unfinished(shipped):
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b|pragma: no cover")
    wrong = [
        source.where(number) for source in shipped for number, line in enumerate(source.lines, 1) if marks.search(line)
    ]
    assert wrong == []


def test_no_shell_reads_a_string_on_the_host(shipped):
    wrong = []
    for source in shipped:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.keyword) and node.arg == "shell" and ast.unparse(node.value) == "True":
                wrong.append(source.where(node.value.lineno))
            if isinstance(node, ast.Attribute) and node.attr in {"create_subprocess_shell", "getoutput", "popen"}:
                wrong.append(source.where(node.lineno))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.system":
                wrong.append(source.where(node.lineno))
    assert wrong == []


INTO_THE_SANDBOX = {"_payload", "boot"}
"""Modules of the local provider that hand our own compiled code to a sandbox, before anything else is in it."""


def test_no_object_is_deserialised_into_code_or_left_to_the_garbage_collector(shipped):
    wrong = []
    for source in shipped:
        refused = {"pickle", "shelve", "dill", "marshal"}
        if "gitmachine_local" in source.path.parts and source.path.stem in INTO_THE_SANDBOX:
            refused.remove("marshal")
        wrong += [source.where(i.line) for i in source.imports() if i.module in refused]
        wrong += [
            source.where(node.lineno)
            for node in ast.walk(source.tree)
            if isinstance(node, ast.FunctionDef) and node.name == "__del__"
        ]
    assert wrong == []


def test_modules_are_named_by_what_they_hold(shipped):
    empty_words = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "tools"}
    assert [s.where(1) for s in shipped if s.path.stem in empty_words] == []
