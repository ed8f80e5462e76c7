"""What looks like a secret in a file: private keys, tokens of well-known forms, files that exist to hold passwords.

Pure functions over bytes. They are made to be believed: a form without a fixed beginning is not looked for, and what is
plainly a placeholder (``EXAMPLE``, ``xxxx``, ``${TOKEN}``) is none.
"""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import re
import time
from typing import Any

__all__ = ["GREP", "find_secret", "is_secret_file"]

_HEADER = r"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----"
_JWT = r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"
_TOKENS = {
    r"(AKIA|ASIA)[0-9A-Z]{16}": "an AWS access key",
    r"gh[pousr]_[A-Za-z0-9]{36}": "a GitHub token",
    r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}": "a GitHub token",
    r"glpat-[A-Za-z0-9_-]{20}": "a GitLab token",
    r"xox[abeoprs]-[0-9A-Za-z]{4,}-[0-9A-Za-z-]{12,}": "a Slack token",
    r"hooks\.slack\.com/services/T[0-9A-Z]{6,}/B[0-9A-Z]{6,}/[0-9A-Za-z]{20,}": "a Slack webhook",
    r"AIza[0-9A-Za-z_-]{35}": "a Google API key",
    r"GOCSPX-[0-9A-Za-z_-]{28}": "a Google client secret",
    r"(sk|rk)_live_[0-9A-Za-z]{20,}": "a Stripe key",
    r"npm_[A-Za-z0-9]{36}": "an npm token",
    r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}": "a PyPI token",
    r"sk-ant-[a-z0-9]+-[A-Za-z0-9_-]{32,}": "an Anthropic key",
    r"sk-proj-[A-Za-z0-9_-]{40,}": "an OpenAI key",
    r"hf_[A-Za-z0-9]{34}": "a Hugging Face token",
}
_AWS_SETTING = r"(aws|AWS)_(secret|SECRET)_(access|ACCESS)_(key|KEY)"
_BEGINNINGS = (
    b"PRIVATE KEY", b"eyJ", b"AKIA", b"ASIA", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-",
    b"xox", b"hooks.slack.com", b"AIza", b"GOCSPX-", b"_live_", b"npm_", b"pypi-", b"sk-", b"hf_", b"aws_", b"AWS_",
)  # fmt: skip
"""One of these is in whatever matches; to look for a few plain words is many times faster than the expression."""

GREP = "|".join(f"({form})" for form in (_HEADER, _JWT, *_TOKENS, _AWS_SETTING))
"""An extended regular expression that every file with a secret matches, whatever its name; for `grep -E`."""

_ANY = re.compile(GREP.replace("(", "(?:").encode())
_WHOLE = {re.compile(rb"(?<![A-Za-z0-9_])%b(?![A-Za-z0-9_])" % form.encode()): what for form, what in _TOKENS.items()}
_KEY = re.compile(_HEADER.encode() + rb"(?P<body>.{0,2000})", re.DOTALL)
_BODY = re.compile(rb"[A-Za-z0-9+/=]{40,}")
_WHOLE_JWT = re.compile(rb"(?<![A-Za-z0-9_-])" + _JWT.encode())
_SECRET_VALUE = re.compile(
    _AWS_SETTING.encode() + rb"""["']?\s*[:=]\s*["']?(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])"""
)
_PLACEHOLDER = re.compile(
    rb"EXAMPLE|example|[xX]{4}|[*]{3}|0{8}|\.\.\.|change_?me|your[-_]|<|\$[({A-Za-z_]", re.IGNORECASE
)
_DISTINCT = 8
"""A random text of 16 characters or more has at least so many different ones."""

_STORES = (".jks", ".kdbx", ".keystore", ".p12", ".pfx")
_ASSIGNMENT = re.compile(
    rb"^[ \t]*(?:export[ \t]+)?"
    rb"\w*(?:SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|PRIVATE_?KEY|CREDENTIAL)\w*[ \t]*="
    rb"[ \t]*[\"']?(?P<value>[^\s\"'#]{8,})",
    re.IGNORECASE | re.MULTILINE,
)
_HARMLESS_ENDINGS = (".example", ".sample", ".template", ".dist", ".defaults", ".schema")
_PASSWORD_FILES = {
    ".netrc": re.compile(rb"\bpassword\s+(?P<value>\S{4,})"),
    ".git-credentials": re.compile(rb"://[^/\s:]*:(?P<value>[^@\s]{4,})@"),
    ".npmrc": re.compile(rb"_(?:authToken|auth|password)[ \t]*=[ \t]*(?P<value>\S{8,})"),
    ".pypirc": re.compile(rb"^[ \t]*password[ \t]*[:=][ \t]*(?P<value>\S{4,})", re.MULTILINE),
    ".pgpass": re.compile(rb"^(?!#)(?:[^:\n]*:){4}(?P<value>\S{4,})", re.MULTILINE),
}


def is_secret_file(path: str) -> bool:
    """Tell whether a file's name alone is reason to look into it."""
    name = posixpath.basename(path)
    return name in _PASSWORD_FILES or name.lower().endswith(_STORES) or _is_env(name)


def find_secret(path: str, data: bytes, *, now: float | None = None) -> str | None:
    """Return what secret a file seems to hold, such as ``"a private key"``, or None.

    Args:
        path: its path; some names say what to look for.
        data: its content.
        now: seconds since 1970, to tell whether a token has expired; None is the clock's.
    """
    name = posixpath.basename(path)
    if name.lower().endswith(_STORES):
        return "a key store" if data else None
    pattern = _PASSWORD_FILES.get(name) or (_ASSIGNMENT if _is_env(name) else None)
    if pattern is not None and any(not _PLACEHOLDER.search(match["value"]) for match in pattern.finditer(data)):
        return "passwords or keys in a file that is for them"
    if not any(beginning in data for beginning in _BEGINNINGS) or not _ANY.search(data):
        return None
    return _in_content(data, time.time() if now is None else now)


def _is_env(name: str) -> bool:
    return (name == ".env" or name.startswith(".env.")) and not name.endswith(_HARMLESS_ENDINGS)


def _in_content(data: bytes, now: float) -> str | None:
    for match in _KEY.finditer(data):
        # A header alone is in every program that reads keys.
        if _BODY.search(match["body"].replace(b"\\n", b"\n")):
            return "a private key"
    for pattern, what in _WHOLE.items():
        if any(_random(match[0]) for match in pattern.finditer(data)):
            return what
    if any(_random(match["value"]) for match in _SECRET_VALUE.finditer(data)):
        return "an AWS secret key"
    return "a JSON web token" if any(_is_live(match[0], now) for match in _WHOLE_JWT.finditer(data)) else None


def _random(text: bytes) -> bool:
    return not _PLACEHOLDER.search(text) and len(set(text[4:])) >= _DISTINCT


def _is_live(token: bytes, now: float) -> bool:
    """Tell whether a JSON web token opens anything: samples name no issuer and no end, and most tokens have ended."""
    header, payload, _signature = token.split(b".")
    parts = [_decoded(header), _decoded(payload)]
    if not all(isinstance(part, dict) for part in parts) or "alg" not in parts[0]:
        return False
    end = parts[1].get("exp")
    if isinstance(end, int | float):
        return end > now
    return "iss" in parts[1]


def _decoded(part: bytes) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return None
