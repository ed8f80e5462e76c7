"""Finding plugins by real metadata on disk.

Time budget: 5 s.
"""

from __future__ import annotations

import pytest

from gitmachine.plugins.discovery import find_plugins


def found(site):
    return [(s.name, s.distribution, s.version) for s in find_plugins([str(site.path)])]


def test_plugins_are_found_sorted_by_name_with_their_distribution_and_version(site):
    site.install("zoo", {"zebra": "zoo", "ant": "zoo"}, version="2.1")
    site.install("my-farm", {"cow": "farm"})
    assert found(site) == [("ant", "zoo", "2.1"), ("cow", "my-farm", "1.0"), ("zebra", "zoo", "2.1")]


def test_entry_points_of_other_groups_are_ignored(site):
    site.install("other", {}, entry_points="[console_scripts]\nx = y:z\n")
    site.install("both", {}, entry_points="[console_scripts]\nx = y:z\n[gitmachine]\nmine = both\n")
    assert found(site) == [("mine", "both", "1.0")]


def test_finding_imports_no_plugin(site):
    site.install("bomb", {"bomb": "bomb"}, modules={"bomb": "raise RuntimeError('imported')"})
    assert found(site) == [("bomb", "bomb", "1.0")]
    with pytest.raises(RuntimeError, match="imported"):
        find_plugins([str(site.path)])[0].load()


def test_a_second_copy_of_a_distribution_is_shadowed_by_the_first_on_the_path(site, tmp_path):
    site.install("my-farm", {"cow": "farm"}, version="2.0")
    second = type(site)(tmp_path / "second")
    second.path.mkdir()
    second.install("my_farm", {"cow": "farm"}, version="1.0")
    plugins = find_plugins([str(site.path), str(second.path)])
    assert [(s.name, s.version) for s in plugins] == [("cow", "2.0")]


def test_two_distributions_with_one_entry_point_name_are_both_found(site):
    site.install("b-cows", {"cow": "b"})
    site.install("a-cows", {"cow": "a"})
    assert found(site) == [("cow", "a-cows", "1.0"), ("cow", "b-cows", "1.0")]


def test_unreadable_metadata_of_one_distribution_does_not_hide_the_others(site):
    site.install("good", {"good": "good"})
    info = site.install("bad", {"bad": "bad"})
    (info / "entry_points.txt").write_bytes(b"[gitmachine]\nbad = \xff\xfe\n")
    plugins = {s.name: s for s in find_plugins([str(site.path)])}
    assert "good" in plugins
    assert len(plugins) == 2
    broken = next(s for name, s in plugins.items() if name != "good")
    assert "bad" in broken.name
    with pytest.raises(UnicodeDecodeError):
        broken.load()


def test_a_distribution_without_a_name_is_still_reported(site):
    info = site.install("nameless", {"thing": "thing"})
    (info / "METADATA").unlink()
    assert len(found(site)) == 1


def test_the_core_is_a_plugin_of_its_own():
    assert ("core", "gitmachine-core") in [(s.name, s.distribution) for s in find_plugins()]
