"""What the service answers, as typed records: fields that are not known are ignored, values that are not known kept."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003  # cattrs resolves annotations at run time
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

T = TypeVar("T")

_FRACTION = re.compile(r"\.(\d{1,6})\d*")


class RecordError(ValueError):
    """An answer lacks what it must have, or has another shape."""


@attrs.frozen(kw_only=True)
class Sandbox:
    """The answer to create, connect, resume and fork. Tokens are never shown."""

    id: str = attrs.field(metadata={"wire": "sandboxID"})
    template_id: str = attrs.field(metadata={"wire": "templateID"}, default="")
    envd_version: str = attrs.field(metadata={"wire": "envdVersion"}, default="")
    envd_token: str | None = attrs.field(metadata={"wire": "envdAccessToken"}, default=None, repr=False)
    traffic_token: str | None = attrs.field(metadata={"wire": "trafficAccessToken"}, default=None, repr=False)
    domain: str | None = None
    alias: str | None = None


@attrs.frozen(kw_only=True)
class Lifecycle:
    """What happens to a sandbox at its timeout."""

    auto_resume: bool = attrs.field(metadata={"wire": "autoResume"}, default=False)
    on_timeout: str = attrs.field(metadata={"wire": "onTimeout"}, default="kill")


@attrs.frozen(kw_only=True)
class SandboxInfo:
    """A sandbox as get and list describe it; a list leaves out the domain, the token, the network and the lifecycle.

    Attributes:
        state: ``running`` or ``paused``; one that is being paused says paused.
        ends_at: when its timeout passes.
        allow_internet_access: None when it was never set.
    """

    id: str = attrs.field(metadata={"wire": "sandboxID"})
    template_id: str = attrs.field(metadata={"wire": "templateID"}, default="")
    state: str = "running"
    started_at: datetime | None = attrs.field(metadata={"wire": "startedAt"}, default=None)
    ends_at: datetime | None = attrs.field(metadata={"wire": "endAt"}, default=None)
    cpu_count: int = attrs.field(metadata={"wire": "cpuCount"}, default=0)
    memory_mib: int = attrs.field(metadata={"wire": "memoryMB"}, default=0)
    disk_mib: int = attrs.field(metadata={"wire": "diskSizeMB"}, default=0)
    envd_version: str = attrs.field(metadata={"wire": "envdVersion"}, default="")
    envd_token: str | None = attrs.field(metadata={"wire": "envdAccessToken"}, default=None, repr=False)
    domain: str | None = None
    alias: str | None = None
    metadata: Mapping[str, str] | None = None
    allow_internet_access: bool | None = attrs.field(metadata={"wire": "allowInternetAccess"}, default=None)
    network: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    lifecycle: Lifecycle | None = None


@attrs.frozen(kw_only=True)
class Page:
    """One page of a list, and the token of the next one."""

    sandboxes: tuple[SandboxInfo, ...]
    next_token: str | None


@attrs.frozen(kw_only=True)
class Metric:
    """How busy a sandbox was at one moment; sizes in bytes, time in Unix seconds."""

    timestamp: int = attrs.field(metadata={"wire": "timestampUnix"}, default=0)
    cpu_count: int = attrs.field(metadata={"wire": "cpuCount"}, default=0)
    cpu_used_percent: float = attrs.field(metadata={"wire": "cpuUsedPct"}, default=0.0)
    memory_used: int = attrs.field(metadata={"wire": "memUsed"}, default=0)
    memory_total: int = attrs.field(metadata={"wire": "memTotal"}, default=0)
    memory_cache: int = attrs.field(metadata={"wire": "memCache"}, default=0)
    disk_used: int = attrs.field(metadata={"wire": "diskUsed"}, default=0)
    disk_total: int = attrs.field(metadata={"wire": "diskTotal"}, default=0)


@attrs.frozen(kw_only=True)
class Snapshot:
    """A saved sandbox; a template by nature: new sandboxes are made from its id."""

    id: str = attrs.field(metadata={"wire": "snapshotID"})
    names: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Failure:
    """Why one of several forks failed."""

    code: int = 0
    message: str = ""


@attrs.frozen(kw_only=True)
class Fork:
    """One of several forks: each succeeds or fails alone."""

    sandbox: Sandbox | None = None
    error: Failure | None = None


@attrs.frozen(kw_only=True)
class Entry:
    """A file, directory or link in a sandbox.

    Attributes:
        type: ``FILE_TYPE_FILE``, ``FILE_TYPE_DIRECTORY`` or ``FILE_TYPE_SYMLINK``; empty for anything else. A link
            reports the type of what it leads to.
        size: bytes.
        mode: the permission bits.
    """

    name: str = ""
    type: str = ""
    path: str = ""
    size: int = 0
    mode: int = 0
    permissions: str = ""
    owner: str = ""
    group: str = ""
    modified: datetime | None = attrs.field(metadata={"wire": "modifiedTime"}, default=None)
    symlink_target: str | None = attrs.field(metadata={"wire": "symlinkTarget"}, default=None)
    metadata: Mapping[str, str] | None = None


@attrs.frozen(kw_only=True)
class EntryAnswer:
    """The answer to stat, make and move."""

    entry: Entry = attrs.field(factory=Entry)


@attrs.frozen(kw_only=True)
class Listing:
    """The answer to a listing."""

    entries: tuple[Entry, ...] = ()


@attrs.frozen(kw_only=True)
class Written:
    """One file that an upload wrote."""

    name: str = ""
    path: str = ""
    type: str = ""
    metadata: Mapping[str, str] | None = None


@attrs.frozen(kw_only=True)
class FileEvent:
    """Something that happened below a watched directory; `name` is relative to it.

    Attributes:
        type: ``EVENT_TYPE_CREATE``, ``WRITE``, ``REMOVE``, ``RENAME`` or ``CHMOD``.
    """

    name: str = ""
    type: str = ""
    entry: Entry | None = None


@attrs.frozen(kw_only=True)
class WatchMessage:
    """One message of a watch; all fields are None for what is not known."""

    start: Mapping[str, Any] | None = None
    filesystem: FileEvent | None = None
    keepalive: Mapping[str, Any] | None = None


@attrs.frozen(kw_only=True)
class ProcessConfig:
    """What a process was started with."""

    cmd: str = ""
    args: tuple[str, ...] = ()
    envs: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    cwd: str | None = None


@attrs.frozen(kw_only=True)
class ProcessInfo:
    """A running process that was started through the daemon."""

    pid: int = 0
    config: ProcessConfig = attrs.field(factory=ProcessConfig)
    tag: str | None = None


@attrs.frozen(kw_only=True)
class ProcessList:
    """The answer to a list of processes."""

    processes: tuple[ProcessInfo, ...] = ()


@attrs.frozen(kw_only=True)
class DaemonMetrics:
    """What the daemon says of the sandbox; sizes in bytes."""

    timestamp: int = attrs.field(metadata={"wire": "ts"}, default=0)
    cpu_count: int = 0
    cpu_used_percent: float = attrs.field(metadata={"wire": "cpu_used_pct"}, default=0.0)
    memory_total: int = attrs.field(metadata={"wire": "mem_total"}, default=0)
    memory_used: int = attrs.field(metadata={"wire": "mem_used"}, default=0)
    disk_used: int = 0
    disk_total: int = 0


def parse_time(text: Any) -> datetime:
    """Return an RFC 3339 time in UTC; of up to nine digits of a fraction six are kept."""
    if not isinstance(text, str):
        raise RecordError(f"expected a time, not {text!r}")
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(r".\1", text, count=1))
    except ValueError as error:
        raise RecordError(f"expected a time, not {text!r}") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _number(value: Any, _: Any) -> int:
    # protojson writes 64-bit integers as strings
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        raise RecordError(f"expected a number, not {value!r}")
    return int(value)


def _truth(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise RecordError(f"expected true or false, not {value!r}")
    return value


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise RecordError(f"expected text, not {value!r}")
    return value


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False, forbid_extra_keys=False)
    converter.register_structure_hook(int, _number)
    converter.register_structure_hook(bool, _truth)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(datetime, lambda value, _: parse_time(value))

    def structure(cls: Any) -> Any:
        renamed = {field.name: override(rename=field.metadata["wire"]) for field in attrs.fields(cls) if field.metadata}
        inner = make_dict_structure_fn(cls, converter, **renamed)  # type: ignore[arg-type]  # the overrides are all there is

        def outer(value: Any, kind: Any) -> Any:
            if not isinstance(value, dict):
                raise RecordError(f"expected an object, not {type(value).__name__}")
            # null stands for absent wherever there is a default
            return inner({key: item for key, item in value.items() if item is not None}, kind)

        return outer

    converter.register_structure_hook_factory(attrs.has, structure)
    return converter


_CONVERTER = _converter()


def structure(value: Any, cls: type[T]) -> T:
    """Return decoded JSON as a record.

    Raises:
        RecordError: it is none.
    """
    try:
        return _CONVERTER.structure(value, cls)
    except RecordError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise RecordError(f"an answer is no {getattr(cls, '__name__', cls)}: {what}") from error


def structure_all(value: Any, cls: type[T]) -> tuple[T, ...]:
    """Return a JSON array as records; null is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RecordError(f"expected an array of {cls.__name__}, not {type(value).__name__}")
    return tuple(structure(item, cls) for item in value)
