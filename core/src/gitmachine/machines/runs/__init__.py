"""Detached runs: commands in a machine that live on without whoever started them, and can be read by anybody later."""

from gitmachine.machines.runs.client import CHUNK_BYTES, Piece, Runs, new_run_id

__all__ = ["CHUNK_BYTES", "Piece", "Runs", "new_run_id"]
