"""E2B's own SDK: files into a running sandbox and out of it."""

from pathlib import Path

from e2b import Sandbox
from e2b.sandbox.filesystem.filesystem import WriteEntry
from work import arguments, serve

given = arguments()
sandbox = Sandbox.connect(
    given["sandbox"], api_key=given["api_key"], api_url=given["api_url"], sandbox_url=given["sandbox_url"]
)
source, target = Path(given["source"]), Path(given["target"])
files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
inside = {path: f"/home/user/sdk/{path.relative_to(source.parent)}" for path in files}


def upload() -> None:
    entries = [WriteEntry(path=inside[path], data=path.read_bytes()) for path in files]
    sandbox.files.write_files(entries, request_timeout=600)


def download() -> None:
    for path in files:
        data = sandbox.files.read(inside[path], format="bytes", request_timeout=600)
        here = target / path.relative_to(source.parent)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(data)


if given["work"] == "download":
    upload()
serve({"upload": upload, "download": download}[given["work"]])
