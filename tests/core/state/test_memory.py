"""What a later process needs to go on with a session. Time budget: 2 s."""

from __future__ import annotations

import stat

import pytest

from gitmachine.errors import StateError
from gitmachine.git.model import GitIdentity, GitOptions
from gitmachine.state.memory import SessionMemory, forget, recall, remember
from gitmachine.state.places import Places

MEMORY = SessionMemory(
    repository="https://example.org/r.git",
    identity=GitIdentity("Ada", "ada@example.org"),
    auto_commit=False,
    timeout=2.5,
    git=GitOptions(depth=3, keep_ignored=("*.log",)),
    env={"KEY": "a\udcff\nb", "OTHER": ""},
)


async def test_what_was_remembered_is_recalled_exactly() -> None:
    places = Places.default().ensure()
    await remember(places, "k1", SessionMemory(repository="x"))
    await remember(places, "k1", MEMORY)
    assert await recall(places, "k1") == MEMORY


async def test_only_the_owner_can_read_it() -> None:
    places = Places.default().ensure()
    await remember(places, "k1", MEMORY)
    folder = places.machine_dir("k1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


async def test_the_environment_is_in_no_repr() -> None:
    assert "KEY" not in repr(MEMORY)


async def test_what_was_forgotten_is_an_error_that_says_so() -> None:
    places = Places.default().ensure()
    await remember(places, "k1", MEMORY)
    await forget(places, "k1")
    await forget(places, "k1")
    with pytest.raises(StateError, match="forgotten"):
        await recall(places, "k1")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 99}', '{"version": 1}', '{"version": 1, "repository": 3, "git": 4}']
)
async def test_a_damaged_or_newer_file_is_an_error(text: str) -> None:
    places = Places.default().ensure()
    await remember(places, "k1", MEMORY)
    (places.machine_dir("k1") / "session.json").write_text(text)
    with pytest.raises(StateError):
        await recall(places, "k1")
