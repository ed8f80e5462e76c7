"""GitMachine's Docker provider: containers of any Docker engine, with a warm channel for commands."""
