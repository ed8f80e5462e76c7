"""Templates and snapshots, which are templates too (reference, 1.3 and 1.6)."""

from __future__ import annotations

import re
import time
from pathlib import Path

import attrs

from support.e2b.errors import ApiError
from support.e2b.sandboxes import new_id
from support.e2b.settings import Settings

_REFERENCE = re.compile(r"(?:(?P<namespace>[a-z0-9-_]+)/)?(?P<name>[a-z0-9-_]+)(?::(?P<tag>[a-z0-9-_.]+))?")
BASE_ID = "rki5dems9wqfm4r03t7g"


@attrs.frozen(kw_only=True)
class Snapshot:
    """The files of a sandbox at one moment."""

    template_id: str
    name: str | None
    """`namespace/name`, None for one without a name."""
    source: str
    version: str
    team: str
    tree: Path
    made_at: float = attrs.field(factory=time.time)

    @property
    def snapshot_id(self) -> str:
        return f"{self.name or self.template_id}:default"

    def view(self) -> dict[str, object]:
        return {"snapshotID": self.snapshot_id, "names": [] if self.name is None else [self.name]}


@attrs.frozen(kw_only=True)
class Template:
    """What a sandbox is made from."""

    template_id: str
    alias: str | None
    version: str
    tree: Path | None = None


class Templates:
    """What there is to make sandboxes from."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        self._snapshots: dict[str, Snapshot] = {}

    def find(self, reference: str, team: str) -> Template:
        """Find a template by its reference or id.

        Raises:
            ApiError: 400 for no reference, 404 for none that is there.
        """
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise ApiError(400, f"Invalid template reference: {reference}")
        name, tag = found["name"], found["tag"]
        if found["namespace"] is None and name in {"base", BASE_ID} and tag in {None, "default"}:
            return Template(template_id=BASE_ID, alias="base", version=self._settings.envd_version)
        if name == "envd" and tag is not None:
            return Template(template_id=BASE_ID, alias="base", version=tag)
        snapshot = self.snapshot(reference, team)
        if snapshot is None:
            raise ApiError(404, f"template '{reference}' not found")
        alias = None if snapshot.name is None else snapshot.name.partition("/")[2]
        return Template(template_id=snapshot.template_id, alias=alias, version=snapshot.version, tree=snapshot.tree)

    def snapshot(self, reference: str, team: str) -> Snapshot | None:
        """Find a snapshot, by name with or without namespace and tag, or by its template's id."""
        plain = reference.removesuffix(":default")
        for snapshot in self._snapshots.values():
            names = {snapshot.name, (snapshot.name or "").partition("/")[2], snapshot.template_id}
            if snapshot.team == team and plain in names:
                return snapshot
        return None

    def reserve(self, name: str | None, source: str, version: str, team: str) -> Snapshot:
        """Think of a snapshot whose files are still to be copied; `add` makes it known."""
        if name is not None and not re.fullmatch("[a-z0-9-_]+", name):
            raise ApiError(400, f"Invalid snapshot name: {name}")
        identifier = new_id("s")
        return Snapshot(
            template_id=identifier,
            name=None if name is None else f"{self._settings.namespace}/{name}",
            source=source,
            version=version,
            team=team,
            tree=self._directory / "snapshots" / identifier,
        )

    def add(self, snapshot: Snapshot) -> None:
        """Make a snapshot known; one of the same name gives way."""
        for other in list(self._snapshots.values()):
            if snapshot.name is not None and other.name == snapshot.name and other.team == snapshot.team:
                del self._snapshots[other.template_id]
        self._snapshots[snapshot.template_id] = snapshot

    def remove(self, snapshot: Snapshot) -> None:
        self._snapshots.pop(snapshot.template_id, None)

    def snapshots(self, team: str) -> list[Snapshot]:
        """Return a team's snapshots, the newest first."""
        found = [snapshot for snapshot in self._snapshots.values() if snapshot.team == team]
        return sorted(found, key=lambda snapshot: (snapshot.made_at, snapshot.template_id), reverse=True)
