"""GitMachine's steps plugin: configured commands after the start of a machine and before its end."""
