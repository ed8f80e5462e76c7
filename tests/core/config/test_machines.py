"""A provider and its options are chosen by name; variables are replaced late. Time budget: 1 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from gitmachine.config.machines import check_tables, parse_options, resolve_machine, restore_options, storable_options
from gitmachine.config.model import Settings
from gitmachine.config.structure import structure
from gitmachine.errors import ConfigError


@attrs.frozen(kw_only=True)
class BoxConfig:
    host: str
    cpus: int = 1
    limits: dict[str, int] = attrs.field(factory=dict)


def settings(**values: Any) -> Settings:
    return Settings(**values)


def test_the_default_provider_is_local() -> None:
    assert resolve_machine(settings(), environ={}).provider == "local"


def test_an_argument_beats_the_settings() -> None:
    assert resolve_machine(settings(provider="a"), environ={}).provider == "a"
    assert resolve_machine(settings(provider="a"), provider="b", environ={}).provider == "b"


def test_names_are_folded_and_aliases_count() -> None:
    made = settings(providers={"Local-Docker": {"image": "x"}})
    assert resolve_machine(made, provider="local_docker", environ={}).options == {"image": "x"}
    aliased = resolve_machine(made, provider="docker", aliases=lambda _name: ["local.docker"], environ={})
    assert aliased.options == {"image": "x"}
    with pytest.raises(ConfigError, match=r"two tables: providers\.a-b and providers.a_b"):
        resolve_machine(settings(providers={"a-b": {}, "a_b": {}}), provider="a.b", environ={})


def test_a_named_machine_lies_over_its_provider_and_options_over_both() -> None:
    made = settings(
        provider="other",
        providers={"box": {"host": "h", "cpus": 1, "limits": {"a": 1, "b": 1}}},
        machines={"gpu": {"provider": "box", "cpus": 2, "limits": {"b": 2}}},
    )
    resolved = resolve_machine(made, machine="gpu", options=["limits.c=3"], environ={})
    assert resolved.provider == "box"
    assert resolved.name == "gpu"
    assert structure(BoxConfig, resolved.options) == BoxConfig(host="h", cpus=2, limits={"a": 1, "b": 2, "c": 3})
    assert made.machines["gpu"]["provider"] == "box"


def test_a_machine_and_another_provider_contradict() -> None:
    made = settings(machines={"gpu": {"provider": "ssh"}})
    assert resolve_machine(made, machine="gpu", provider="SSH", environ={}).provider == "ssh"
    with pytest.raises(ConfigError, match="the machine 'gpu' has the provider 'ssh', not 'e2b'"):
        resolve_machine(made, machine="gpu", provider="e2b", environ={})


def test_an_unknown_machine_names_the_close_one() -> None:
    with pytest.raises(ConfigError, match=r"no machine 'gpuu' in the configuration: did you mean 'gpu'\?"):
        resolve_machine(settings(machines={"gpu": {}}), machine="gpuu", environ={})
    with pytest.raises(ConfigError, match=r"add a table \[machines.NAME\]"):
        resolve_machine(settings(), machine="gpu", environ={})


def test_variables_are_replaced_late_and_kept_unresolved() -> None:
    made = settings(providers={"e2b": {"api_key": "${KEY}", "template": "base"}})
    resolved = resolve_machine(made, provider="e2b", environ={"KEY": "s3cret"})
    assert resolved.options == {"api_key": "s3cret", "template": "base"}
    assert resolved.unresolved_options == {"api_key": "${KEY}", "template": "base"}
    assert "s3cret" not in repr(resolved)
    with pytest.raises(ConfigError, match=r"the variable KEY is not set @ providers.e2b.api_key: set it or write"):
        resolve_machine(made, provider="e2b", environ={})
    overridden = resolve_machine(made, provider="e2b", options=["api_key=plain"], environ={})
    assert overridden.options["api_key"] == "plain"


def test_stored_options_are_restored_with_types() -> None:
    options = ["cpus=8", "host=${HOST}", "limits=a=1"]
    resolved = resolve_machine(settings(), provider="box", options=options, environ={"HOST": "h"})
    stored = dict(resolved.unresolved_options)
    again = structure(BoxConfig, restore_options(stored, {"HOST": "other"}))
    assert again == BoxConfig(host="other", cpus=8, limits={"a": 1})
    with pytest.raises(ConfigError, match="HOST is not set"):
        restore_options(stored, {})


def test_options_from_python_are_taken_as_they_are() -> None:
    resolved = resolve_machine(settings(), provider="box", options={"host": "${X}"}, environ={})
    assert resolved.options == {"host": "${X}"}
    assert restore_options(resolved.unresolved_options, {}) == {"host": "${X}"}


def test_secrets_that_are_written_out_are_not_stored() -> None:
    @attrs.frozen(kw_only=True)
    class KeyConfig:
        api_key: str = attrs.field(default="", metadata={"secret": True})
        other_key: str = attrs.field(default="", metadata={"secret": True})
        host: str = ""

    unresolved = {"api_key": "sk-1", "other_key": "${KEY}", "host": "h", "deep": [{"path": Path("/p")}]}
    stored = storable_options(KeyConfig, unresolved)
    assert stored == {"other_key": "${KEY}", "host": "h", "deep": [{"path": "/p"}]}


def test_what_must_not_be_written_out_has_to_come_from_a_variable() -> None:
    @attrs.frozen(kw_only=True)
    class LoginConfig:
        password: str | None = attrs.field(default=None, metadata={"secret": True, "written": False})

    assert storable_options(LoginConfig, {"password": "${PW}"}) == {"password": "${PW}"}
    assert storable_options(LoginConfig, {"password": len}) == {}
    with pytest.raises(ConfigError, match=r"must not be written out: write \$\{VARIABLE\}.* @ password") as caught:
        storable_options(LoginConfig, {"password": "hunter2"})
    assert "hunter2" not in str(caught.value)
    tables = settings(providers={"login": {"password": "hunter2"}})
    problems = check_tables(tables, lambda _name: LoginConfig, {})
    assert [problem.partition(" @ ")[2] for problem in problems] == ["providers.login.password"]


@pytest.mark.parametrize("option", ["", "x", "=1", ".a=1", "a.=1", "a..b=1"])
def test_an_option_needs_a_key_and_a_value(option: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value, not"):
        parse_options([option])


def test_options_are_parsed() -> None:
    assert parse_options(["a=1", "b.c=x=y", "b.d=", "a=2"]) == {"a": "2", "b": {"c": "x=y", "d": ""}}
    with pytest.raises(ConfigError, match="both a value and keys below it"):
        parse_options(["a=1", "a.b=2"])
    with pytest.raises(ConfigError, match="both a value and keys below it"):
        parse_options(["a.b=2", "a=1"])


def test_every_table_is_checked() -> None:
    made = settings(
        providers={"box": {"cpus": "x", "hots": "h"}, "absent": {"any": "${NO}"}},
        machines={"m": {"provider": "box", "cpus": "y"}, "n": {"provider": 5}},
    )
    found = check_tables(made, {"box": BoxConfig}.get, {})
    assert found == [
        "unknown key @ providers.box.hots: did you mean 'host'?",
        "expected a string, found nothing @ providers.box.host: this key is required",
        "expected int, not 'x' @ providers.box.cpus",
        "the variable NO is not set @ providers.absent.any: set it or write ${NO:-default}",
        "expected int, not 'y' @ machines.m.cpus",
        "expected a provider's name, not 5 @ machines.n.provider",
    ]
