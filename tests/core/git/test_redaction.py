"""Secrets are taken out of text. Time budget: 1 s."""

from __future__ import annotations

import base64

from gitmachine.git.model import GitCredential
from gitmachine.git.redaction import Redactor


def test_a_secret_and_its_encodings_disappear():
    redactor = Redactor(["s3cr/et+"])
    encoded = base64.b64encode(b"s3cr/et+").decode()
    assert redactor.redact(f"a s3cr/et+ b s3cr%2Fet%2B c {encoded} d") == "a *** b *** c *** d"


def test_a_basic_authorization_disappears():
    redactor = Redactor()
    credential = redactor.add_credential(GitCredential("ada", "canary"))
    assert credential.password == "canary"
    header = base64.b64encode(b"ada:canary").decode()
    assert redactor.redact(f"Authorization: Basic {header}") == "Authorization: Basic ***"


def test_a_secret_inside_another_leaves_nothing_behind():
    redactor = Redactor(["token", "token-long"])
    assert redactor.redact("token-long token") == "*** ***"


def test_very_short_secrets_do_not_blot_out_words():
    assert Redactor(["a", ""]).redact("banana") == "banana"


def test_a_redactor_does_not_show_what_it_knows():
    assert "canary" not in repr(Redactor(["canary"]))
