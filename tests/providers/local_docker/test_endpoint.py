"""Which engine: the order in which Docker itself looks, and what cannot be used. Time budget: 2 s."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gitmachine import ConfigError
from gitmachine_local_docker import DockerConfig
from gitmachine_local_docker._dial import _ssh_argv
from gitmachine_local_docker._endpoint import Endpoint, find_endpoint


def make_context(folder: Path, name: str, host: str, *, tls: bool = False, **more: Any) -> Path:
    """Write a context as `docker context create` does; return the directory of its certificates."""
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts/meta" / key
    meta.mkdir(parents=True)
    described = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, **more}}}
    (meta / "meta.json").write_text(json.dumps(described))
    certificates = folder / "contexts/tls" / key / "docker"
    if tls:
        certificates.mkdir(parents=True)
    return certificates


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"DOCKER_CONFIG": str(tmp_path)}


def test_an_option_comes_before_the_environment(environ: dict[str, str], tmp_path: Path) -> None:
    make_context(tmp_path, "there", "tcp://there:1")
    environ |= {"DOCKER_HOST": "tcp://env:2", "DOCKER_CONTEXT": "there"}
    assert find_endpoint(DockerConfig(docker_host="unix:///x"), environ).url == "unix:///x"
    assert find_endpoint(DockerConfig(context="there"), environ).url == "tcp://there:1"


def test_docker_host_comes_before_a_context(environ: dict[str, str], tmp_path: Path) -> None:
    make_context(tmp_path, "there", "tcp://there:1")
    environ |= {"DOCKER_CONTEXT": "there"}
    assert find_endpoint(DockerConfig(), environ).url == "tcp://there:1"
    assert find_endpoint(DockerConfig(), environ | {"DOCKER_HOST": "tcp://env:2"}).url == "tcp://env:2"


def test_the_current_context_comes_before_the_socket(environ: dict[str, str], tmp_path: Path) -> None:
    make_context(tmp_path, "mine", "ssh://ada@box")
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "mine"}))
    found = find_endpoint(DockerConfig(), environ)
    assert (found.url, found.origin) == ("ssh://ada@box", "the Docker context 'mine'")


def test_without_settings_it_is_the_socket(environ: dict[str, str]) -> None:
    found = find_endpoint(DockerConfig(), environ)
    assert found.url == "unix:///var/run/docker.sock"
    assert found.local
    assert find_endpoint(DockerConfig(context="default"), environ) == found


def test_tls_is_as_the_environment_says(environ: dict[str, str], tmp_path: Path) -> None:
    config = DockerConfig(docker_host="tcp://box")
    assert find_endpoint(config, environ).address() == ("box", 2375)
    found = find_endpoint(config, environ | {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"})
    assert (found.tls, found.verify, found.certificates) == (True, True, Path("/certs"))
    assert found.address() == ("box", 2376)
    found = find_endpoint(config, environ | {"DOCKER_TLS": "1"})
    assert (found.tls, found.verify, found.certificates) == (True, False, tmp_path)


def test_a_context_has_certificates_of_its_own(environ: dict[str, str], tmp_path: Path) -> None:
    certificates = make_context(tmp_path, "far", "tcp://far:2376", tls=True)
    found = find_endpoint(DockerConfig(context="far"), environ)
    assert (found.tls, found.verify, found.certificates) == (True, True, certificates)
    make_context(tmp_path, "lax", "tcp://lax:2376", tls=True, SkipTLSVerify=True)
    assert not find_endpoint(DockerConfig(context="lax"), environ).verify


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("box:2375", "no address"),
        ("npipe:////./pipe/docker_engine", "no address"),
        ("tcp://", "no address"),
        ("tcp://box:http", "no address"),
        ("ssh://ada:secret@box", "password"),
        ("ssh://-oProxyCommand=x", "none"),
    ],
)
def test_what_is_no_engine_is_refused(url: str, said: str, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        find_endpoint(DockerConfig(docker_host=url), environ)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_context_that_is_not_there_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="no Docker context 'nowhere'"):
        find_endpoint(DockerConfig(context="nowhere"), environ)


def test_a_damaged_configuration_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json"):
        find_endpoint(DockerConfig(), environ)


def test_certificates_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    endpoint = Endpoint(url="tcp://box", origin="x", tls=True, certificates=tmp_path)
    with pytest.raises(ConfigError) as caught:
        endpoint.tls_context()
    assert str(tmp_path) in str(caught.value)


def test_ssh_is_called_as_docker_calls_it() -> None:
    argv = _ssh_argv(Endpoint(url="ssh://ada@box:2222/run/d.sock", origin="x"))
    assert argv[argv.index("--") :] == ["--", "box", "docker --host unix:///run/d.sock system dial-stdio"]
    assert argv[argv.index("-l") + 1] == "ada"
    assert argv[argv.index("-p") + 1] == "2222"
    assert "BatchMode=yes" in argv
