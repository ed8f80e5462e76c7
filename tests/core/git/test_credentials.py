"""Where a credential comes from, and the form in which git gets it. Time budget: 2 s."""

from __future__ import annotations

import pytest

from gitmachine.errors import ConfigError
from gitmachine.git.credentials import credential_config, credential_input, credential_source, token_credential
from gitmachine.git.model import GitCredential, Operation
from gitmachine.git.names import check_repository
from gitmachine.git.redaction import Redactor

URL = check_repository("https://h/r.git")
WITH_CREDENTIAL = check_repository("https://ada:embedded@h/r.git")


async def fallback(operation):
    return GitCredential("fallback", f"for-{operation}")


async def test_a_token_gets_the_usual_user_name_and_is_made_known_to_the_redactor():
    redactor = Redactor()
    source = credential_source(URL, "canary-token", redactor=redactor)
    assert await source(Operation.READ) == GitCredential("x-access-token", "canary-token")
    assert redactor.redact("canary-token") == "***"


async def test_a_user_name_in_the_address_goes_with_the_token():
    source = credential_source(check_repository("https://ada@h/r"), "canary-token")
    assert await source(Operation.READ) == GitCredential("ada", "canary-token")


async def test_a_callable_is_asked_at_each_use():
    tokens = iter(["first-token", "second-token"])
    source = credential_source(URL, lambda: next(tokens))
    assert [(await source(Operation.READ)).password for _ in range(2)] == ["first-token", "second-token"]


async def test_a_coroutine_function_may_return_a_whole_credential():
    async def token():
        return GitCredential("me", "mine")

    assert await credential_source(URL, token)(Operation.WRITE) == GitCredential("me", "mine")


async def test_the_order_is_token_then_address_then_fallback():
    assert (await credential_source(WITH_CREDENTIAL, "given", fallback=fallback)(Operation.READ)).password == "given"
    assert (await credential_source(WITH_CREDENTIAL, None, fallback=fallback)(Operation.READ)).password == "embedded"
    assert (await credential_source(URL, None, fallback=fallback)(Operation.WRITE)).password == "for-write"
    assert (await credential_source(URL, lambda: None, fallback=fallback)(Operation.READ)).password == "for-read"
    assert await credential_source(URL, None)(Operation.READ) is None


async def test_only_http_takes_credentials():
    for address in ("git@h:r.git", "/srv/r.git"):
        assert await credential_source(check_repository(address), "token", fallback=fallback)(Operation.READ) is None


@pytest.mark.parametrize("token", ["a\nb", "a\rb", "a\0b", "", "x" * 20_000])
def test_a_token_that_cannot_be_handed_over_is_refused_without_being_shown(token):
    with pytest.raises(ConfigError) as caught:
        token_credential(token)
    assert not token or token not in str(caught.value)


async def test_a_token_of_a_wrong_type_is_refused():
    with pytest.raises(ConfigError, match="must be text, not int"):
        await credential_source(URL, lambda: 7)(Operation.READ)


def test_the_helper_reads_a_descriptor_and_holds_no_secret():
    assert credential_input(GitCredential("u", "p")) == b"username=u\npassword=p\n"
    flag, option = credential_config(URL, 7)
    assert flag == "-c"
    assert option.startswith("credential.https://h.helper=!")
    assert "cat <&7;" in option
    assert "cat </dev/fd/12;" in credential_config(URL, 12)[1]
