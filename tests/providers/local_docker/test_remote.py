"""Engines elsewhere: TCP, TLS with a context or the environment, ssh; each a real one. Time budget: 60 s."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading

import pytest

from gitmachine import ExecRequest, MachineStartError
from gitmachine_local_docker import DockerConfig, DockerMachine
from gitmachine_local_docker.doctor import doctor
from support.docker import Engine, engine_of_its_own
from support.namespaces import Namespace, linked
from support.sshd import client_key, serving_sshd

from .test_endpoint import make_context


async def use(config, tmp_path):
    """Do everything with a machine that has a wire of its own."""
    machine = DockerMachine(config)
    await machine.start()
    try:
        result = await machine.execute(ExecRequest(shell="echo out; echo err >&2; exit 3", timeout=60))
        assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
        # Live input, whose end is seen while the output goes on.
        data = bytes(range(256)) * 4096
        process = await machine.spawn(ExecRequest(shell="cat; echo end", open_stdin=True))
        await process.stdin.write(data)
        await process.stdin.close()
        assert b"".join([piece async for piece in process.stdout]) == data + b"end\n"
        assert await process.wait() == 0
        result = await machine.execute(ExecRequest(argv=["head", "-c", "5000000", "/dev/zero"], timeout=60))
        assert len(result.stdout_bytes) == 5_000_000
        (tmp_path / "up").write_bytes(data)
        await machine.upload(tmp_path / "up", "/root/up")
        await machine.download("/root/up", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == data
        await machine.pause()
        await machine.resume()
        assert await machine.list_files("/root") == ["up"]
    finally:
        await machine.stop()


@contextlib.contextmanager
def forwarding(path):
    """Let a TCP port lead to a Unix socket, each direction with an end of its own; return its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.socket(socket.AF_UNIX)
                far.connect(path)
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=copy, args=pair, daemon=True))
                    threads[-1].start()

    ends = [listener]
    threads.append(threading.Thread(target=serve, daemon=True))
    threads[0].start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for end in list(ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in list(threads):
            thread.join(60)


@pytest.mark.requires("docker")
async def test_an_engine_by_tcp(making, docker, tmp_path, monkeypatch):
    with forwarding(docker.url.removeprefix("unix://")) as address:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{address}")
        await use(making.config(image=docker.busybox), tmp_path)


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Run an sshd, and have `ssh` know it as ``engine``; return it."""
    with serving_sshd() as server:
        (tmp_path / "known").write_text(server.known_hosts())
        (tmp_path / "ssh_config").write_text(
            f"Host engine\n HostName {server.address}\n Port {server.port}\n IdentityFile {client_key()}\n"
            f" UserKnownHostsFile {tmp_path}/known\n IdentitiesOnly yes\n"
        )
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/ssh_config "$@"\n')
        (programs / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", str(programs), prepend=":")
        yield server


@pytest.mark.requires("docker", "sshd", "root")
async def test_an_engine_by_ssh(making, docker, tmp_path, ssh):
    url = f"ssh://root@engine{docker.url.removeprefix('unix://')}"
    await use(making.config(image=docker.busybox, docker_host=url), tmp_path)


@pytest.mark.requires("docker", "sshd", "root")
async def test_an_ssh_that_refuses_says_why(making, ssh):
    ssh.new_host_key()
    ssh.restart()
    machine = DockerMachine(making.config(docker_host="ssh://root@engine"))
    with pytest.raises(MachineStartError, match=r"over ssh: [Hh]ost key verification failed"):
        await machine.start()


def _openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def make_certificates(folder, address):
    """Make an authority, and a certificate of it for an engine at this address and one for a client."""
    folder.mkdir()
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(folder, *new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca-key.pem", "-out", "ca.pem")
    for name, extension in (
        ("server", f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        (folder / "ext").write_text(extension)
        _openssl(folder, *new, "-subj", f"/CN={name}", "-keyout", f"{name}-key.pem", "-out", "request")
        sign = ["x509", "-req", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"]
        _openssl(folder, *sign, "-in", "request", "-extfile", "ext", "-out", f"{name}.pem")
    (folder / "client-key.pem").rename(folder / "key.pem")
    (folder / "client.pem").rename(folder / "cert.pem")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Run an engine with TLS; return it, its address and the directory of a client's certificates."""
    with engine_of_its_own() as own, linked(Namespace(own.namespace)) as link:
        folder = tmp_path_factory.mktemp("tls") / "certificates"
        make_certificates(folder, link.there)
        plain = own._dockerd_argv
        files = ["--tlscacert=ca.pem", "--tlscert=server.pem", "--tlskey=server-key.pem"]
        more = ["--tlsverify", *(option.replace("=", f"={folder}/") for option in files)]
        own._dockerd_argv = lambda: [*plain(), "--host", "tcp://0.0.0.0:2376", *more]
        own.stop()
        own.start()
        yield own, f"tcp://{link.there}:2376", folder


def _config(own: Engine, **options):
    return DockerConfig(image=own.busybox, pull="never", git="unchecked", network="none", **options)


@pytest.mark.requires("own-docker", "namespaces", "openssl")
async def test_an_engine_by_tls_as_the_environment_says(tls, tmp_path, monkeypatch):
    own, url, certificates = tls
    monkeypatch.setenv("DOCKER_HOST", url)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    await use(_config(own), tmp_path)
    assert own.containers() == []


@pytest.mark.requires("own-docker", "namespaces", "openssl")
async def test_an_engine_by_a_context_with_tls(tls, tmp_path, monkeypatch):
    own, url, certificates = tls
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    folder = make_context(tmp_path, "far", url, tls=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        shutil.copy(certificates / name, folder)
    checks = await doctor(_config(own, context="far"))
    assert [check.ok for check in checks] == [True, True, True, False], checks
    assert "the Docker context 'far'" in checks[0].detail
    assert "no network" not in checks[2].detail


@pytest.mark.requires("own-docker", "namespaces", "openssl")
async def test_tls_that_does_not_fit_is_said(tls, tmp_path, monkeypatch):
    own, url, certificates = tls
    with pytest.raises(MachineStartError, match=r"does not agree on TLS.*DOCKER_TLS_VERIFY=1"):
        await DockerMachine(_config(own, docker_host=url)).start()
    make_certificates(tmp_path / "others", "127.0.0.1")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    for ca, key, said in (
        ("others", "others", "TLS.*certificate verify failed"),
        (str(certificates), "others", r"certificate.*check ca\.pem"),
    ):
        folder = tmp_path / f"mixed-{len(ca)}"
        folder.mkdir()
        shutil.copy(tmp_path / ca / "ca.pem", folder)
        for name in ("cert.pem", "key.pem"):
            shutil.copy(tmp_path / key / name, folder)
        monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
        with pytest.raises(MachineStartError, match=said):
            await DockerMachine(_config(own, docker_host=url)).start()
