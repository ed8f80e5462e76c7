"""The guard's look at changed files, in every shell of this host, and at commits on their way.

Time budget: 20 s.
"""

from __future__ import annotations

import attrs
import pytest

from gitmachine.errors import GitError
from gitmachine.git import guarding
from gitmachine.git.guarding import vet_changes
from gitmachine.git.model import Change, Changes, GuardOptions
from support.workspaces import SHELLS, Lab

BODY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gt\n" * 3
KEY = "-----BEGIN OPENSSH PRIVATE" + f" KEY-----\n{BODY}-----END OPENSSH PRIVATE" + " KEY-----\n"
ODD = ["-n", "new\nline", "sp ace/[x]*", "ü", "quote'\"$(touch pwned)"]


@pytest.fixture(params=SHELLS)
def lab(request, tmp_path) -> Lab:
    return Lab(tmp_path, shell=request.param).init({"a": "1\n", "deep/b": "2\n"})


async def vet(lab: Lab, **options):
    changes = await lab.workspace.changes()
    before = lab.runner.count
    found = await vet_changes(lab.runner, str(lab.path), changes, GuardOptions(**options))
    assert lab.runner.count - before <= 1
    return {one.path: one.reason for one in found}


async def test_secrets_are_found_among_many_files_wherever_they_are(lab):
    lab.write({f"many/{number}": f"text {number}\n" for number in range(200)})
    lab.write(
        {"many/77": f"text\n{KEY}", "deep/b": KEY, ".env": "DB_PASSWORD=h8d7g6f5\n", "dump": b"\0\xff" + KEY.encode()}
    )
    assert await vet(lab) == {
        ".env": "it seems to hold passwords or keys in a file that is for them",
        **dict.fromkeys(["deep/b", "dump", "many/77"], "it seems to hold a private key"),
    }


async def test_large_files_are_found_by_their_size(lab):
    lab.write({"large": b"x" * 3000, "small": b"x" * 2000, "deep/b": b"y" * 2001})
    assert await vet(lab, max_file_bytes=2000) == {
        "large": "it is larger than 2000 bytes (3000 bytes)",
        "deep/b": "it is larger than 2000 bytes (2001 bytes)",
    }
    assert await vet(lab, max_file_bytes=0) == {}


async def test_a_file_of_git_lfs_is_as_large_as_its_pointer(lab, tmp_path):
    lab.write({".gitattributes": "*.bin filter=lfs\n", "a.bin": b"x" * 3000, "b.dat": b"x" * 3000})
    assert set(await vet(lab, max_file_bytes=2000)) >= {"b.dat"}
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git-lfs").write_text("#!/bin/sh\nexit 0\n")
    (tools / "git-lfs").chmod(0o755)
    lab.runner.env["PATH"] = f"{tools}:{lab.runner.env['PATH']}"
    assert set(await vet(lab, max_file_bytes=2000)) == {"b.dat"}


async def test_odd_names_mean_nothing_to_the_shell(lab):
    lab.write(dict.fromkeys(ODD, KEY))
    assert set(await vet(lab)) == set(ODD)
    assert set(await vet(lab, max_file_bytes=10, secrets=False)) == set(ODD)
    assert not (lab.path / "pwned").exists()


async def test_what_is_allowed_is_let_through(lab):
    lab.write({"fixtures/key": KEY, "deep/fixtures/key": KEY, "other": KEY})
    assert set(await vet(lab, allow=("fixtures",))) == {"other"}
    assert set(await vet(lab, allow=("/fixtures/*",))) == {"deep/fixtures/key", "other"}


async def test_links_and_deletions_hold_nothing(lab, tmp_path):
    (tmp_path / "outside").write_text(KEY)
    (lab.path / "link").symlink_to(tmp_path / "outside")
    (lab.path / "a").unlink()
    assert await vet(lab) == {}


async def test_without_secrets_only_sizes_count(lab):
    lab.write({"key": KEY, ".env": "DB_PASSWORD=h8d7g6f5\n"})
    assert await vet(lab, secrets=False) == {}


async def test_files_too_large_to_look_into_are_left_to_the_size_limit(lab, monkeypatch):
    monkeypatch.setattr(guarding, "MAX_SCANNED_BYTES", 1000)
    lab.write({"key": KEY + "x" * 1000})
    assert await vet(lab) == {}


async def test_more_suspicious_text_than_fits_is_left_to_the_look_before_the_push(lab, monkeypatch):
    monkeypatch.setattr(guarding, "MAX_TEXT_BYTES", 2 * len(KEY))
    lab.write({f"key{number}": KEY for number in range(4)})
    assert len(await vet(lab)) == 2


async def test_a_file_that_goes_away_meanwhile_is_no_finding(lab):
    changes = Changes(files=(Change("A", "gone"), Change("A", "key")))
    lab.write({"key": KEY})
    found = await vet_changes(lab.runner, str(lab.path), changes, GuardOptions(max_file_bytes=1))
    assert {one.path for one in found} == {"key"}


async def test_a_place_that_is_no_repository_is_an_error(lab, tmp_path):
    with pytest.raises(GitError, match="repository"):
        await vet_changes(lab.runner, str(tmp_path), Changes(files=(Change("A", "x"),)), GuardOptions())


async def test_a_machine_that_prints_too_much_is_not_believed(lab):
    async def execute(request):
        return attrs.evolve(await lab.runner(request), truncated=True)

    with pytest.raises(GitError, match="printed more"):
        await vet_changes(execute, str(lab.path), Changes(files=(Change("A", "a"),)), GuardOptions())
