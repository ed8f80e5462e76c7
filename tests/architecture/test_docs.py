"""The documentation is true: links lead somewhere, examples run, every public name is explained.

An example runs unless its fence says ``no-run``. The examples of one page run in order, in one interpreter, in a
directory that has a bare repository ``my-agent.git`` and a ``gitmachine.toml``; console lines that begin with ``$`` run
in a shell there.
Time budget: 90 s.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import click
import pytest

import gitmachine
from gitmachine.cli.app import cli
from gitmachine.cli.options import Invocation
from support.repos import make_remote

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "core/*.md", "providers/*/*.md", "plugins/*/*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
ELSEWHERE = {"docs/hooks.md"}  # its examples are plugins: tests/core/plugins tries them
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@attrs.frozen
class Block:
    """One fenced block: its language, its flags, its text and the line it starts on."""

    language: str
    flags: frozenset[str]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, *flags = match["info"].split() or [""]
        found.append(Block(language, frozenset(flags), match["body"], text.count("\n", 0, match.start()) + 2))
    return found


def runnable(page: Path, language: str) -> list[Block]:
    if named(page) in ELSEWHERE:
        return []
    return [block for block in blocks(page) if block.language == language and "no-run" not in block.flags]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, by the rule that git hosts use."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", title.lower())
        found.add(kept.replace(" ", "-"))
    return found


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Return a directory with the repository and the configuration that the examples use."""
    make_remote(tmp_path / "my-agent.git", commits=5)
    (tmp_path / "gitmachine.toml").write_text('provider = "local"\nrepository = "my-agent.git"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=110, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, f"{argv[-1]}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    return done


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_of_a_page_leads_somewhere(page):
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in LINK.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in anchors(other)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_python_and_toml_block_of_a_page_parses(page):
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text, filename=f"{named(page)}:{block.line}")
        elif block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.requires("sandbox")
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page, "python")], ids=named)
def test_the_python_examples_of_a_page_run(page, place):
    # Empty lines first, so that a traceback names the line of the page.
    script, line = "", 1
    for block in runnable(page, "python"):
        script += "\n" * (block.line - line) + block.text
        line = block.line + block.text.count("\n")
    (place / "examples.py").write_text(script, encoding="utf-8")
    run([sys.executable, "-W", "error", "examples.py"])


@pytest.mark.requires("sandbox")
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page, "console")], ids=named)
def test_the_commands_of_a_page_run(page, place):
    for block in runnable(page, "console"):
        for command, printed in spoken(block):
            done = run(["sh", "-ec", command])
            assert printed in ("", done.stdout), f"{named(page)}: {command}"


def spoken(block: Block) -> list[tuple[str, str]]:
    """Return each command of a console and what the page says that it prints."""
    text = block.text.replace("\\\n", " ")
    return [
        (command.rstrip("\n"), printed)
        for command, printed in re.findall(r"^\$ (.+\n?)((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    ]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "gitmachine " in page.read_text(encoding="utf-8")], ids=named
)
def test_every_command_line_of_a_page_is_one_that_is_understood(page):
    for block in blocks(page):
        if block.language == "console":
            for command, _printed in spoken(block):
                for words in invocations(command):
                    understand(words, f"{named(page)}:{block.line}: {command}")


def test_a_command_line_that_is_not_understood_is_noticed():
    assert invocations('eval "$(gitmachine completion bash)"') == [["completion", "bash"]]
    assert invocations("echo 2 | gitmachine cp - f:two   # to it") == [["cp", "-", "f:two"]]
    assert invocations("E=1 gitmachine ls > x && gitmachine gc") == [["ls"], ["gc"]]
    understand(["rescue", "push", "NAME"], "here")
    for words in (["lss"], ["ls", "--al"], ["exec", "a"], ["cache", "prun"]):
        with pytest.raises(AssertionError, match="here"):
            understand(words, "here")


def invocations(command: str) -> list[list[str]]:
    """Return the words of each call of ``gitmachine`` in a line for the shell, substitutions included."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    found: list[list[str]] = []
    current: list[str] | None = None
    for word in lexer:
        if set(word) <= set("();<>|&"):
            current = None
        elif word == "gitmachine":
            current = []
            found.append(current)
        elif current is not None:
            current.append(word)
        found += invocations(word.removeprefix("$(")) if "gitmachine " in word else []
    return found


def understand(words: list[str], where: str) -> None:
    """Parse the words of a call down to the last subcommand, and run nothing."""
    command, context = cli, click.Context(cli, info_name="gitmachine", obj=Invocation())
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        if found is None and where.startswith("plugins/"):
            return  # a command of that plugin, which is not installed here
        assert found is not None, where
        command, words = found, words[1:]
    try:
        command.make_context(where, list(words), parent=context)
    except click.UsageError as error:
        raise AssertionError(f"{where}: {error.format_message()}") from error


def test_a_machine_of_ones_own_is_about_forty_lines():
    (page,) = (page for page in PAGES if page.name == "custom-machine.md")
    code = next(block.text for block in blocks(page) if block.language == "python")
    (machine,) = (node for node in ast.parse(code).body if isinstance(node, ast.ClassDef))
    lines = [line for line in ast.get_source_segment(code, machine).splitlines() if line.strip()]
    assert 30 <= len(lines) <= 45


def test_every_page_of_the_documentation_can_be_reached_from_its_index():
    reached, todo = set(), [ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        todo += [(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose) if ":" not in link]
    assert {named(page) for page in (ROOT / "docs").rglob("*.md")} - {named(page) for page in reached} == set()


def test_every_error_class_is_explained_in_the_page_on_errors():
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    errors = [
        name
        for name in gitmachine.__all__
        if isinstance(getattr(gitmachine, name), type) and issubclass(getattr(gitmachine, name), Exception)
    ]
    assert [name for name in errors if f"`{name}`" not in text] == []


def test_the_readme_opens_with_the_two_commands_and_a_quick_start_of_fifteen_lines():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    opening = text[: text.index("## ")]
    assert "make demo" in opening
    assert "make test" in opening
    quick_start = runnable(ROOT / "README.md", "python")[0]
    assert len(quick_start.text.splitlines()) <= 15


def test_the_readme_lists_exactly_the_providers_that_are_here():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(gitmachine-[a-z0-9-]+)` \|", text, re.MULTILINE))
    here = {
        tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]
        for path in ROOT.glob("providers/*/pyproject.toml")
    }
    assert listed == here


def test_versions_agree_and_the_changelog_knows_this_one():
    projects = [ROOT / "core" / "pyproject.toml", *ROOT.glob("p*s/*/pyproject.toml")]
    versions = {tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"] for path in projects}
    assert versions == {gitmachine.__version__}
    assert f"## [{gitmachine.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_pinned_versions_name_no_index():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [
        line for line in lines if line and not line.startswith("#") and not re.fullmatch(r"[a-z0-9-]+==[\w.]+", line)
    ]
    assert wrong == []


def test_every_licence_file_is_the_same():
    texts = {path.read_bytes() for path in [ROOT / "LICENSE", *ROOT.glob("*/LICENSE"), *ROOT.glob("p*s/*/LICENSE")]}
    assert len(texts) == 1


def test_everything_a_page_promises_about_make_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named_here = set(re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf-8")))
        assert named_here <= targets, named(page)
