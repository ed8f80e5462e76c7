"""The supervisor, the first process of every local machine: standard library only, imported inside the sandbox."""
