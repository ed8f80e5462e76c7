"""Providers by name, offered by real distributions.

Time budget: 10 s.
"""

from __future__ import annotations

import pytest

from gitmachine import (
    ConfigError,
    Machine,
    PluginError,
    PluginLoadError,
    ProviderConflictError,
    ProviderSpec,
    UnknownProviderError,
    UnsupportedOperation,
    hookimpl,
)
from gitmachine.plugins import hints
from gitmachine.plugins.host import PluginHost
from gitmachine.plugins.registry import Registry

PLUGIN = """
    from gitmachine import ProviderSpec, hookimpl

    @hookimpl
    def gitmachine_register_providers():
        return [ProviderSpec(name={name!r}, factory="{module}_machine:make", config="{module}_machine:Config",
                             connect="{module}_machine:connect", doctor="{module}_machine:doctor", {more})]
"""

MACHINE = """
    import attrs

    from gitmachine import Check, Machine, MachineState

    @attrs.frozen(kw_only=True)
    class Config:
        image: str = "plain"
        cpus: int = 1

    class Tiny(Machine):
        provider = "tiny"
        id = None
        state = MachineState.IDLE

        def __init__(self, config):
            self.config = config

        async def start(self): ...
        async def stop(self): ...
        async def read_file(self, path, *, max_bytes=0): ...
        async def write_file(self, path, data): ...
        async def list_files(self, path="."): ...

    def make(config):
        if config.image == "raise":
            raise RuntimeError("no such image")
        return "no machine" if config.image == "wrong" else Tiny(config)

    async def connect(machine_id, config):
        if machine_id == "gone":
            raise RuntimeError("gone")
        machine = make(config)
        machine.connected = machine_id
        return machine

    async def doctor(config):
        if config.image == "raise":
            raise RuntimeError("cannot look")
        return [Check(name="tiny", ok=True, detail=config.image)]
"""


def install(site, distribution, name, *, point=None, more="", plugin=None, machine=MACHINE):
    module = distribution.replace("-", "_")
    source = plugin or PLUGIN.format(name=name, module=module, more=more)
    site.install(distribution, {point or name: module}, modules={module: source, f"{module}_machine": machine})
    return module


@pytest.fixture
def tiny(site):
    install(site, "tiny-machines", "tiny-box", more='aliases=("tb",)')
    return Registry(site.host())


class Offering:
    def __init__(self, answer):
        self.answer = answer
        self.asked = 0

    @hookimpl
    def gitmachine_register_providers(self):
        self.asked += 1
        return self.answer() if callable(self.answer) else self.answer


def registry(**answers):
    host = PluginHost(entry_points=())
    for name, answer in answers.items():
        host.register(answer if isinstance(answer, Offering) else Offering(answer), name)
    return Registry(host)


def spec(name, **more):
    return ProviderSpec(name=name, factory="nowhere:make", config="nowhere:Config", **more)


@pytest.mark.parametrize("typed", ["tiny-box", "Tiny_Box", "TINY.BOX", "tb"])
def test_a_provider_is_found_by_its_name_folded_and_by_alias(tiny, typed):
    assert tiny.resolve(typed).name == "tiny-box"


def test_listing_tells_who_offers_what_and_imports_no_machine(tiny):
    import sys

    (offer,) = tiny.providers()
    assert (offer.spec.name, offer.plugin.distribution, offer.plugin.version) == ("tiny-box", "tiny-machines", "1.0")
    assert "tiny_machines_machine" not in sys.modules


def test_a_machine_is_made_with_checked_options(tiny):
    machine = tiny.create("tiny-box", {"image": "fat", "cpus": 4})
    assert isinstance(machine, Machine)
    assert (machine.config.image, machine.config.cpus) == ("fat", 4)
    assert tiny.create("tb").config.image == "plain"


def test_wrong_options_are_all_reported_with_their_paths(tiny):
    with pytest.raises(ConfigError) as caught:
        tiny.create("tiny-box", {"imaeg": "fat", "cpus": "ten"})
    assert len(caught.value.problems) == 2
    assert all("providers.tiny-box" in problem for problem in caught.value.problems)


def test_a_factory_that_fails_is_a_plugin_error_that_names_the_distribution(tiny):
    with pytest.raises(PluginError, match=r"'tiny-box' of tiny-machines 1.0 failed.*no such image") as caught:
        tiny.create("tiny-box", {"image": "raise"})
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(PluginError, match="which is not a gitmachine"):
        tiny.create("tiny-box", {"image": "wrong"})


FOREIGN = """
    import attrs

    @attrs.frozen
    class Config:
        pass

    def exits(config):
        raise SystemExit(3)

    async def late(config):
        return None

    async def exits_later(*arguments):
        raise SystemExit(3)

    def at_once(*arguments):
        return None

    async def three(config):
        return [3]
"""


async def test_what_breaks_the_contract_of_a_provider_is_told_by_its_name(site):
    site.install("odd-machines", {}, modules={"odd_machines": FOREIGN})
    config = "odd_machines:Config"

    def odd(**more):
        more = {field: f"odd_machines:{name}" for field, name in {"factory": "exits", **more}.items()}
        return registry(p=[ProviderSpec(name="odd", config=config, **more)])

    with pytest.raises(PluginError, match="'odd' of plugin 'p' failed to make a machine: SystemExit: 3"):
        odd().create("odd")
    with pytest.raises(PluginError, match="'odd' of plugin 'p' has a coroutine function as its factory"):
        odd(factory="late").create("odd")
    with pytest.raises(PluginError, match="failed to connect to 'm': SystemExit: 3"):
        await odd(connect="exits_later").connect("odd", "m")
    with pytest.raises(
        PluginError, match=r"failed to connect to 'm': .* it has to be a coroutine function \(async def"
    ):
        await odd(connect="at_once").connect("odd", "m")
    with pytest.raises(PluginError, match="failed to look for a machine: SystemExit: 3"):
        await odd(find="exits_later").find("odd", "label")
    for doctor, detail in (
        ("exits_later", "SystemExit: 3"),
        ("at_once", "TypeError: it has to be a coroutine function (async def): it returned None at once"),
        ("three", "TypeError: its doctor returned 3, and owes a list of Check"),
    ):
        (check,) = await odd(doctor=doctor).doctor("odd")
        assert (check.ok, check.detail, check.fix) == (False, detail, "look at plugin 'p'")


async def test_connecting_to_a_machine_that_exists(tiny):
    machine = await tiny.connect("tiny-box", "m-1", {"image": "fat"})
    assert (machine.connected, machine.config.image) == ("m-1", "fat")
    with pytest.raises(PluginError, match="failed to connect to 'gone'"):
        await tiny.connect("tiny-box", "gone")


async def test_a_provider_that_cannot_connect_says_so(site):
    with pytest.raises(UnsupportedOperation, match="'plain' cannot connect"):
        await registry(p=[spec("plain")]).connect("plain", "m-1")


async def test_doctor_gives_the_providers_findings(tiny):
    (check,) = await tiny.doctor("tiny-box", {"image": "fat"})
    assert (check.ok, check.detail) == (True, "fat")


async def test_doctor_reports_failures_as_findings(tiny):
    (check,) = await tiny.doctor("tiny-box", {"image": "raise"})
    assert (check.ok, check.detail) == (False, "RuntimeError: cannot look")
    (check,) = await tiny.doctor("tiny-box", {"colour": "red"})
    assert (check.name, check.ok) == ("configuration", False)
    (check,) = await registry(p=[spec("plain", doctor="nowhere:doctor")]).doctor("plain")
    assert not check.ok
    assert "nowhere" in check.detail
    (check,) = await registry(p=[spec("plain")]).doctor("plain")
    assert check.ok


def test_two_distributions_that_claim_one_name_are_named_only_when_it_is_chosen(site):
    install(site, "a-box", "box")
    install(site, "b-box", "Box")
    install(site, "c-other", "other")
    found = Registry(site.host())
    assert found.resolve("other").name == "other"
    assert len(found.providers()) == 3
    with pytest.raises(ProviderConflictError, match=r"'box' is claimed by a-box 1.0 .* and by b-box 1.0 .*uninstall"):
        found.resolve("box")


def test_plugins_that_claim_one_name_are_reported_and_their_other_offers_and_hooks_still_count(site):
    install(site, "a-box", "box")
    install(site, "b-box", "box")
    install(site, "c-other", "other")
    host = site.host()
    found = Registry(host)
    found.providers()
    assert {report.distribution: report.status for report in host.plugins} == {
        "a-box": "broken",
        "b-box": "broken",
        "c-other": "ok",
    }
    for report in host.plugins[:2]:
        assert "a-box 1.0" in report.cause
        assert "b-box 1.0" in report.cause
        assert report.hooks
    assert len(found.providers()) == 3


def test_one_of_two_claims_is_left_when_the_other_is_disabled(site):
    install(site, "a-box", "box")
    install(site, "b-box", "box")
    assert Registry(site.host(disable=["a-box"])).providers()[0].plugin.distribution == "b-box"
    assert Registry(site.host(disable=["a-box"])).resolve("box")


def test_an_alias_is_a_claim_too():
    with pytest.raises(ProviderConflictError):
        registry(a=[spec("local_docker", aliases=("docker",))], b=[spec("docker")]).resolve("docker")


def test_another_contract_version_is_an_error_when_chosen(site):
    install(site, "future-box", "box", more="contract=9")
    found = Registry(site.host())
    assert len(found.providers()) == 1
    with pytest.raises(PluginLoadError, match=r"'box' of future-box 1.0 .*version 9.*upgrade gitmachine-core"):
        found.create("box")
    with pytest.raises(PluginLoadError, match="upgrade plugin 'old'"):
        registry(old=[spec("old", contract=0)]).resolve("old")


def test_a_broken_plugin_is_fatal_only_when_the_chosen_provider_comes_from_it(site):
    install(site, "good-box", "good")
    install(site, "bad-box", "bad", plugin="import not_installed_anywhere")
    found = Registry(site.host())
    assert found.resolve("good").name == "good"
    with pytest.raises(UnknownProviderError, match=r"'bad' \(bad-box 1.0\).*broken.*not_installed_anywhere") as caught:
        found.resolve("bad")
    assert (caught.value.broken, caught.value.available) == ("bad", ("good",))
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_broken_plugin_is_recognised_by_its_distribution(site, monkeypatch):
    monkeypatch.setitem(hints.WELL_KNOWN, "box42", "gitmachine-box42")
    install(site, "gitmachine-box42", "box42", point="cloud", plugin="1/0")
    with pytest.raises(UnknownProviderError) as caught:
        Registry(site.host()).resolve("Box42")
    assert caught.value.broken == "cloud"
    assert caught.value.install is None


def test_a_disabled_plugin_is_named_when_its_provider_is_chosen(site):
    install(site, "good-box", "good")
    with pytest.raises(UnknownProviderError, match=r"the plugin 'good' .*GITMACHINE_PLUGINS"):
        Registry(site.host(allow=["other"])).resolve("good")


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("local", "gitmachine-local"),
        ("docker", "gitmachine-local-docker"),
        ("Local-Docker", "gitmachine-local-docker"),
        ("ssh", "gitmachine-ssh"),
        ("e2b", "gitmachine-e2b"),
        ("locall", "gitmachine-local"),
    ],
)
def test_a_well_known_provider_that_is_not_installed_says_what_to_install(name, distribution):
    with pytest.raises(UnknownProviderError, match=f"{name!r}.*pip install {distribution}$|;") as caught:
        registry(p=[spec("zoo")]).resolve(name)
    assert caught.value.install == distribution
    assert f"pip install {distribution}" in str(caught.value)


def test_an_unknown_name_says_what_is_close_and_what_there_is():
    with pytest.raises(UnknownProviderError, match="'tiny_bocks'; did you mean 'tiny_box'") as caught:
        registry(p=[spec("tiny-box"), spec("zoo")]).resolve("tiny_bocks")
    error = caught.value
    assert (error.name, error.close, error.available, error.install) == (
        "tiny_bocks",
        "tiny_box",
        ("tiny-box", "zoo"),
        None,
    )
    assert isinstance(error, LookupError)
    with pytest.raises(UnknownProviderError, match="no provider is installed") as caught:
        registry().resolve("My.Quux")
    assert "install the package that offers it, by convention called gitmachine-my-quux" in str(caught.value)
    assert caught.value.install is None, "nobody can say whose package has that name"


def boom():
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    "answer",
    [boom, "text", spec("single"), [spec("a"), "b"], 7],
    ids=["raises", "text", "one-spec", "a-mixed-list", "number"],
)
def test_a_plugin_that_answers_nonsense_is_reported_and_the_others_go_on(answer):
    found = registry(good=[spec("good")], bad=answer)
    assert [offer.spec.name for offer in found.providers()] == ["good"]
    report = next(r for r in found._host.plugins if r.name == "bad")
    assert report.status == "broken"
    assert "gitmachine_register_providers failed" in report.cause
    with pytest.raises(UnknownProviderError) as caught:
        found.resolve("bad")
    assert caught.value.broken == "bad"


def test_plugins_are_asked_once_and_later_ones_still_count():
    first = Offering([spec("one")])
    found = registry(first=first, none=Offering(None), double=[spec("two"), spec("two")])
    for _ in range(3):
        assert [offer.spec.name for offer in found.providers()] == ["one", "two"]
    assert Registry(found._host).resolve("one").name == "one"
    assert first.asked == 1
    found._host.register(Offering([spec("three")]), "third")
    assert found.resolve("three").name == "three"


@pytest.mark.parametrize("reference", ["nowhere:make", "no reference", "os:", "os:nothing.at.all"])
def test_a_reference_that_leads_nowhere_is_a_load_error(reference):
    found = registry(p=[ProviderSpec(name="x", factory=reference, config="gitmachine.provider:Check")])
    with pytest.raises(PluginLoadError, match="'x' of plugin 'p' is broken: cannot import"):
        found.create("x", {"name": "n", "ok": True})


def test_a_config_that_is_no_attrs_class_is_an_error():
    found = registry(p=[ProviderSpec(name="x", factory="os:getcwd", config="os:getcwd")])
    with pytest.raises(PluginError, match="not an attrs class"):
        found.create("x")
