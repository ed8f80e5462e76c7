"""The worker's side of a peer: see ``benchmarks/peers.py``."""

import asyncio
import json
import resource
import sys
import time


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
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
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
