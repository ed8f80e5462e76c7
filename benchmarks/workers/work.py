"""The worker's side of a peer: see ``benchmarks/peers.py``."""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path


def peak_bytes() -> int:
    """Return the most memory that this process has had; `getrusage` would include its parent's, before the exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) * 1024


def arguments() -> dict:
    """Return what the benchmark said."""
    return json.loads(sys.argv[1])


def _words():
    print("ready", flush=True)
    while True:
        word = sys.stdin.readline().strip()
        if not word:
            return
        if word == "memory":
            print(peak_bytes(), flush=True)
        else:
            yield word


def serve(work) -> None:
    """Work once for each line."""
    for _ in _words():
        began = time.perf_counter()
        work()
        print(time.perf_counter() - began, flush=True)


def serve_async(loop: asyncio.AbstractEventLoop, work, before=None) -> None:
    """Work once for each line, on a loop; what comes before is not counted."""
    for _ in _words():
        if before is not None:
            loop.run_until_complete(before())
        began = time.perf_counter()
        loop.run_until_complete(work())
        print(time.perf_counter() - began, flush=True)
