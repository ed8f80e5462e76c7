"""What a provider says of itself, and the rules for provider names."""

from __future__ import annotations

import re
from datetime import datetime  # noqa: TC003  # attrs resolves annotations at run time

import attrs

from gitmachine.errors import ConfigError

__all__ = ["CONTRACT", "Check", "ProviderSpec", "SnapshotInfo", "normalize_name"]

CONTRACT = 1
"""The version of the machine contract that this core speaks."""

_SEPARATORS = re.compile(r"[-_.]+")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def normalize_name(name: str) -> str:
    """Return the form in which provider names are compared: lower case, with ``-``, ``.`` and ``_`` folded to ``_``."""
    return _SEPARATORS.sub("_", name).lower()


@attrs.frozen(kw_only=True)
class Check:
    """One line of ``gitmachine doctor``.

    Attributes:
        name: what was looked at.
        ok: whether it can work.
        detail: what was found.
        fix: what to do when it is not ok, else "".
    """

    name: str
    ok: bool
    detail: str = ""
    fix: str = ""


@attrs.frozen(kw_only=True)
class SnapshotInfo:
    """A snapshot, as its provider knows it.

    Attributes:
        name: what `Machine.snapshot` returned for it, or what else it can be removed by.
        machine_id: the id of the machine that it was made of, which may have ended; None where nobody knows.
        created: when it was made (UTC), or None.
        size_bytes: what it takes, or None.
    """

    name: str
    machine_id: str | None = None
    created: datetime | None = None
    size_bytes: int | None = None


def _valid_name(_spec: ProviderSpec, _field: attrs.Attribute[str], value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ConfigError(f"invalid provider name {value!r}: use letters, digits, '-', '_' and '.'")


@attrs.frozen(kw_only=True)
class ProviderSpec:
    """A provider, described without importing it.

    The references are strings of the form ``"package.module:attribute"``, imported on first use.

    Attributes:
        name: the name users write in configuration.
        factory: a callable ``(config) -> Machine``.
        config: an attrs class; the provider's options are structured into it.
        summary: one line for ``gitmachine providers``.
        connect: a coroutine function ``(machine_id, config) -> Machine`` for a machine that exists already, or None.
        doctor: a coroutine function ``(config) -> Sequence[Check]``, or None.
        find: a coroutine function ``(label, config) -> machine id | None``, or None: which machine carries a label
            (`Machine.label`), also a half-made one whose maker died. What can never run it removes instead.
        inventory: a coroutine function ``(config) -> Mapping[machine id, label]`` of all machines that carry one, or
            None.
        snapshots: a coroutine function ``(machine_ids, config) -> Sequence[SnapshotInfo]`` of all snapshots there are,
            the oldest first, or None. The ids are those that the caller knows, for a provider that has to be asked
            about each machine; they need not exist any more.
        delete_snapshot: a coroutine function ``(snapshot, config) -> None`` that removes one, no error when it is gone;
            or None. It never removes what is no snapshot.
        aliases: other names for the same provider.
        contract: the version of the machine contract the provider was written for.
    """

    name: str = attrs.field(validator=_valid_name)
    factory: str
    config: str
    summary: str = ""
    connect: str | None = None
    doctor: str | None = None
    find: str | None = None
    inventory: str | None = None
    snapshots: str | None = None
    delete_snapshot: str | None = None
    aliases: tuple[str, ...] = ()
    contract: int = CONTRACT
