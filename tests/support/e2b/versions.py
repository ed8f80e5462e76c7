"""What depends on the version of envd (reference, section 3)."""

from __future__ import annotations

CURRENT = "0.6.13"


def numbers(version: str) -> tuple[int, ...]:
    """Return a version's numbers, to be compared; a suffix such as `-dev` does not count."""
    return tuple(int(part) for part in version.split("-", maxsplit=1)[0].removeprefix("v").split("."))


def at_least(version: str, minimum: str) -> bool:
    """Say whether a version has what came with `minimum`."""
    return numbers(version) >= numbers(minimum)
