"""Takes secrets out of text that is shown, logged or stored; never used on a command's own output."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gitmachine.git.model import GitCredential

__all__ = ["REDACTED", "Redactor"]

REDACTED = "***"
MIN_SECRET_LENGTH = 4
"""Shorter secrets are not looked for: they would blot out ordinary words."""


class Redactor:
    """Replaces every known secret, and its usual encodings, by ``***``. Safe to use from several threads."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self._lock = threading.Lock()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str, *, username: str | None = None) -> None:
        """Hide a secret from now on; with a user name also as the Basic authorization of the two."""
        if len(secret) < MIN_SECRET_LENGTH:
            return
        forms = {secret, quote(secret, safe=""), _base64(secret)}
        if username is not None:
            forms.add(_base64(f"{username}:{secret}"))
        with self._lock:
            # The longest first: a secret inside another one must not leave the other's rest behind.
            self._forms = tuple(sorted({*self._forms, *forms}, key=len, reverse=True))

    def add_credential(self, credential: GitCredential) -> GitCredential:
        """Hide a credential's secret from now on; returns the credential."""
        self.add(credential.password, username=credential.username)
        return credential

    def redact(self, text: str) -> str:
        """Return the text without the secrets."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text

    def __repr__(self) -> str:
        return "Redactor()"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
