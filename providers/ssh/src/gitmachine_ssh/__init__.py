"""GitMachine's SSH provider: machines on any host with sshd."""
