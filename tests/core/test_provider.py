"""Provider names and descriptions.

Time budget: 2 s.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine.errors import ConfigError
from gitmachine.provider import CONTRACT, ProviderSpec, normalize_name

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?", fullmatch=True)


@pytest.mark.parametrize("name", ["local-docker", "local_docker", "Local.Docker", "LOCAL--docker", "local._-docker"])
def test_separators_and_case_do_not_matter(name):
    assert normalize_name(name) == "local_docker"


@given(names)
def test_a_normalised_name_stays_as_it_is(name):
    assert normalize_name(normalize_name(name)) == normalize_name(name)


@given(names)
def test_valid_names_are_accepted(name):
    assert ProviderSpec(name=name, factory="a:b", config="a:C").contract == CONTRACT


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a/b", "é", "a\n"])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="invalid provider name"):
        ProviderSpec(name=name, factory="a:b", config="a:C")
