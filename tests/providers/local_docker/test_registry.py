"""Images pulled from a real registry on loopback: progress, passwords, refusals, cuts. Time budget: 25 s."""

from __future__ import annotations

import base64
import json
import shutil

import pytest

from gitmachine import AuthenticationError, MachineStartError
from gitmachine_local_docker import DockerConfig, DockerMachine
from gitmachine_local_docker._registry import HUB, auth_header, registry_of
from support.docker import engine_of_its_own
from support.namespaces import Namespace, linked
from support.registry import PASSWORD, USERNAME, cutting, serving_registry


@pytest.fixture(scope="module")
def registry():
    with serving_registry() as served:
        yield served


@pytest.fixture
def logged_in(monkeypatch):
    """Have Docker's own configuration with the credentials for a registry."""

    def log_in(folder):
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    return log_in


@pytest.fixture
def pulled(docker):
    """Return the configuration of a machine whose image comes from the registry; the image is removed afterwards."""
    images = []

    def config(image, **options):
        images.append(image)
        return DockerConfig(image=image, network="none", git="unchecked", **options)

    yield config
    for image in images:
        docker.docker("rmi", "--force", image, code=None)


@pytest.mark.requires("docker", "docker-registry")
async def test_an_image_is_pulled_with_the_password_of_docker_login_and_tells_its_progress(
    making, docker, registry, logged_in, pulled
):
    image = registry.push(docker, "private/tool", megabytes=3)
    logged_in(registry.credentials())
    told = []
    machine = DockerMachine(pulled(image), on_progress=told.append)
    await machine.start()
    try:
        assert (await making.sh(machine, "ls /noise")).stdout == "/noise\n"
    finally:
        await machine.stop()
    assert {progress.image for progress in told} == {image}
    downloads = [progress for progress in told if progress.status == "Downloading" and progress.total > 3 << 20]
    assert downloads
    assert all(0 <= progress.current <= progress.total for progress in downloads)
    assert "Pull complete" in {progress.status for progress in told}
    # It is there now: nothing is asked for.
    told.clear()
    logged_in(registry.place / "nowhere")
    machine = DockerMachine(pulled(image), on_progress=told.append)
    await machine.start()
    await machine.stop()
    assert told == []


@pytest.mark.requires("docker", "docker-registry")
async def test_always_asks_the_registry_and_never_does_not(making, docker, registry, logged_in, pulled):
    image = registry.push(docker, "tool", tag="v1")
    logged_in(registry.credentials())
    with pytest.raises(MachineStartError, match="there is no image"):
        await DockerMachine(pulled(image, pull="never")).start()
    told = []
    for _ in range(2):
        machine = DockerMachine(pulled(image, pull="always"), on_progress=told.append)
        await machine.start()
        await machine.stop()
    assert any("Image is up to date" in progress.status for progress in told)


@pytest.mark.requires("docker", "docker-registry")
async def test_a_registry_that_wants_a_password_says_so(making, docker, registry, logged_in, pulled, tmp_path):
    image = registry.push(docker, "secret")
    with pytest.raises(AuthenticationError, match=rf"wants credentials.*docker login {registry.host}"):
        await DockerMachine(pulled(image)).start()
    wrong = base64.b64encode(b"tester:wrong").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": wrong}}}))
    logged_in(tmp_path)
    with pytest.raises(AuthenticationError, match=r"does not accept the credentials") as caught:
        await DockerMachine(pulled(image)).start()
    assert "wrong" not in str(caught.value)


@pytest.mark.requires("docker", "docker-registry")
async def test_an_image_that_is_not_there_is_named(making, registry, logged_in, pulled):
    logged_in(registry.credentials())
    for image in (f"{registry.host}/no/such:v9", f"{registry.host}/no/such@sha256:{'0' * 64}"):
        with pytest.raises(MachineStartError, match="there is no image") as caught:
            await DockerMachine(pulled(image)).start()
        assert image in str(caught.value)
    with pytest.raises(MachineStartError, match="is the registry reachable"):
        await DockerMachine(pulled("127.0.0.1:1/tool")).start()


@pytest.mark.requires("docker", "docker-registry")
async def test_a_registry_that_breaks_off_is_said_and_can_be_tried_again(docker, registry, logged_in, pulled):
    name = registry.push(docker, "broken").partition("/")[2]
    with cutting(registry) as proxy:
        image = f"{proxy.host}/{name}"
        logged_in(registry.credentials(proxy.host))
        proxy.cut_after = 20
        with pytest.raises(MachineStartError, match=r"pulling .* failed: .*reachable from the engine"):
            await DockerMachine(pulled(image)).start()
        assert proxy.cuts > 0
        proxy.cut_after = None
        machine = DockerMachine(pulled(image))
        await machine.start()
        await machine.stop()


@pytest.mark.requires("own-docker", "docker-registry", "namespaces")
async def test_a_pull_that_is_cut_in_a_layer_leaves_no_image(logged_in):
    # An engine that does not try again; the machine's own does, for more than a minute.
    settings = {"max-download-attempts": 1, "insecure-registries": ["10.213.0.0/16"]}
    with (
        engine_of_its_own(settings=settings) as own,
        linked(Namespace(own.namespace)) as link,
        serving_registry(address=link.here, password=False) as registry,
        cutting(registry) as proxy,
    ):
        name = registry.push(own, "large", megabytes=4).partition("/")[2]
        config = DockerConfig(image=f"{proxy.host}/{name}", docker_host=own.url, network="none", git="unchecked")
        proxy.cut_after = 1 << 20
        with pytest.raises(MachineStartError, match=r"pulling .* failed"):
            await DockerMachine(config).start()
        assert proxy.cuts > 0
        assert own.docker("image", "inspect", config.image, code=None).returncode != 0
        proxy.cut_after = None
        machine = DockerMachine(config)
        await machine.start()
        await machine.stop()


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("debian", HUB),
        ("library/debian:12", HUB),
        ("docker.io/library/debian", HUB),
        ("ghcr.io/ada/tool", "ghcr.io"),
        ("localhost/tool", "localhost"),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000"),
    ],
)
def test_the_registry_is_what_the_name_begins_with(image, registry):
    assert registry_of(image) == registry


def _decoded(header):
    return json.loads(base64.urlsafe_b64decode(header))


async def test_credentials_come_from_the_file_in_all_its_forms(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    pair = base64.b64encode(b"ada:pass:word").decode()
    auths = {
        HUB: {"auth": pair},
        "https://old.example/v1/": {"auth": pair},
        "token.example": {"auth": "", "identitytoken": "tok"},
        "plain.example": {"username": "ada", "password": "x"},
        "bad.example": {"auth": "%%%"},
    }
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    assert _decoded(await auth_header("debian")) == {"username": "ada", "password": "pass:word", "serveraddress": HUB}
    assert _decoded(await auth_header("old.example/x"))["username"] == "ada"
    assert _decoded(await auth_header("token.example/x"))["identitytoken"] == "tok"
    assert _decoded(await auth_header("plain.example/x"))["password"] == "x"
    assert await auth_header("bad.example/x") is None
    assert await auth_header("other.example/x") is None


@pytest.mark.parametrize("how", ["credsStore", "credHelpers"])
async def test_credentials_come_from_a_helper(how, tmp_path, monkeypatch):
    helper = tmp_path / "docker-credential-vault"
    helper.write_text(
        '#!/bin/sh\nread host\n[ "$1" = get ] || exit 1\ncase $host in\n'
        f'  mine.example) echo \'{{"Username": "{USERNAME}", "Secret": "{PASSWORD}"}}\' ;;\n'
        '  token.example) echo \'{"Username": "<token>", "Secret": "tok"}\' ;;\n'
        "  *) echo credentials not found in native keychain; exit 1 ;;\nesac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    hosts = ["mine.example", "token.example", "other.example"]
    value = "vault" if how == "credsStore" else dict.fromkeys(hosts, "vault")
    (tmp_path / "config.json").write_text(json.dumps({how: value}))
    assert _decoded(await auth_header("mine.example/x"))["password"] == PASSWORD
    assert _decoded(await auth_header("token.example/x"))["identitytoken"] == "tok"
    assert await auth_header("other.example/x") is None
    shutil.rmtree(tmp_path / "nothing", ignore_errors=True)


async def test_a_helper_that_is_missing_is_no_reason_not_to_try(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "desktop-of-somebody"}))
    assert await auth_header("debian") is None
    assert "docker-credential-desktop-of-somebody" in caplog.text
