"""The options: what they take, what they refuse, what the engine is asked for. Time budget: 2 s."""

from __future__ import annotations

from typing import Any

import pytest

from gitmachine import ConfigError
from gitmachine_local_docker import DockerConfig
from gitmachine_local_docker._create import CAPABILITIES, create_body
from gitmachine_local_docker.config import movable, parse_port, parse_size


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("512m", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("100", 100), ("64MB", 64 << 20), ("1 t", 1 << 40)],
)
def test_sizes_are_written_as_docker_takes_them(text: str, wanted: int) -> None:
    assert parse_size(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("8000", ("127.0.0.1", 0, 8000, "tcp")),
        ("9000:8000", ("127.0.0.1", 9000, 8000, "tcp")),
        ("0.0.0.0:9000:8000/udp", ("0.0.0.0", 9000, 8000, "udp")),
        ("[::1]:9000:8000", ("::1", 9000, 8000, "tcp")),
    ],
)
def test_ports_are_published_on_the_loopback_unless_asked(text: str, wanted: tuple[str, int, int, str]) -> None:
    port = parse_port(text)
    assert (port.address, port.public, port.inside, port.protocol) == wanted
    assert parse_port(movable(text)).public == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memory": "much"}, "@ memory"),
        ({"memory": "0m"}, "@ memory"),
        ({"disk": "-1g"}, "@ disk"),
        ({"ports": "http"}, "@ ports"),
        ({"ports": ["70000"]}, "@ ports"),
        ({"volumes": "data:relative"}, "@ volumes"),
        ({"volumes": "/:/"}, "@ volumes"),
        ({"pull": "sometimes"}, "@ pull"),
        ({"git": "maybe"}, "@ git"),
        ({"cpus": 0.0}, "@ cpus"),
        ({"pids": 0}, "@ pids"),
        ({"name": "-x"}, "@ name"),
        ({"workdir": "repo"}, "@ workdir"),
        ({"image": ""}, "@ image"),
        ({"image": "-v"}, "@ image"),
        ({"env": {"A=B": "x"}}, "@ env"),
        ({"docker_host": "unix:///x", "context": "y"}, "@ docker_host"),
    ],
)
def test_wrong_options_are_refused_with_their_path(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DockerConfig(**options)
    assert said in str(caught.value)


def test_a_container_can_do_little_unless_asked() -> None:
    host = create_body(DockerConfig(), "0", None)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"]) == set(CAPABILITIES)
    assert "NET_RAW" not in CAPABILITIES
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == 4096
    assert host["Binds"] == []
    assert host["PortBindings"] == {}
    assert "Privileged" not in host


def test_options_become_the_engines_fields() -> None:
    config = DockerConfig(
        cpus=1.5,
        memory="64m",
        disk="1g",
        pids=50,
        ports=("8000", "0.0.0.0:53:53/udp"),
        volumes=("data:/data:ro", "/scratch"),
        network="mine",
        runtime="runsc",
        init=False,
        read_only=True,
        cap_add=("CAP_NET_RAW",),
        labels={"team": "blue"},
        env={"CI": "1"},
        workdir="/work",
    )
    body = create_body(config, "ada", "key")
    host = body["HostConfig"]
    assert host["NanoCpus"] == 1_500_000_000
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 64 << 20)
    assert host["StorageOpt"] == {"size": str(1 << 30)}
    assert host["PidsLimit"] == 50
    assert host["PortBindings"] == {
        "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "53"}],
    }
    assert host["Binds"] == ["data:/data:ro"]
    assert body["Volumes"] == {"/scratch": {}, "/work": {}}
    assert (host["NetworkMode"], host["Runtime"], host["Init"]) == ("mine", "runsc", False)
    assert host["ReadonlyRootfs"] is True
    assert set(host["Tmpfs"]) == {"/tmp", "/run"}
    assert "NET_RAW" in host["CapAdd"]
    assert body["Env"] == ["CI=1"]
    assert body["Labels"]["team"] == "blue"
    assert body["Labels"]["gitmachine.label"] == "key"
    assert body["Labels"]["gitmachine.user"] == "ada"


def test_extra_is_merged_and_wins() -> None:
    extra = {"Hostname": "box", "HostConfig": {"ShmSize": 1 << 20, "PidsLimit": 7}}
    body = create_body(DockerConfig(extra=extra), "0", None)
    assert body["Hostname"] == "box"
    assert body["HostConfig"]["ShmSize"] == 1 << 20
    assert body["HostConfig"]["PidsLimit"] == 7
    assert body["HostConfig"]["CapDrop"] == ["ALL"]


def test_values_that_may_be_secret_are_not_in_the_representation() -> None:
    assert "canary" not in repr(DockerConfig(env={"TOKEN": "canary"}, extra={"Env": ["X=canary"]}))
