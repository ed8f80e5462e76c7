"""What is known of a sandbox, and under which addresses it is reached."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # attrs resolves annotations
from typing import TYPE_CHECKING

import attrs

from gitmachine.machine import Host
from gitmachine_e2b._envd import PORT, Address, at_least

if TYPE_CHECKING:
    from gitmachine_e2b._records import Sandbox, SandboxInfo
    from gitmachine_e2b.config import E2BConfig


@attrs.frozen(kw_only=True)
class Sandboxed:
    """What this client has to know of a sandbox. Its tokens are the same for its whole life."""

    id: str
    version: str
    domain: str | None
    token: str | None = attrs.field(default=None, repr=False)
    metadata: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, sandbox: Sandbox | SandboxInfo, metadata: Mapping[str, str] | None = None) -> Sandboxed:
        """Return it from what the service answered."""
        return cls(
            id=sandbox.id,
            version=sandbox.envd_version,
            domain=sandbox.domain,
            token=sandbox.envd_token,
            metadata=dict(metadata or {}),
        )

    def has(self, *version: int) -> bool:
        """Whether its daemon is of this version or a later one."""
        return at_least(self.version, *version)


class SecureHost(Host):
    """The address of a port behind TLS."""

    __slots__ = ()

    @property
    def url(self) -> str:
        """The address with a scheme."""
        return f"https://{self}"


def address_of(config: E2BConfig, sandbox: Sandboxed) -> Address:
    """Return where a sandbox's daemon is: at the port's own name, which every domain has."""
    url = config.sandbox_url or f"https://{PORT}-{sandbox.id}.{sandbox.domain or config.domain}"
    return Address(
        url=url.rstrip("/"), sandbox_id=sandbox.id, version=sandbox.version, token=sandbox.token, user=config.user
    )


def host_of(config: E2BConfig, sandbox: Sandboxed, port: int) -> Host:
    """Return where a port of a sandbox is reached from outside."""
    if config.debug:
        return Host(f"localhost:{port}")
    return SecureHost(f"{port}-{sandbox.id}.{sandbox.domain or config.domain}")
