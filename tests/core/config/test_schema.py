"""The schema describes what the model takes. Time budget: 1 s."""

from __future__ import annotations

import json
from typing import Literal

import attrs

from gitmachine.config.model import Settings
from gitmachine.config.schema import settings_schema
from gitmachine.config.structure import configurable


@attrs.frozen(kw_only=True)
class BoxConfig:
    """A box.

    Attributes:
        host: where it is,
            over two lines.
        cpus: how many.
    """

    host: str
    cpus: int | None = 2
    network: Literal["none", "host"] = "none"
    key: str = attrs.field(default="hidden-default", metadata={"secret": True})


def test_every_key_is_described() -> None:
    schema = settings_schema()
    assert set(schema["properties"]) == {field.name for field in configurable(Settings)}
    assert all(table.get("description") for table in schema["properties"].values())
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_installed_providers_are_described() -> None:
    schema = settings_schema({"box": BoxConfig})
    table = schema["properties"]["providers"]["properties"]["box"]
    assert table["properties"]["host"] == {"description": "where it is, over two lines.", "type": "string"}
    assert table["properties"]["cpus"] == {
        "description": "how many.",
        "anyOf": [{"type": "integer"}, {"type": "string", "pattern": "\\$\\{"}],
        "default": 2,
    }
    assert table["properties"]["network"]["anyOf"][0] == {"enum": ["none", "host"]}
    assert "default" not in table["properties"]["key"]
    assert schema["properties"]["providers"]["additionalProperties"] == {"type": "object"}
