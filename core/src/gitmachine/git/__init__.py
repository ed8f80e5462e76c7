"""Git: what runs on the host's bare repositories, what runs in the machine, and the ways between them."""
