"""What an emulator is told at its start; all of it may be changed while it runs."""

from __future__ import annotations

import attrs

from support.e2b.versions import CURRENT


@attrs.define(kw_only=True)
class Settings:
    """Settings of the whole service."""

    envd_version: str = CURRENT
    """The version of envd in new sandboxes of `base`; template `envd:<version>` chooses one for a single sandbox."""
    domain: str | None = None
    """What `domain` says in answers."""
    lifetime_scale: float = 1.0
    """How many real seconds a second of a sandbox's timeout lasts; 0.01 makes 300 s three."""
    max_seconds: int = 24 * 3600
    """The longest life of a sandbox since its start."""
    concurrency_limit: int = 100
    always_secure: bool = False
    """Whether sandboxes have a token though they did not ask, as newer servers do."""
    idempotency: bool = True
    """Whether create v2 knows `Idempotency-Key`; an older server ignores it."""
    v2: bool = True
    """Whether the v2 paths of create and connect exist."""
    auto_resume_seconds: int = 300
    namespace: str = "team"
