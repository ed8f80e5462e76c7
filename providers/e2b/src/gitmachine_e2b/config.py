"""The options of the E2B provider."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping  # noqa: TC003  # cattrs resolves annotations at run time
from typing import Any

import attrs

from gitmachine import ConfigError

__all__ = ["E2BConfig", "E2BNetwork"]

DEFAULT_DOMAIN = "e2b.app"
_TEMPLATE = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)?(:[A-Za-z0-9_.-]+)?", re.IGNORECASE)


def _strings(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _from_environment(name: str) -> Any:
    return lambda: os.environ.get(name) or None


def _check_template(_config: object, field: attrs.Attribute[str], value: str) -> None:
    if not _TEMPLATE.fullmatch(value):
        raise ConfigError(f"expected a template as [namespace/]name[:tag], not {value!r} @ {field.name}")


def _check_timeout(_config: object, field: attrs.Attribute[int], value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 15:
        raise ConfigError(f"expected whole seconds, at least 15, not {value!r} @ {field.name}")


def _check_request_timeout(_config: object, field: attrs.Attribute[float], value: float) -> None:
    if value < 0:
        raise ConfigError(f"expected seconds, or 0 for no limit, not {value!r} @ {field.name}")


def _check_url(_config: object, field: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise ConfigError(f"expected a URL with http:// or https://, not {value!r} @ {field.name}")


def _check_envs(_config: object, field: attrs.Attribute[Mapping[str, str]], value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if not name or "=" in name or "\0" in name or "\0" in text:
            raise ConfigError(f"invalid environment variable {name!r} @ {field.name}")


@attrs.frozen(kw_only=True)
class E2BNetwork:
    """What a sandbox may reach, and who may reach it.

    Attributes:
        allow_out: addresses, ranges, domains or ``*.domain`` to let it reach; domains need ``0.0.0.0/0`` in `deny_out`.
        deny_out: addresses and ranges that it may not reach.
        allow_public_traffic: whether anybody may reach its ports; without, a request needs the traffic token.
        mask_request_host: the Host header that its servers see; ``${PORT}`` stands for the port.
    """

    allow_out: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    deny_out: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    allow_public_traffic: bool | None = None
    mask_request_host: str | None = None

    def body(self) -> dict[str, Any]:
        """Return it as the service takes it, without what is not set."""
        fields = {
            "allowOut": list(self.allow_out),
            "denyOut": list(self.deny_out),
            "allowPublicTraffic": self.allow_public_traffic,
            "maskRequestHost": self.mask_request_host,
        }
        return {name: value for name, value in fields.items() if value not in (None, [])}


@attrs.frozen(kw_only=True)
class E2BConfig:
    """How an E2B sandbox is made and reached.

    Attributes:
        api_key: the key of your team; without it the variable ``E2B_API_KEY``.
        template: what the sandbox is made from: a template or a snapshot, as ``[namespace/]name[:tag]``.
        timeout: seconds after which the service ends a sandbox that nobody extends; a session that works extends it.
        envs: variables of every command.
        metadata: what the sandbox is marked with; GitMachine adds marks of its own.
        domain: the service's domain; without it ``E2B_DOMAIN``, else ``e2b.app``.
        api_url: where its API is; without it ``E2B_API_URL``, else from the domain.
        sandbox_url: where every sandbox is reached; without it ``E2B_SANDBOX_URL``, else each by a name of its own.
        debug: whether sandboxes are local: ports are reached at ``localhost``, and the API at ``http://localhost:3000``;
            without it ``E2B_DEBUG``.
        secure: whether the sandbox's own service asks for a token.
        allow_internet_access: whether the sandbox reaches the internet; without it what the template says.
        network: finer rules of that.
        auto_pause: whether the sandbox is paused at its timeout, and not killed.
        auto_resume: whether traffic resumes a sandbox that was paused.
        request_timeout: seconds that one request may take, 0 for no limit; it does not limit commands.
        user: whom commands run as; without it the template's user.
    """

    api_key: str | None = attrs.field(
        factory=_from_environment("E2B_API_KEY"),
        repr=lambda key: "None" if key is None else "<set>",
        metadata={"secret": True},
    )
    template: str = attrs.field(default="base", validator=_check_template)
    timeout: int = attrs.field(default=300, validator=_check_timeout)
    envs: Mapping[str, str] = attrs.field(
        factory=dict, validator=_check_envs, repr=lambda envs: f"<{len(envs)} variables>"
    )
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    domain: str = attrs.field(factory=lambda: os.environ.get("E2B_DOMAIN") or DEFAULT_DOMAIN)
    api_url: str | None = attrs.field(factory=_from_environment("E2B_API_URL"), validator=_check_url)
    sandbox_url: str | None = attrs.field(factory=_from_environment("E2B_SANDBOX_URL"), validator=_check_url)
    debug: bool = attrs.field(factory=lambda: os.environ.get("E2B_DEBUG", "").lower() == "true")
    secure: bool = True
    allow_internet_access: bool | None = None
    network: E2BNetwork | None = None
    auto_pause: bool | None = None
    auto_resume: bool | None = None
    request_timeout: float = attrs.field(default=60.0, validator=_check_request_timeout)
    user: str | None = None

    @property
    def api(self) -> str:
        """The base of the API's addresses."""
        url = self.api_url or ("http://localhost:3000" if self.debug else f"https://api.{self.domain}")
        return url.rstrip("/")

    @property
    def seconds(self) -> float | None:
        """How long one request may take."""
        return self.request_timeout or None
