"""One script for two clients: `python tests/emulator/sight official|ours [sandbox id]` prints what it saw as JSON.

With an id it looks at that sandbox; without, it makes its own and does what one does with sandboxes. Names that are
each run's own are replaced by words. Time budget: 10 s for a run.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from typing import Any

SECONDS = 60.0
GONE, NOT_FOUND, TIMED_OUT, REFUSED = "gone", "not found", "timed out", "refused"


async def commands(box: Any, see: Any) -> None:
    see("plain", await box.run("echo out; echo err >&2; pwd; id -un; echo $GIVEN"))
    see("failing", await box.run("echo no; exit 3"))
    see("missing", await box.run("no-such-program"))
    see("killed", await box.run("kill -9 $$"))
    see("terminated", await box.run("kill $$"))
    see("elsewhere", await box.run("pwd; echo $ONE", cwd="/tmp", env={"ONE": "1 'quoted' $not"}))
    see("letters", await box.run("for i in $(seq 3000); do echo żółć-$i; done"))
    see("bytes", await box.run("printf 'a\\377b'"))
    see("timeout", await box.run("sleep 100", timeout=1.0))
    see("late child", await box.run("sleep 0.5 & echo begun"))


async def background(box: Any, see: Any) -> None:
    handle = await box.start("read line; echo got $line; cat; exit 5")
    await handle.write("hello\n")
    await handle.write("more")
    await handle.close_input()
    see("fed", await handle.wait())
    handle = await box.start("sleep 100")
    await handle.kill()
    see("ended", (await handle.wait())["code"])


async def files(box: Any, see: Any) -> None:
    data = bytes(range(256)) * 500
    await box.write("deep/data", data)
    see("exact", await box.read("deep/data") == data)
    see("as commands see it", await box.run("cd deep; stat -c '%n %s %a %U' *; sha256sum data"))
    await box.run("mkdir -p tree/sub; echo 1 > tree/b; echo 2 > tree/a; ln -s a tree/link")
    see("read", (await box.read("tree/link")).decode())
    see("names", await box.names("tree"))
    see("there", [await box.exists(path) for path in ("tree", "tree/a", "tree/none")])
    see("made", [await box.make_dir("tree/new/one") for _ in range(2)])
    see("read none", await box.read("none"))
    see("names of none", await box.names("none"))
    await box.remove("tree/sub")
    await box.remove("tree/sub")
    see("left", await box.run("find tree | sort"))


async def lives(driver: Any, box: Any, see: Any) -> None:
    await box.run("(while [ ! -e stop ]; do sleep 0.05; done; echo stopped > done) > /dev/null 2>&1 &")
    see("paused", [await box.pause(), (await box.info())["state"]])
    see("listed while paused", [one == box.id for one in await driver.listed({"purpose": "both a&b"})])
    await box.resume()
    see("resumed", (await box.info())["state"])
    see("goes on", await box.run("touch stop; while [ ! -e done ]; do sleep 0.05; done; cat done"))
    second = await driver.attach(box.id)
    see("a second client", await second.run("cat done"))
    await second.close()


async def copies(driver: Any, box: Any, see: Any) -> None:
    await box.run("echo moment > kept")
    snapshot = await box.snapshot("sight")
    see("snapshot", snapshot)
    await box.run("echo changed > kept")
    copy = await driver.create({}, {}, template=snapshot)
    see("of a snapshot", [await copy.run("cat kept"), copy.id != box.id])
    await copy.kill()
    see("deleted", [await driver.delete_snapshot(box, snapshot)])
    fork = await box.fork()
    await fork.run("echo fork > kept")
    see("fork", [await fork.run("cat kept"), await box.run("cat kept"), fork.id != box.id])
    await fork.kill()


async def everything(driver: Any, see: Any) -> None:
    box = await driver.create({"purpose": "both a&b"}, {"GIVEN": "by creation"})
    try:
        see("info", await box.info())
        await commands(box, see)
        await background(box, see)
        await files(box, see)
        await lives(driver, box, see)
        await copies(driver, box, see)
        see("all files", await box.run("find . -type f ! -name '.*' -exec sha256sum {} + | sort"))
    finally:
        await box.kill()
    see("after its end", await driver.state(box.id))
    see("attach to nothing", await driver.state("idoesnotexist"))
    see("listed after all", await driver.listed({"purpose": "both a&b"}))
    see("no template", await driver.refused("no-such-template"))


async def look(driver: Any, sandbox_id: str, see: Any) -> None:
    """Look at a sandbox that somebody else made, and let it be."""
    see("listed", await driver.listed({"made": "by hand"}))
    box = await driver.attach(sandbox_id)
    see("id", box.id)
    see("info", await box.info())
    see("files", await box.run("find . -type f -exec sha256sum {} + | sort"))
    see("binary", (await box.read("binary")).hex())
    see("output", await box.run("cat binary | od -An -c; exit 9"))
    await box.close()


async def main() -> None:
    driver = importlib.import_module(sys.argv[1]).Driver()
    trace: list[tuple[str, Any]] = []

    def see(name: str, value: Any) -> None:
        trace.append((name, value))

    async with asyncio.timeout(3 * SECONDS):
        if len(sys.argv) > 2:
            await look(driver, sys.argv[2], see)
        else:
            await everything(driver, see)
    print(json.dumps(trace), flush=True)


asyncio.run(main())
# The official SDK's transport now and then aborts the interpreter while it shuts down.
os._exit(0)
