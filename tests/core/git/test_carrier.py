"""The check of what a machine sends: which ids are errors. Time budget: 5 s."""

from __future__ import annotations

import pytest

from gitmachine.git.carrier import FSCK_CONFIG, FsckRefused, check_fsck


def test_historical_mistakes_are_warnings_and_dangers_are_not():
    assert "fetch.fsckObjects=true" in FSCK_CONFIG
    warned = {setting.removeprefix("fetch.fsck.").partition("=")[0] for setting in FSCK_CONFIG[1:]}
    assert {"badTimezone", "zeroPaddedFilemode", "missingEmail"} <= warned
    dangers = {
        "hasDot",
        "hasDotdot",
        "hasDotgit",
        "fullPathname",
        "gitmodulesUrl",
        "gitmodulesName",
        "gitmodulesSymlink",
    }
    assert not warned & {
        *dangers,
        "gitmodulesUpdate",
        "gitmodulesPath",
        "gitmodulesBlob",
        "treeNotSorted",
        "duplicateEntries",
    }


def test_a_refusal_is_recognised():
    check_fsck("fatal: early EOF")
    with pytest.raises(FsckRefused, match="hasDotgit"):
        check_fsck("error: object abc: hasDotgit: contains '.git'\nfatal: fsck error in packed object\n")
