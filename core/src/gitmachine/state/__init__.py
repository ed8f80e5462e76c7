"""What this host remembers: places on disk, the journal, locks."""
