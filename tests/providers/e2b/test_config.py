"""The options of the E2B provider. Time budget: 2 s."""

from __future__ import annotations

import attrs
import pytest

from gitmachine import ConfigError
from gitmachine.config.schema import class_schema
from gitmachine.config.structure import structure
from gitmachine_e2b import E2BConfig, E2BNetwork

VARIABLES = ("E2B_API_KEY", "E2B_DOMAIN", "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DEBUG")


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_are_the_services():
    config = E2BConfig()
    assert (config.template, config.timeout, config.secure, config.request_timeout) == ("base", 300, True, 60.0)
    assert config.api_key is None
    assert config.api == "https://api.e2b.app"
    assert config.sandbox_url is None
    assert config.seconds == 60
    assert E2BConfig(request_timeout=0).seconds is None


def test_variables_are_read_when_a_configuration_is_made(monkeypatch):
    monkeypatch.setenv("E2B_API_KEY", "e2b_00")
    monkeypatch.setenv("E2B_DOMAIN", "example.org")
    assert (E2BConfig().api_key, E2BConfig().api) == ("e2b_00", "https://api.example.org")
    monkeypatch.setenv("E2B_DEBUG", "True")
    assert E2BConfig().api == "http://localhost:3000"
    monkeypatch.setenv("E2B_API_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("E2B_SANDBOX_URL", "http://127.0.0.1:8")
    assert (E2BConfig().api, E2BConfig().sandbox_url) == ("http://127.0.0.1:9", "http://127.0.0.1:8")
    assert E2BConfig(api_key="mine", domain="mine.org").api_key == "mine"
    monkeypatch.setenv("E2B_API_KEY", "")
    assert E2BConfig().api_key is None


def test_a_key_and_variables_are_never_shown():
    text = repr(E2BConfig(api_key="e2b_secret", envs={"TOKEN": "hush"}))
    assert "e2b_secret" not in text
    assert "hush" not in text


@pytest.mark.parametrize(
    "options",
    [
        {"template": ""},
        {"template": "a b"},
        {"template": "../x"},
        {"timeout": 0},
        {"timeout": 14},
        {"request_timeout": -1},
        {"api_url": "example.org"},
        {"sandbox_url": "ftp://x"},
        {"envs": {"A=B": "c"}},
    ],
)
def test_what_cannot_work_is_refused_with_its_name(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        E2BConfig(**options)


@pytest.mark.parametrize("template", ["base", "team/name", "team/name:v1.2", "abc123:default"])
def test_templates_and_snapshots_have_names_of_one_form(template):
    assert E2BConfig(template=template).template == template


def test_a_file_gives_every_option():
    config = structure(
        E2BConfig,
        {
            "api_key": "k",
            "template": "t",
            "timeout": 60,
            "envs": {"A": "b"},
            "metadata": {"c": "d"},
            "domain": "example.org",
            "secure": False,
            "allow_internet_access": True,
            "network": {"allow_out": ["1.1.1.1"], "deny_out": ["0.0.0.0/0"]},
            "auto_pause": True,
            "auto_resume": True,
            "request_timeout": 5,
            "user": "root",
        },
    )
    assert config.network == E2BNetwork(allow_out=("1.1.1.1",), deny_out=("0.0.0.0/0",))
    assert config.request_timeout == 5
    with pytest.raises(ConfigError, match="timeout"):
        structure(E2BConfig, {"timeout": "long"})
    with pytest.raises(ConfigError, match="allow_out"):
        structure(E2BConfig, {"network": {"allow_outt": []}})


def test_the_schema_describes_every_option_and_shows_no_key():
    properties = class_schema(E2BConfig)["properties"]
    assert set(properties) == {field.name for field in attrs.fields(E2BConfig)}
    assert all("description" in schema for schema in properties.values())
    assert "default" not in properties["api_key"]


def test_a_network_leaves_out_what_is_not_set():
    assert E2BNetwork().body() == {}
    full = E2BNetwork(
        allow_out="a.org", deny_out="0.0.0.0/0", allow_public_traffic=False, mask_request_host="x:${PORT}"
    )
    assert full.body() == {
        "allowOut": ["a.org"],
        "denyOut": ["0.0.0.0/0"],
        "allowPublicTraffic": False,
        "maskRequestHost": "x:${PORT}",
    }
