"""Choosing a transport, and what every transport decides alike. Time budget: 5 s."""

from __future__ import annotations

import attrs
import pytest

from gitmachine.errors import CloneError, ConfigError
from gitmachine.git.bundles import BundleInward, BundleOutward
from gitmachine.git.credentials import no_credential
from gitmachine.git.direct import DirectTransport
from gitmachine.git.model import GitOptions, RemoteState
from gitmachine.git.names import check_repository
from gitmachine.git.relay import RelayTransport
from gitmachine.git.streams import StreamInward, StreamOutward
from gitmachine.git.transport import TransportSetup, choose_transport, make_transport
from support.machines import FilesMachine, StreamMachine


def setup(tmp_path, **options):
    return TransportSetup(
        repository=check_repository("/srv/r.git"),
        options=GitOptions(**options),
        credentials=no_credential,
        mirrors=tmp_path,
        sessions=tmp_path,
        session_id="s-1_a",
    )


def test_the_options_choose():
    assert choose_transport(GitOptions(), FilesMachine()) is RelayTransport
    assert choose_transport(GitOptions(transport="direct"), FilesMachine()) is DirectTransport


def test_the_relay_takes_the_ways_that_a_machine_offers(tmp_path):
    relay = make_transport(setup(tmp_path), StreamMachine())
    assert isinstance(relay, RelayTransport)
    assert isinstance(relay.inward(StreamMachine()), StreamInward)
    assert isinstance(relay.outward(StreamMachine()), StreamOutward)
    assert isinstance(relay.inward(FilesMachine()), BundleInward)
    assert isinstance(relay.outward(FilesMachine()), BundleOutward)
    files = StreamMachine()
    files.bulk_in = "files"
    assert isinstance(relay.inward(files), BundleInward)


def test_a_session_id_cannot_leave_its_directory(tmp_path):
    for name in ("", "../x", "a/b", ".."):
        with pytest.raises(ConfigError, match="invalid session id"):
            attrs.evolve(setup(tmp_path), session_id=name)


async def test_where_a_session_starts(tmp_path):
    relay = make_transport(setup(tmp_path), StreamMachine())
    state = RemoteState(default_branch="main", refs={"refs/heads/main": "a" * 40, "refs/heads/feat": "b" * 40})
    existing = await relay.start_point(state, "feat", None)
    assert (existing.start_sha, existing.upstream) == ("b" * 40, True)
    new = await relay.start_point(state, "new", "feat")
    assert (new.start_sha, new.created) == ("b" * 40, True)
    assert (await relay.start_point(state, "new", None)).start_sha == "a" * 40
    headless = RemoteState(default_branch=None, refs=state.refs)
    with pytest.raises(CloneError, match=r"git\.base"):
        await relay.start_point(headless, "new", None)
    lonely = RemoteState(default_branch=None, refs={"refs/heads/feat": "b" * 40})
    assert (await relay.start_point(lonely, "new", None)).start_sha == "b" * 40
    empty = RemoteState(default_branch=None, refs={})
    assert (await relay.start_point(empty, "new", None)).start_sha is None
    with pytest.raises(CloneError, match="cannot stand beside"):
        await relay.start_point(state, "main/x", None)
