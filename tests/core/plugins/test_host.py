"""Loading plugins one by one: the good work, the bad are reported and stand alone.

Time budget: 10 s.
"""

from __future__ import annotations

import threading
import types

import pytest

from gitmachine import ConfigError, PluginLoadError, hookimpl
from gitmachine.plugins.host import PluginHost, PluginStatus

GOOD = """
    from gitmachine import hookimpl

    @hookimpl
    def gitmachine_commit_message(changes):
        return "good"
"""

BROKEN = {
    "missing": ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
    "syntax": ("def (:", "SyntaxError"),
    "exits": ("import sys; sys.exit(3)", r"called sys.exit\(3\)"),
    "raises": ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    "wrapper": (
        """
        from gitmachine import hookimpl

        @hookimpl(wrapper=True)
        def gitmachine_commit_message():
            return (yield)
        """,
        "gitmachine_commit_message is a hook wrapper.*remove wrapper=True",
    ),
    "oldwrapper": (
        """
        from gitmachine import hookimpl

        @hookimpl(hookwrapper=True)
        def gitmachine_commit_message():
            yield
        """,
        "hook wrapper",
    ),
    "unknown": (
        """
        from gitmachine import hookimpl

        @hookimpl
        def gitmachine_machine_start(event): ...
        """,
        "unknown hook 'gitmachine_machine_start': did you mean gitmachine_machine_started",
    ),
    "arguments": (
        """
        from gitmachine import hookimpl

        @hookimpl
        def gitmachine_commit_message(changes, colour): ...
        """,
        "colour",
    ),
    "unmarked": (
        """
        def gitmachine_commit_message(changes): ...
        """,
        "put @gitmachine.hookimpl above it",
    ),
}


def reports(host):
    return {report.name: report for report in host.plugins}


def messages(host):
    return [impl.plugin for impl in host.implementations("gitmachine_commit_message")]


def test_a_good_plugin_is_reported_with_its_distribution_version_and_hooks(site):
    site.install("a-plugin", {"good": "good"}, version="3.2", modules={"good": GOOD})
    report = reports(site.host())["good"]
    assert (report.distribution, report.version, report.status) == ("a-plugin", "3.2", "ok")
    assert report.hooks == ("gitmachine_commit_message",)
    assert report.cause == ""
    assert report.origin == "a-plugin 3.2"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_reported_by_name_and_the_good_ones_work(site, name):
    source, cause = BROKEN[name]
    site.install("bad-plugin", {"bad": f"bad_{name}"}, modules={f"bad_{name}": source})
    site.install("a-plugin", {"good": "good", "zgood": "zgood"}, modules={"good": GOOD, "zgood": GOOD})
    host = site.host()
    report = reports(host)["bad"]
    assert report.status is PluginStatus.BROKEN
    assert report.distribution == "bad-plugin"
    assert report.hooks == ()
    assert report.error is not None
    with pytest.raises(AssertionError, match=cause):
        raise AssertionError(report.cause)
    assert "\n" not in report.cause
    assert messages(host) == ["zgood", "good"]


@pytest.mark.parametrize(
    ("reference", "cause"),
    [
        ("there_is_none", "No module named"),
        ("good:missing", "has no attribute 'missing'"),
        ("not a reference!", "ValueError|AttributeError"),
        ("good:Klass", "expected a module or an object"),
        ("good:nothing", "expected a module or an object"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_reported(site, reference, cause):
    site.install("bad", {"bad": reference}, modules={"good": f"{GOOD}\n    class Klass: ...\n    nothing = None\n"})
    report = reports(site.host())["bad"]
    with pytest.raises(AssertionError, match=cause):
        raise AssertionError(report.cause)


def test_an_interrupt_during_an_import_goes_through_and_the_next_load_goes_on(site):
    interrupted = """
        import pathlib
        flag = pathlib.Path(__file__).with_suffix(".flag")
        if not flag.exists():
            flag.touch()
            raise KeyboardInterrupt
        from gitmachine import hookimpl

        @hookimpl
        def gitmachine_commit_message(): ...
    """
    site.install("a", {"aaa": "good", "slow": "interrupted"}, modules={"good": GOOD, "interrupted": interrupted})
    host = site.host()
    with pytest.raises(KeyboardInterrupt):
        host.load()
    assert messages(host) == ["slow", "aaa"]
    assert {report.status for report in host.plugins} == {"ok"}


def test_two_distributions_with_one_plugin_name_are_both_loaded_and_told_apart(site):
    site.install("a-cows", {"cow": "a_cow"}, modules={"a_cow": GOOD})
    site.install("b-cows", {"cow": "b_cow"}, modules={"b_cow": GOOD})
    host = site.host()
    assert {name: r.distribution for name, r in reports(host).items()} == {"cow": "a-cows", "cow@b-cows": "b-cows"}
    assert messages(host) == ["cow@b-cows", "cow"]


def test_one_module_under_two_names_is_loaded_once_and_the_second_name_reported(site):
    site.install("a", {"first": "good", "second": "good"}, modules={"good": GOOD})
    host = site.host()
    assert messages(host) == ["first"]
    assert "registered already as 'first'" in reports(host)["second"].cause


@pytest.mark.parametrize("typed", ["Good_One", "good-one", "a.plugin", "A-Plugin"])
def test_allowed_plugins_are_named_by_entry_point_or_distribution_with_separators_folded(site, typed):
    site.install("a-plugin", {"good_one": "good"}, modules={"good": GOOD})
    site.install("b-plugin", {"other": "other"}, modules={"other": "raise RuntimeError('imported')"})
    host = site.host(allow=[typed])
    assert messages(host) == ["good_one"]
    assert reports(host)["other"].status is PluginStatus.DISABLED
    assert "GITMACHINE_PLUGINS" in reports(host)["other"].cause


def test_a_disabled_plugin_is_not_imported(site):
    site.install("noisy", {"noise": "noise"}, modules={"noise": "raise RuntimeError('imported')"})
    host = site.host(disable=["Noise"])
    assert reports(host)["noise"].status is PluginStatus.DISABLED
    assert "disabled" in reports(host)["noise"].cause


def test_one_of_two_plugins_with_one_name_is_disabled_by_its_distribution(site):
    site.install("a-cows", {"cow": "a_cow"}, modules={"a_cow": GOOD})
    site.install("b-cows", {"cow": "b_cow"}, modules={"b_cow": GOOD})
    host = site.host(disable=["a-cows"])
    assert [(r.distribution, r.status) for r in host.plugins] == [("a-cows", "disabled"), ("b-cows", "ok")]


def test_an_allowed_plugin_that_is_not_installed_is_reported(site):
    report = reports(site.host(allow=["ghost"]))["ghost"]
    assert (report.status, report.cause) == ("broken", "it is allowed by name but not installed")


def test_strict_loading_names_every_broken_plugin_each_time(site):
    site.install("bad-one", {"one": "one"}, modules={"one": "1/0"})
    site.install("bad-two", {"two": "two"}, modules={"two": "raise OSError('no')"})
    host = site.host(strict=True)
    for _ in range(2):
        with pytest.raises(PluginLoadError, match=r"one \(bad-one 1.0\).*two \(bad-two 1.0\)") as caught:
            host.load()
        assert caught.value.distribution == "bad-one"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_environment_chooses_the_plugins():
    assert [r.status for r in PluginHost.default({"GITMACHINE_PLUGINS": "core"}).plugins if r.name == "core"] == ["ok"]
    assert {r.status for r in PluginHost.default({"GITMACHINE_PLUGINS": ""}).plugins} == {"disabled"}
    host = PluginHost.default({"GITMACHINE_DISABLE_PLUGINS": "x, core"})
    assert reports(host)["core"].status is PluginStatus.DISABLED
    assert PluginHost.default({"GITMACHINE_TRACE_HOOKS": "1"}).trace
    assert not PluginHost.default({"GITMACHINE_TRACE_HOOKS": "0"}).trace
    limits = [PluginHost.default({"GITMACHINE_HOOK_TIMEOUT": text}).hook_timeout for text in ("", "90", "0.5", "0")]
    assert limits == [3600.0, 90.0, 0.5, None]
    for text in ("soon", "-1", "inf", "nan"):
        with pytest.raises(ConfigError, match=f"GITMACHINE_HOOK_TIMEOUT: expected a number of seconds.*not '{text}'"):
            PluginHost.default({"GITMACHINE_HOOK_TIMEOUT": text})
    with pytest.raises(PluginLoadError, match="ghost"):
        PluginHost.default({"GITMACHINE_STRICT_PLUGINS": "1", "GITMACHINE_PLUGINS": "core,ghost"}).load()


def test_a_plugin_whose_import_takes_long_works_and_is_reported(site, monkeypatch):
    monkeypatch.setattr("gitmachine.plugins.host.SLOW_SECONDS", -1.0)
    site.install("slow", {"slow": "slow"}, modules={"slow": GOOD})
    host = site.host()
    (report,) = host.plugins
    assert report.status == "slow"
    assert "its import took" in report.cause
    assert report.seconds > 0
    assert report.hooks
    assert host.implementations(report.hooks[0])


def test_a_plugin_whose_import_takes_far_too_long_is_broken(site, monkeypatch):
    monkeypatch.setattr("gitmachine.plugins.host.SLOW_SECONDS", -1.0)
    monkeypatch.setattr("gitmachine.plugins.host.TOO_SLOW_SECONDS", -1.0)
    site.install("slow", {"slow": "slow"}, modules={"slow": GOOD})
    host = site.host()
    (report,) = host.plugins
    assert report.status is PluginStatus.BROKEN
    assert "its import took" in report.cause
    assert report.hooks == ()
    assert host.implementations("gitmachine_register_providers") == ()


def test_loading_twice_imports_once(site):
    counter = "import builtins\nbuiltins.gm_count = getattr(builtins, 'gm_count', 0) + 1\n"
    site.install("a", {"counted": "counted"}, modules={"counted": counter})
    host = site.host()
    threads = [threading.Thread(target=host.load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    import builtins

    try:
        assert builtins.gm_count == 1
        assert host.loaded
    finally:
        del builtins.gm_count


def test_a_plugin_may_ask_the_host_while_it_is_imported(site):
    asking = """
        import builtins
        builtins.gm_host.load()
        seen = [impl.plugin for impl in builtins.gm_host.implementations("gitmachine_commit_message")]
    """
    site.install("a", {"first": "good", "second": "asking"}, modules={"good": GOOD, "asking": asking})
    import builtins

    builtins.gm_host = site.host()
    try:
        assert {r.name: r.status for r in builtins.gm_host.plugins} == {"first": "ok", "second": "ok"}
    finally:
        del builtins.gm_host
    import asking as module

    assert module.seen == ["first"]


class Worder:
    @hookimpl
    def gitmachine_commit_message(self, changes):
        return "worded"


def test_a_program_registers_an_object_and_it_comes_first(site):
    site.install("a", {"good": "good"}, modules={"good": GOOD})
    host = site.host()
    host.load()
    assert host.register(Worder(), "worder").hooks == ("gitmachine_commit_message",)
    assert messages(host) == ["worder", "good"]


@pytest.mark.parametrize(
    "bad", [None, Worder, object(), types.ModuleType("empty")], ids=["none", "class", "object", "empty-module"]
)
def test_registering_what_is_no_plugin(bad):
    host = PluginHost(entry_points=())
    if bad is None or bad is Worder:
        with pytest.raises(PluginLoadError, match=r"'it' cannot be used.*expected a module or an object"):
            host.register(bad, "it")
        assert host.plugins == ()
    else:
        assert host.register(bad, "it").hooks == ()


def test_a_refused_object_leaves_nothing_and_its_name_free():
    class Bad(Worder):
        @hookimpl
        def gitmachine_git_cloned(self, event, nonsense): ...

    host = PluginHost(entry_points=())
    with pytest.raises(PluginLoadError, match="nonsense"):
        host.register(Bad(), "it")
    assert messages(host) == []
    host.register(Worder(), "it")
    assert messages(host) == ["it"]
    with pytest.raises(PluginLoadError, match="'it' is registered already"):
        host.register(Worder(), "it")


def test_an_optional_hook_of_another_version_is_accepted():
    class Ahead:
        @hookimpl(optionalhook=True)
        def gitmachine_hook_of_the_future(self): ...

    assert PluginHost(entry_points=()).register(Ahead(), "ahead").status is PluginStatus.OK


def test_calling_order_is_plugs_reversed_registration_with_first_and_last():
    def plugin(**options):
        class Plugin:
            @hookimpl(**options)
            def gitmachine_commit_message(self): ...

        return Plugin()

    host = PluginHost(entry_points=())
    host.register(plugin(), "a")
    host.register(plugin(tryfirst=True), "first")
    host.register(plugin(), "b")
    host.register(plugin(trylast=True), "last")
    assert messages(host) == ["first", "b", "a", "last"]


def test_asking_for_a_hook_that_does_not_exist_is_our_mistake():
    with pytest.raises(ValueError, match="gitmachine_nonsense"):
        PluginHost(entry_points=()).implementations("gitmachine_nonsense")


def test_what_is_registered_later_is_found_all_the_same():
    class Plugin:
        @hookimpl
        def gitmachine_setup(self, gm):
            return gm

    host = PluginHost(entry_points=())
    assert host.implementations("gitmachine_setup") == ()
    host.register(Plugin(), "late")
    (found,) = host.implementations("gitmachine_setup")
    assert host.implementations("gitmachine_setup") is host.implementations("gitmachine_setup")
    host.mark_broken(found.plugin, ValueError("x"), "it broke")
    assert host.implementations("gitmachine_setup") == ()


def test_a_plugin_finds_its_options_by_any_spelling_of_its_name():
    host = PluginHost(entry_points=(), options={"My_Plugin": {"deny": ["x"]}})
    assert host.options_of("my-plugin") == {"deny": ["x"]}
    assert host.options_of("other") == {}
