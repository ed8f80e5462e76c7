"""What the control plane tells a sandbox's daemon at its start."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class EnvdConfig:
    """One sandbox's settings; they travel as JSON to the process that becomes the daemon."""

    sandbox_id: str
    template_id: str
    version: str
    token: str | None = None
    env_vars: Mapping[str, str] = attrs.field(factory=dict)
    default_user: str = "user"
    workdir: str | None = None

    def environment(self) -> dict[str, str]:
        """Return the sandbox's global variables."""
        own = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": self.sandbox_id, "E2B_TEMPLATE_ID": self.template_id}
        return {**own, **self.env_vars}
