"""GitMachine's E2B provider: E2B's sandboxes, by their own protocol."""
