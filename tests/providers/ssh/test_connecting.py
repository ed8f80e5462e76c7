"""Getting to a host: whom to trust, who we are, which way; every refusal is an error that says what to do.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import socket
import time

import attrs
import pytest

from gitmachine import AuthenticationError, ConfigError, MachineStartError
from gitmachine_ssh import SSHConfig, SSHMachine
from gitmachine_ssh._errors import HostKeyError
from gitmachine_ssh.machine import inventory
from support.sshd import BASH, DASH, certify, client_key, free_port, new_key

pytestmark = pytest.mark.requires("sshd", "root")


async def works(config):
    """Log in, run nothing but a listing."""
    return await inventory(config) == {}


async def test_a_refused_connection_names_the_host_and_the_reason(config):
    port = free_port()
    with pytest.raises(MachineStartError, match=rf"cannot connect to root@127\.0\.0\.1:{port}: connection refused"):
        await SSHMachine(attrs.evolve(config, port=port)).start()


async def test_a_host_that_never_answers_is_given_up_in_time(config):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(MachineStartError, match="cannot connect to"):
            await SSHMachine(attrs.evolve(config, port=silent.getsockname()[1], connect_timeout=0.5)).start()
        assert time.monotonic() - began < 20


async def test_an_unknown_name_is_told(config):
    with pytest.raises(MachineStartError, match=r"cannot connect to root@no-such-host\.invalid"):
        await SSHMachine(attrs.evolve(config, host="no-such-host.invalid", port=None)).start()


async def test_a_refused_login_lists_what_was_tried(config, tmp_path):
    key = new_key(tmp_path / "other")
    with pytest.raises(AuthenticationError) as caught:
        await SSHMachine(attrs.evolve(config, identity_file=(str(key),))).start()
    assert "tried: as 'root': the key 'tester' (ssh-ed25519)" in str(caught.value)
    with pytest.raises(AuthenticationError, match="nothing, since there is no key and no password"):
        await SSHMachine(attrs.evolve(config, identity_file=(), config_file=str(_empty(tmp_path)))).start()


def _empty(tmp_path):
    path = tmp_path / "ssh_config"
    path.write_text("IdentityFile none\n")
    return path


async def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_way_to_accept_it(config, sshd, tmp_path):
    known = tmp_path / "nothing"
    with pytest.raises(HostKeyError) as caught:
        await SSHMachine(attrs.evolve(config, known_hosts=(str(known),))).start()
    message = str(caught.value)
    fingerprint = _fingerprint(sshd)
    assert fingerprint.startswith("SHA256:")
    assert fingerprint in message
    assert "accept_new = true" in message
    assert str(known) in message
    assert not known.exists()


def _fingerprint(server):
    import subprocess

    argv = ["ssh-keygen", "-lf", str(server.place / "host.pub")]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.split()[1]


async def test_a_new_key_is_written_down_when_asked_for_and_a_changed_one_is_refused(config, tmp_path, helpers):
    known = tmp_path / "new" / "known_hosts"
    with helpers.serving() as server:
        trusting = attrs.evolve(config, port=server.port, known_hosts=(str(known),), accept_new=True)
        assert await works(trusting)
        assert known.read_text().split()[:3] == server.known_hosts().split()
        assert known.stat().st_mode & 0o777 == 0o600
        assert await works(attrs.evolve(trusting, accept_new=False))
        server.kill()
        server.new_host_key()
        server.start()
        before = known.read_text()
        with pytest.raises(HostKeyError, match=r"has changed to ssh-ed25519 SHA256:.*ssh-keygen -R") as caught:
            await SSHMachine(attrs.evolve(trusting, port=server.port)).start()
        assert _fingerprint(server) in str(caught.value)
        assert known.read_text() == before


async def test_several_files_of_known_hosts_count_together(config, tmp_path):
    files = (str(tmp_path / "missing"), *config.known_hosts)
    assert await works(attrs.evolve(config, known_hosts=files))


async def test_an_encrypted_key_asks_for_its_passphrase(config, tmp_path, helpers):
    pytest.importorskip("bcrypt", reason="comes with the package; without it OpenSSH's keys cannot be decrypted")
    key = new_key(tmp_path / "locked", passphrase="open sesame")
    with helpers.serving() as server:
        server.authorize(key)
        asked = []

        def prompt(name):
            asked.append(str(name))
            return "open sesame"

        known = tmp_path / "known"
        known.write_text(server.known_hosts())
        own = attrs.evolve(config, port=server.port, known_hosts=(str(known),), identity_file=(str(key),))
        assert await works(attrs.evolve(own, passphrase=prompt))
        assert asked == [str(key)]
        for passphrase in ("wrong", None):
            with pytest.raises((AuthenticationError, ConfigError), match=r"cannot be used: .*passphrase"):
                await works(attrs.evolve(own, passphrase=passphrase))


@pytest.mark.requires("ssh-accounts")
async def test_a_certificate_is_used_with_its_key(config, tmp_path, helpers):
    authority, key = new_key(tmp_path / "authority"), new_key(tmp_path / "certified")
    certify(authority, key, DASH)
    with helpers.serving(options={"TrustedUserCAKeys": str(tmp_path / "authority.pub")}) as server:
        known = tmp_path / "known"
        known.write_text(server.known_hosts())
        own = attrs.evolve(
            config,
            port=server.port,
            user=DASH,
            known_hosts=(str(known),),
            identity_file=(str(key),),
            base_dir=".gitmachine-test",
        )
        assert await works(own)
        (tmp_path / "certified-cert.pub").unlink()
        with pytest.raises(AuthenticationError):
            await works(own)


async def test_keys_come_from_the_agent_and_from_nowhere_when_it_is_off(config, tmp_path):
    place = tmp_path / "agent"
    agent = await asyncio.create_subprocess_exec(
        "ssh-agent", "-D", "-a", str(place), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(500):
            if place.exists():
                break
            await asyncio.sleep(0.02)
        add = await asyncio.create_subprocess_exec(
            "ssh-add", "-q", str(client_key()), env={"SSH_AUTH_SOCK": str(place), "PATH": "/usr/bin:/bin"}
        )
        assert await add.wait() == 0
        keyless = attrs.evolve(config, identity_file=(), config_file=str(_empty(tmp_path)))
        assert await works(attrs.evolve(keyless, agent=str(place)))
        with pytest.raises(AuthenticationError):
            await works(keyless)
    finally:
        agent.terminate()
        await agent.wait()


async def test_the_configuration_file_is_honoured(sshd, config, tmp_path):
    file = tmp_path / "ssh_config"
    file.write_text(
        f"Host box\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User root\n"
        f"  IdentityFile {client_key()}\n  UserKnownHostsFile {config.known_hosts[0]}\n  Ciphers aes256-ctr\n"
    )
    own = SSHConfig(host="box", config_file=str(file), agent=False, base_dir=config.base_dir)
    assert await works(own)
    machine = SSHMachine(own)
    await machine.start()
    try:
        line = await machine._place.link.line()
        assert line.ssh.get_extra_info("send_cipher") == "aes256-ctr"
    finally:
        await machine.stop()
    with pytest.raises(ConfigError, match=r"there is no file .* @ config_file"):
        await works(attrs.evolve(own, config_file=str(tmp_path / "nowhere")))
    for missing, why in ((tmp_path / "no-key", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=rf"^the key '{missing}' cannot be read: {why} @ identity_file$"):
            await works(attrs.evolve(own, identity_file=(*own.identity_file, str(missing))))
    file.write_text("Port many\n")
    with pytest.raises(ConfigError, match="cannot be used"):
        await works(own)


async def test_a_proxy_command_is_the_way(sshd, config, tmp_path):
    file = tmp_path / "ssh_config"
    file.write_text(
        f"Host *\n  ProxyCommand bash -c 'exec 3<>/dev/tcp/127.0.0.1/{sshd.port}; cat <&3 & exec cat >&3'\n"
    )
    known = tmp_path / "known"
    known.write_text(sshd.known_hosts().replace(f"[127.0.0.1]:{sshd.port}", "far-away"))
    way = attrs.evolve(config, host="far-away", port=None, config_file=str(file), known_hosts=(str(known),))
    assert await works(way)


@pytest.mark.requires("ssh-accounts")
async def test_jumps_lead_from_host_to_host_and_a_refusal_names_the_one_that_refused(sshd, config, tmp_path, helpers):
    with helpers.serving() as middle:
        known = tmp_path / "both"
        known.write_text(sshd.known_hosts() + middle.known_hosts())
        way = attrs.evolve(config, jump=f"{BASH}@127.0.0.1:{middle.port}", known_hosts=(str(known),))
        assert await works(way)
        assert f"Accepted publickey for {BASH}" in middle.log()
        with pytest.raises(AuthenticationError, match=rf"nobody-here@127\.0\.0\.1:{middle.port} refused the login"):
            await works(attrs.evolve(way, jump=f"nobody-here@127.0.0.1:{middle.port}"))
        with pytest.raises(MachineStartError, match=r"on the way to root@127\.0\.0\.1"):
            await SSHMachine(attrs.evolve(way, jump="127.0.0.1:1")).start()
        file = tmp_path / "ssh_config"
        file.write_text(f"Host 127.0.0.1\n  ProxyJump {BASH}@127.0.0.1:{middle.port}\nHost *\n  Port {sshd.port}\n")
        before = middle.log().count("Accepted publickey")
        assert await works(attrs.evolve(way, jump=None, config_file=str(file)))
        assert middle.log().count("Accepted publickey") == before + 1


@pytest.fixture
def ways(sshd, config, tmp_path, helpers):
    """Three hosts, and a function that gives a configuration for the last one by what is written for each."""
    with helpers.serving() as outer, helpers.serving() as middle:
        known = tmp_path / "all"
        known.write_text(sshd.known_hosts() + middle.known_hosts() + outer.known_hosts())
        servers = {"target": sshd, "middle": middle, "outer": outer}

        def make(*, jump=None, **own):
            file = tmp_path / "ssh_config"
            parts = [
                f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  {own.get(name, '')}\n"
                for name, server in servers.items()
            ]
            file.write_text("\n".join([*parts, f"Host *\n  User root\n  {own.get('all', '')}\n"]))
            return attrs.evolve(
                config,
                host="target",
                port=None,
                user=None,
                jump=jump,
                known_hosts=(str(known),),
                config_file=str(file),
            )

        def logins():
            """Return how often somebody has logged in to the hosts on the way, the nearest first."""
            return [server.log().count("Accepted publickey") for server in (outer, middle)]

        yield make, logins


@pytest.mark.parametrize("jump", [None, "middle"], ids=["of the file", "of the options"])
async def test_a_jump_host_is_reached_through_its_own_jump_host(ways, jump):
    make, logins = ways
    way = make(jump=jump, middle="ProxyJump outer", **({} if jump else {"target": "ProxyJump middle"}))
    assert await works(way)
    assert logins() == [1, 1]


async def test_a_jump_host_says_by_none_that_it_is_reached_directly_and_others_need_not(ways):
    make, logins = ways
    assert await works(make(middle="ProxyJump none", all="ProxyJump middle"))
    assert logins() == [0, 1]
    assert await works(make(all="ProxyJump middle"))
    assert await works(make(jump="root@middle", all="ProxyJump middle"))
    assert logins() == [0, 3]


async def test_of_several_jump_hosts_only_the_first_is_reached_its_own_way(ways):
    make, logins = ways
    assert await works(make(target="ProxyJump outer,middle", middle="ProxyJump nowhere.invalid"))
    assert logins() == [1, 1]


async def test_jumps_in_a_circle_are_refused_with_the_circle(ways):
    make, logins = ways
    circle = r"in a circle: target, middle, outer, middle; write ProxyJump none"
    with pytest.raises(ConfigError, match=circle):
        await works(make(target="ProxyJump middle", middle="ProxyJump outer", outer="ProxyJump middle"))
    with pytest.raises(ConfigError, match=r"in a circle: target, middle, target;"):
        await works(make(target="ProxyJump middle", middle="ProxyJump target"))
    assert logins() == [0, 0]


async def test_a_failure_far_up_the_way_names_the_host(ways):
    make, logins = ways
    with pytest.raises(MachineStartError, match=r"cannot connect to nowhere.invalid, on the way to outer"):
        await SSHMachine(
            make(target="ProxyJump middle", middle="ProxyJump outer", outer="ProxyJump nowhere.invalid")
        ).start()
    assert logins() == [0, 0]


async def test_a_refusal_half_way_names_the_host_that_refused(ways):
    make, logins = ways
    with pytest.raises(AuthenticationError, match=r"middle refused the login .* as 'nobody-here'"):
        await works(make(target="ProxyJump middle", middle="ProxyJump outer\n  User nobody-here"))
    assert logins() == [1, 0]
