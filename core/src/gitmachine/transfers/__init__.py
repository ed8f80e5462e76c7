"""Moving files and directories between this host and any machine, with what the contract gives: commands and files."""

from __future__ import annotations

from gitmachine.transfers.downloading import download
from gitmachine.transfers.uploading import upload

__all__ = ["download", "upload"]
