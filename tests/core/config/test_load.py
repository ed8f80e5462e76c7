"""File, environment and arguments, in this order of strength; all problems at once. Time budget: 3 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitmachine.config.installed import plugin_host
from gitmachine.config.load import load_config
from gitmachine.config.model import Settings
from gitmachine.errors import ConfigError
from gitmachine.git.model import GitIdentity, GitOptions


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"GITMACHINE_HOME": str(tmp_path / "home"), "GITMACHINE_PLUGINS": ""}


def write(folder: Path, text: str, name: str = "gitmachine.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def failure(path: Path | None, environ: dict[str, str], **overrides: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=environ, cwd="/", overrides=overrides)
    return caught.value


def test_nothing_given_is_the_defaults(tmp_path: Path, environ: dict[str, str]) -> None:
    assert load_config(environ=environ, cwd=tmp_path) == Settings()


def test_a_file_gives_everything(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(
        tmp_path,
        """
        provider = "local_docker"
        repository = "https://example.org/a.git"
        token = "${TOKEN}"
        session = "agent"
        auto_commit = false
        timeout = 1800
        path = "/work"
        env = { A = "${X:-y}" }
        identity = { name = "Ada", email = "ada@example.org" }
        [git]
        transport = "direct"
        depth = 3
        keep_ignored = ["*.log"]
        [providers.local_docker]
        image = "python:${V}"
        [machines.gpu]
        provider = "ssh"
        host = "gpu-box"
        [plugins]
        disable = ["noisy-plugin"]
        hook_timeout = 90
        """,
    )
    settings = load_config(path, environ={**environ, "TOKEN": "t0k"})
    assert settings.provider == "local_docker"
    assert settings.repository == "https://example.org/a.git"
    assert settings.token == "t0k"
    assert settings.session == "agent"
    assert settings.auto_commit is False
    assert settings.timeout == 1800
    assert settings.path == "/work"
    assert settings.env == {"A": "y"}
    assert settings.identity == GitIdentity("Ada", "ada@example.org")
    assert settings.git == GitOptions(transport="direct", depth=3, keep_ignored=("*.log",))
    assert settings.providers == {"local_docker": {"image": "python:${V}"}}
    assert settings.machines == {"gpu": {"provider": "ssh", "host": "gpu-box"}}
    assert settings.plugins.disable == ("noisy-plugin",)
    assert settings.plugins.hook_timeout == 90
    assert settings.source == path
    assert settings.origins["session"] == "file"
    assert "t0k" not in repr(settings)


def test_how_long_plugins_may_take_in_a_hook(tmp_path: Path, environ: dict[str, str]) -> None:
    assert plugin_host(Settings(), environ).hook_timeout == 3600
    settings = load_config(write(tmp_path, "[plugins]\nhook_timeout = 0.5"), environ=environ)
    assert plugin_host(settings, environ).hook_timeout == 0.5
    assert plugin_host(settings, {**environ, "GITMACHINE_HOOK_TIMEOUT": "7"}).hook_timeout == 7
    settings = load_config(write(tmp_path, "[plugins]\nhook_timeout = 0"), environ=environ)
    assert plugin_host(settings, environ).hook_timeout is None
    error = failure(write(tmp_path, "[plugins]\nhook_timeout = -1"), environ)
    assert error.problems == ("expected 0 seconds or more, not -1 @ plugins.hook_timeout",)


def test_five_mistakes_are_reported_together(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(
        tmp_path,
        """
        sesion = "x"
        timeout = "ten"
        token = "${NO_SUCH_TOKEN}"
        [git]
        transport = "relais"
        [providers.e2b]
        api_key = "${NO_SUCH_KEY}"
        """,
    )
    error = failure(path, environ)
    assert set(error.problems) == {
        "unknown key @ sesion: did you mean 'session'?",
        "expected a number, not 'ten' @ timeout",
        "the variable NO_SUCH_TOKEN is not set @ token: set it or write ${NO_SUCH_TOKEN:-default}",
        "expected one of relay, direct, not 'relais' @ git.transport",
        "the variable NO_SUCH_KEY is not set @ providers.e2b.api_key: set it or write ${NO_SUCH_KEY:-default}",
    }
    assert error.source == str(path)


def test_file_environment_and_arguments_are_reported_together(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path, "auto_commit = 'yes'")
    error = failure(
        path, {**environ, "GITMACHINE_TIMEOUT": "soon", "GITMACHINE_GIT_DEPTH": "0x"}, provider=5, sesion="x"
    )
    assert set(error.problems) == {
        "expected true or false, not 'yes' @ auto_commit",
        "expected a number, not 'soon' @ GITMACHINE_TIMEOUT",
        "expected int, not '0x' @ GITMACHINE_GIT_DEPTH",
        "expected a string, not 5 @ provider",
        "unknown key @ sesion: did you mean 'session'?",
    }


def test_argument_beats_environment_beats_file(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path, 'provider = "one"\nsession = "one"\ntimeout = 1\n[git]\ndepth = 1\npull = "merge"')
    environ |= {"GITMACHINE_PROVIDER": "two", "GITMACHINE_SESSION": "two", "GITMACHINE_GIT_DEPTH": "2"}
    settings = load_config(path, environ=environ, overrides={"provider": "three", "session": None})
    assert (settings.provider, settings.session, settings.timeout) == ("three", "two", 1)
    assert settings.git == GitOptions(depth=2, pull="merge")
    assert settings.origins == {
        "provider": "argument",
        "session": "environment",
        "timeout": "file",
        "git": "environment",
    }


def test_the_environment_gives_typed_values(environ: dict[str, str]) -> None:
    environ |= {
        "GITMACHINE_TIMEOUT": "2.5",
        "GITMACHINE_AUTO_COMMIT": "off",
        "GITMACHINE_TOKEN": "${NOT_EXPANDED}",
        "GITMACHINE_REPOSITORY": "https://example.org/x.git",
        "GITMACHINE_IDENTITY_NAME": "Ada",
        "GITMACHINE_GIT_KEEP_IGNORED": "*.log,dist",
        "GITMACHINE_SESSION": "",
    }
    settings = load_config(environ=environ, cwd="/")
    assert settings.timeout == 2.5
    assert settings.auto_commit is False
    assert settings.token == "${NOT_EXPANDED}"
    assert settings.identity == GitIdentity("Ada")
    assert settings.git.keep_ignored == ("*.log", "dist")
    assert settings.session is None


def test_a_missing_variable_of_a_provider_that_is_not_chosen_stops_nobody(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    path = write(tmp_path, '[providers.e2b]\napi_key = "${NO_SUCH_KEY}"')
    assert load_config(path, environ=environ).providers == {"e2b": {"api_key": "${NO_SUCH_KEY}"}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("timeout = 0", "expected more than 0 seconds, not 0 @ timeout"),
        ("timeout = nan", "expected a number, not nan @ timeout"),
        ("token = 5", "expected a string (the value is secret) @ token"),
        ('token = ""', "expected a token of one line, not empty (the value is secret) @ token"),
        ('env = {"a b" = "x"}', "invalid name of an environment variable 'a b' @ env"),
        ('env = {A = "\\u0000"}', "a NUL character cannot be in an environment variable @ env.A"),
        ("env = 5", "expected a table (the value is secret) @ env"),
        ("provider = ''", "expected a provider, not '' @ provider"),
        ("providers = 5", "expected a table, not 5 @ providers"),
        ("[providers]\nlocal = 5", "expected a table, not 5 @ providers.local"),
        (
            "[git]\nfilter='blob:none'",
            'a partial clone is impossible through the relay @ git.filter: set git.transport = "direct"',
        ),
        (
            "identity = {name = 'a<b'}",
            "invalid identity name 'a<b': one line, not empty, without '<' and '>' @ identity.name",
        ),
    ],
)
def test_a_wrong_value_is_one_sentence(tmp_path: Path, environ: dict[str, str], text: str, problem: str) -> None:
    assert failure(write(tmp_path, text), environ).problems == (problem,)


@pytest.mark.parametrize("session", ["HEAD", "-x", "a..b", "refs/heads/x", "a b", "x.lock", "a\tb"])
def test_a_session_that_is_no_branch_is_told(environ: dict[str, str], session: str) -> None:
    error = failure(None, environ, session=session)
    assert len(error.problems) == 1
    assert repr(session) in error.problems[0]
    assert "session" in error.problems[0]


def test_a_relative_repository_is_beside_its_file(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path / "project", 'repository = "../r.git"')
    assert load_config(path, environ=environ, cwd="/").repository == str(tmp_path / "project" / "../r.git")


@pytest.mark.parametrize("url", ["https://h/r.git", "git@h:r.git", "/abs/r.git", "~/r.git", "file:///r.git"])
def test_other_repositories_stay_as_written(tmp_path: Path, environ: dict[str, str], url: str) -> None:
    assert load_config(write(tmp_path, f'repository = "{url}"'), environ=environ).repository == url


def test_a_misspelt_variable_is_a_hint_and_no_error(environ: dict[str, str]) -> None:
    settings = load_config(environ={**environ, "GITMACHINE_SESION": "x", "GITMACHINE_ODD": "1"}, cwd="/")
    assert settings.hints == ("the variable GITMACHINE_SESION means nothing here: did you mean GITMACHINE_SESSION?",)


def test_a_token_may_be_a_function(environ: dict[str, str]) -> None:
    def token() -> str:
        return "x"

    assert load_config(environ=environ, cwd="/", overrides={"token": token}).token is token


def test_a_working_directory_that_is_gone_is_no_obstacle(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_config(environ=environ) == Settings()
