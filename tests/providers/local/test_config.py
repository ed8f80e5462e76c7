"""The options of the local provider are checked before anything starts, and name what was wrong.

Time budget: 5 s.
"""

from __future__ import annotations

import pytest

from gitmachine import ConfigError
from gitmachine_local import LocalConfig, plugin


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"isolation": "docker"}, "expected bubblewrap or none, not 'docker' @ isolation"),
        ({"network": "on"}, "expected none or host, not 'on' @ network"),
        ({"binds": ["relative"]}, "expected an absolute path"),
        ({"binds": ["/a:relative"]}, "expected an absolute path"),
        ({"binds": ["/a/../etc"]}, "expected an absolute path"),
        ({"binds": ["/"]}, "would give up the sandbox"),
        ({"binds_rw": ["/a:/proc"]}, "the machine's own"),
        ({"binds_rw": ["/a:/"]}, "the machine's own"),
        ({"env": {"A=B": "c"}}, "invalid environment variable 'A=B' @ env"),
        ({"env": {"A": "\0"}}, "invalid environment variable 'A' @ env"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        LocalConfig(**options)


def test_defaults_are_the_strict_ones():
    assert (LocalConfig().isolation, LocalConfig().network) == ("bubblewrap", "none")
    assert LocalConfig().binds == LocalConfig().binds_rw == ()


def test_values_of_variables_are_not_in_the_repr():
    assert "s3cret" not in repr(LocalConfig(env={"A": "s3cret"}))


def test_a_single_bind_may_be_a_plain_string():
    assert LocalConfig(binds="/a").binds == ("/a",)


def test_the_plugin_offers_the_provider_by_strings_that_resolve():
    from importlib import import_module

    (spec,) = plugin.gitmachine_register_providers()
    assert spec.name == "local"
    for reference in (spec.factory, spec.config, spec.connect, spec.doctor):
        module, _, name = reference.partition(":")
        assert callable(getattr(import_module(module), name))
