"""paramiko: one channel for each command on one connection."""

import paramiko
from work import arguments, serve

given = arguments()
client = paramiko.SSHClient()
client.load_host_keys(given["known_hosts"])
client.connect(
    given["host"], given["port"], given["user"], key_filename=given["key"], allow_agent=False, look_for_keys=False
)


def work() -> None:
    _, stdout, _ = client.exec_command(given["command"])
    stdout.read()
    if stdout.channel.recv_exit_status() != 0:
        raise SystemExit("the command failed")


serve(work)
client.close()
