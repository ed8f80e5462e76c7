"""The rules about a sandbox's network settings (reference, 1.9). They are checked and shown, not enforced."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from support.e2b.errors import ApiError
from support.e2b.versions import at_least


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def check(network: Mapping[str, Any], *, secure: bool, version: str) -> None:
    """Refuse settings as the service does.

    Raises:
        ApiError: 400 for what cannot be, 403 for what is not enabled.
    """
    denied = network.get("denyOut") or []
    for entry in denied:
        if not _is_address(entry):
            raise ApiError(400, f"invalid denied CIDR {entry}")
    domains = [entry for entry in network.get("allowOut") or [] if not _is_address(entry)]
    if domains and "0.0.0.0/0" not in denied:
        raise ApiError(400, "When specifying allowed domains in allow out, you must include '0.0.0.0/0' in deny out")
    if network.get("allowPublicTraffic") is False and not secure:
        raise ApiError(400, "You cannot disable public traffic for a sandbox that is not secure")
    if network.get("rules") and not at_least(version, "0.5.13"):
        raise ApiError(400, f"network rules need envd 0.5.13, this sandbox has {version}")
    if network.get("egressProxy"):
        raise ApiError(403, "egress proxy is not enabled for this team")
