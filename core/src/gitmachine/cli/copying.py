"""``gitmachine cp``: files and directories between this host and a machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from gitmachine.archives.model import DEFAULT_MAX_TRANSFER_BYTES, Transfer, local_error
from gitmachine.cli.options import config_option, debug_option, json_option
from gitmachine.cli.output import write_bytes, write_json
from gitmachine.cli.report import Progress, size
from gitmachine.errors import file_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.shell_completion import CompletionItem

    from gitmachine.session import AsyncGitMachine

__all__ = ["Sides", "cp", "sides"]

_COPY_BYTES = 1024 * 1024


@attrs.frozen(kw_only=True)
class Sides:
    """What is copied where.

    Attributes:
        name: the machine, as it was called.
        inward: whether the machine is the destination.
        here: the path on this host, as it was given; ``-`` is standard input or output.
        there: the path in the machine, as it was given; empty is the repository.
    """

    name: str
    inward: bool
    here: str
    there: str


@attrs.frozen(kw_only=True)
class _Local:
    """What a path of this host says.

    Attributes:
        path: the path; of a source that ends in a slash, what a link leads to.
        name: what is called so.
        content: whether only the content of a directory is meant.
        directory: whether it is a directory, or is to be one.
    """

    path: Path
    name: str
    content: bool
    directory: bool


def sides(source: str, target: str) -> Sides:
    """Tell the machine's side, ``NAME:path``, from this host's; a path here with a colon in it is told by a slash.

    Raises:
        click.UsageError: both are the machine's, or neither.
    """
    from_machine, to_machine = _machine_side(source), _machine_side(target)
    if (from_machine is None) == (to_machine is None):
        number = "neither SRC nor DST is" if from_machine is None else "both SRC and DST are"
        raise click.UsageError(
            f"{number} in a machine: expected NAME:path on one side, and a path of this host on the other "
            "(./a:b is one)"
        )
    if to_machine is not None:
        return Sides(name=to_machine[0], inward=True, here=source, there=to_machine[1])
    assert from_machine is not None  # one of them is
    return Sides(name=from_machine[0], inward=False, here=target, there=from_machine[1])


def _machine_side(text: str) -> tuple[str, str] | None:
    name, colon, path = text.partition(":")
    return (name, path) if colon and name and "/" not in name else None


def _local(text: str, *, source: bool) -> _Local:
    path = Path(text)
    return _Local(
        path=path.resolve() if source and text.endswith(("/", "/.")) else path,
        name=os.path.basename(os.path.abspath(text)),  # noqa: PTH100, PTH119  # a link keeps its own name
        content=text == "." or text.endswith("/."),
        directory=text.endswith("/") or path.is_dir(),
    )


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from gitmachine.cli.completion import machine_names

    return [CompletionItem(f"{item.value}:") for item in machine_names(incomplete)] + [
        CompletionItem(incomplete, type="file")
    ]


@click.command()
@click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    default=DEFAULT_MAX_TRANSFER_BYTES,
    metavar="N",
    help="How much to accept from a machine.  [default: 10 GiB]",
)
@json_option
@config_option
@debug_option
@click.argument("source", metavar="SRC", shell_complete=_complete)
@click.argument("target", metavar="DST", shell_complete=_complete)
def cp(*, source: str, target: str, max_bytes: int, as_json: bool, config: Path | None) -> None:
    """Copy SRC to DST: files, symbolic links and whole directories, between this host and a machine.

    One side is NAME:path, in the machine NAME; a relative path there starts at the repository. What DST names is what
    SRC becomes; but a DST that is a directory, or ends in a slash, gets SRC put into it under its own name. A SRC that
    ends in /. is the content of a directory. - on this host is standard input or output, for one file.
    """
    from gitmachine.cli.acting import act

    given = sides(source, target)
    local = _local(given.here, source=given.inward)
    if given.here == "-" and not given.inward and as_json:
        raise click.UsageError("--json needs standard output for its document: copy to a file")
    progress = Progress(quiet=as_json)

    async def work(gm: AsyncGitMachine) -> tuple[Transfer, str]:
        return await (_inward(gm, given, local) if given.inward else _outward(gm, given, local, max_bytes))

    transfer, final = act(given.name, work, doing="cp", config=config, observe=progress.event)
    if as_json:
        write_json({"source": source, "target": final, "files": transfer.files, "bytes": transfer.bytes})
    what = "1 file" if transfer.files == 1 else f"{transfer.files} files"
    progress.line(f"copied {what}, {size(transfer.bytes)}, to {final if final != '-' else 'standard output'}")


async def _inward(gm: AsyncGitMachine, given: Sides, local: _Local) -> tuple[Transfer, str]:
    path = given.there or "."
    into = path.endswith("/") or (not local.content and await _is_directory(gm, path))
    if given.here == "-":
        if into:
            raise click.UsageError(f"{given.name}:{given.there} is a directory: name the file for standard input")
        with _scratch() as scratch:
            await asyncio.to_thread(_keep_input, scratch)
            return await gm.upload(scratch, path), f"{given.name}:{path}"
    if into and not local.content:
        path = posixpath.join(path, local.name)
    return await gm.upload(local.path, path), f"{given.name}:{path}"


async def _outward(gm: AsyncGitMachine, given: Sides, local: _Local, max_bytes: int) -> tuple[Transfer, str]:
    path = given.there or "."
    if given.here == "-":
        return await _to_output(gm, path, max_bytes), "-"
    content = given.there == "." or path.endswith("/.")  # an empty path is the repository under its own name
    target = local.path
    if local.directory and not content:
        target /= posixpath.basename(posixpath.normpath(posixpath.join(gm.path, path)))
    return await gm.download(path, target, max_bytes=max_bytes), str(target)


async def _is_directory(gm: AsyncGitMachine, path: str) -> bool:
    try:
        await gm.list_files(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Have a file of our own for what goes through a pipe: how much that is, nobody knows before."""
    with tempfile.TemporaryDirectory(prefix="gitmachine-") as directory:
        yield Path(directory, "content")


def _keep_input(path: Path) -> None:
    if sys.stdin is None:
        raise local_error(errno.EBADF, "-", "there is no standard input")
    with path.open("xb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, _COPY_BYTES)


def _kind(path: Path) -> str:
    return "link" if path.is_symlink() else "directory" if path.is_dir() else "file"


def _put_out(path: Path) -> None:
    with path.open("rb") as file:
        while data := file.read(_COPY_BYTES):
            write_bytes(data)


async def _to_output(gm: AsyncGitMachine, path: str, max_bytes: int) -> Transfer:
    with _scratch() as scratch:
        transfer = await gm.download(path, scratch, max_bytes=max_bytes)
        kind = await asyncio.to_thread(_kind, scratch)
        if kind == "link":  # a reader wants what the link leads to, in the machine
            data = await gm.read_file(path, max_bytes=max_bytes)
            await asyncio.to_thread(write_bytes, data)
            return Transfer(files=1, bytes=len(data))
        if kind == "directory":
            raise file_error(errno.EISDIR, f"cannot copy {path!r} to standard output: it is a directory", path=path)
        await asyncio.to_thread(_put_out, scratch)
        return transfer
