"""What the service answers, as records. Time budget: 2 s."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gitmachine_e2b._records import (
    DaemonMetrics,
    EntryAnswer,
    Fork,
    Listing,
    Metric,
    ProcessList,
    RecordError,
    Sandbox,
    SandboxInfo,
    Snapshot,
    WatchMessage,
    parse_time,
    structure,
    structure_all,
)


def test_a_sandbox_is_read_and_unknown_fields_are_ignored():
    sandbox = structure(
        {
            "templateID": "base",
            "sandboxID": "iabc",
            "clientID": "old",
            "envdVersion": "0.6.13",
            "envdAccessToken": "secret-token",
            "trafficAccessToken": None,
            "domain": None,
            "new": {"deep": [1]},
        },
        Sandbox,
    )
    assert (sandbox.id, sandbox.envd_version, sandbox.envd_token) == ("iabc", "0.6.13", "secret-token")
    assert sandbox.domain is None
    assert sandbox.traffic_token is None


def test_tokens_are_never_shown():
    sandbox = structure({"sandboxID": "i", "envdAccessToken": "hush", "trafficAccessToken": "quiet"}, Sandbox)
    info = structure({"sandboxID": "i", "envdAccessToken": "hush"}, SandboxInfo)
    assert "hush" not in repr(sandbox) + repr(info)
    assert "quiet" not in repr(sandbox)


def test_a_description_has_times_and_what_it_lacks_has_defaults():
    info = structure(
        {
            "sandboxID": "iabc",
            "state": "paused",
            "endAt": "2026-11-23T08:20:19.804900982Z",
            "lifecycle": {"autoResume": True, "onTimeout": "pause"},
            "metadata": {"a": "b"},
            "cpuCount": 2,
        },
        SandboxInfo,
    )
    assert info.ends_at == datetime(2026, 11, 23, 8, 20, 19, 804900, tzinfo=UTC)
    assert info.lifecycle is not None
    assert info.lifecycle.auto_resume
    assert info.allow_internet_access is None
    assert info.metadata == {"a": "b"}
    assert structure({"sandboxID": "i", "state": "hibernating"}, SandboxInfo).state == "hibernating"


@pytest.mark.parametrize(
    "text",
    ["2026-11-23T08:20:19Z", "2026-11-23T08:20:19.000Z", "2026-11-23T09:20:19+01:00", "2026-11-23T08:20:19"],
)
def test_times_of_every_kind_are_in_utc(text):
    assert parse_time(text) == datetime(2026, 11, 23, 8, 20, 19, tzinfo=UTC)


def test_numbers_of_64_bits_come_as_text_and_what_is_zero_does_not_come():
    entry = structure({"entry": {"name": "a", "size": "5000000000", "mode": 420}}, EntryAnswer).entry
    assert (entry.size, entry.mode, entry.type) == (5_000_000_000, 420, "")
    assert structure({}, EntryAnswer).entry.size == 0
    assert structure({}, Listing).entries == ()
    assert structure({}, ProcessList).processes == ()


def test_processes_metrics_snapshots_and_forks_are_read():
    processes = structure(
        {"processes": [{"pid": 7, "config": {"cmd": "/bin/sh", "args": ["-c", "x"]}, "tag": "t"}]}, ProcessList
    ).processes
    assert (processes[0].pid, processes[0].config.args, processes[0].tag) == (7, ("-c", "x"), "t")
    metrics = structure_all([{"timestampUnix": 1, "cpuUsedPct": 1.5, "memUsed": 2, "timestamp": "2026"}], Metric)
    assert (metrics[0].cpu_used_percent, metrics[0].memory_used) == (1.5, 2)
    assert structure_all(None, Metric) == ()
    assert structure({"snapshotID": "t/s:d", "names": ["t/s"]}, Snapshot).names == ("t/s",)
    forks = structure_all([{"sandbox": {"sandboxID": "x"}}, {"error": {"code": 500, "message": "m"}}], Fork)
    assert forks[0].sandbox is not None
    assert forks[1].error is not None
    assert forks[1].error.message == "m"
    assert structure({"cpu_used_pct": 3, "mem_total": 4}, DaemonMetrics).memory_total == 4
    event = structure({"filesystem": {"name": "n", "type": "EVENT_TYPE_NEW"}}, WatchMessage).filesystem
    assert event is not None
    assert event.type == "EVENT_TYPE_NEW"
    assert structure({"somethingNew": {}}, WatchMessage).filesystem is None


@pytest.mark.parametrize("bad", [{}, [], None, "text", 5, {"sandboxID": 5}, {"sandboxID": None}, {"sandboxID": ["i"]}])
def test_what_is_no_record_is_a_record_error(bad):
    with pytest.raises(RecordError):
        structure(bad, Sandbox)


def test_what_is_no_list_is_a_record_error():
    for bad in ({}, "x", 5):
        with pytest.raises(RecordError):
            structure_all(bad, Metric)
    with pytest.raises(RecordError):
        structure({"sandboxID": "i", "endAt": "soon"}, SandboxInfo)
    with pytest.raises(RecordError):
        structure({"sandboxID": "i", "cpuCount": True}, SandboxInfo)
