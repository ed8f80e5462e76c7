"""What looks like a secret, and what only looks as if it did. No sample here is one: they are put together as needed.

Time budget: 2 s.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import subprocess

import pytest

from gitmachine.git.secrets import GREP, find_secret, is_secret_file

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
NOW = 1_700_000_000.0


def text(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(random.Random(length).choices(alphabet, k=length))


def key(kind: str = "", line_end: str = "\n") -> str:
    # Put together, so that this file is not what it tests for.
    return line_end.join(
        [f"-----BEGIN {kind}PRIVATE" + " KEY-----", BODY, BODY, f"-----END {kind}PRIVATE" + " KEY-----"]
    )


def jwt(header: object, payload: object) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, payload)]
    return ".".join([*parts, text(43)])


UPPER = string.ascii_uppercase + string.digits
SECRETS = {
    "key.pem": (key(), "a private key"),
    "id_rsa": (key("RSA "), "a private key"),
    "id_ed25519": (key("OPENSSH "), "a private key"),
    "windows.pem": (key("EC ", "\r\n"), "a private key"),
    "service.json": (json.dumps({"private_key": key()}), "a private key"),
    "notes": ("ring: " + key("PGP ").replace("KEY-", "KEY BLOCK-", 2), "a private key"),
    "a.py": (f'KEY = "AKIA{text(16, UPPER)}"', "an AWS access key"),
    "b": ("aws_secret_access" + f"_key = {text(40)}", "an AWS secret key"),
    "c": (f"https://x:ghp_{text(36)}@github.com", "a GitHub token"),
    "d": (f"github_pat_{text(22)}_{text(59)}", "a GitHub token"),
    "e": (f"glpat-{text(20)}", "a GitLab token"),
    "f": (f"xoxb-{text(12, string.digits)}-{text(24)}", "a Slack token"),
    "g": (f"https://hooks.slack.com/services/T{text(9, UPPER)}/B{text(9, UPPER)}/{text(24)}", "a Slack webhook"),
    "h": (f"AIza{text(35)}", "a Google API key"),
    "i": (f"GOCSPX-{text(28)}", "a Google client secret"),
    "j": (f"sk_live_{text(24)}", "a Stripe key"),
    "k": (f"//registry/:_authToken=npm_{text(36)}", "an npm token"),
    "l": (f"pypi-AgEIcHlwaS5vcmc{text(60)}", "a PyPI token"),
    "m": (f"sk-ant-api03-{text(40)}", "an Anthropic key"),
    "n": (f"sk-proj-{text(48)}", "an OpenAI key"),
    "o": (f"hf_{text(34)}", "a Hugging Face token"),
    "p": (jwt({"alg": "HS256"}, {"exp": NOW + 10}), "a JSON web token"),
    "q": (jwt({"alg": "RS256"}, {"iss": "somebody"}), "a JSON web token"),
}
FILES = {
    ".env": f"export API_TOKEN={text(12)}\n",
    "deep/.env.production": f"# ours\nDB_PASSWORD = '{text(9)}'\n",
    ".netrc": f"machine example.org login ada password {text(8)}\n",
    ".git-credentials": f"https://ada:{text(9)}@example.org\n",
    "home/.npmrc": f"//registry.example.org/:_authToken={text(20)}\n",
    ".pypirc": f"[main]\nusername = ada\npassword = {text(9)}\n",
    ".pgpass": f"localhost:5432:db:ada:{text(9)}\n",
}
HARMLESS = {
    "reader.py": 'if data.startswith(b"-----BEGIN RSA PRIVATE' + ' KEY-----"):\n    return load(data)\n',
    "cert.pem": f"-----BEGIN CERTIFICATE-----\n{BODY}\n-----END CERTIFICATE-----\n",
    "public.pem": f"-----BEGIN PUBLIC KEY-----\n{BODY}\n-----END PUBLIC KEY-----\n",
    "docs.md": "AKIA" + "IOSFODNN7EXAMPLE is not a key",
    "docs2.md": "ghp_" + "x" * 36,
    "docs3.md": "ghp_" + "0" * 36,
    "docs4.md": f"sk_live_{'a' * 24}",
    "hash": f"GHP_{text(36)} and aghp_{text(36)} and ghp_{text(80)}",
    "old": jwt({"alg": "HS256"}, {"exp": NOW - 10}),
    "sample": jwt({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890", "name": "John Doe", "iat": 1516239022}),
    "not-a-token": f"eyJ{text(20)}.eyJ{text(20)}.{text(30)}",
    ".env": "DEBUG=1\nAPI_TOKEN=${API_TOKEN}\nDB_PASSWORD=changeme\nSECRET_KEY=<your key>\nTOKEN=\n",
    ".env.example": f"API_TOKEN={text(12)}\n",
    ".npmrc": "//registry.example.org/:_authToken=${NPM_TOKEN}\n",
    "empty.p12": "",
    "plain": text(100_000),
    "code.py": "token = os.environ['GITHUB_TOKEN']\npassword = getpass()\n",
}


@pytest.mark.parametrize("path", SECRETS)
def test_a_secret_is_found_and_named(path):
    content, what = SECRETS[path]
    assert find_secret(path, f"before\n{content}\nafter\n".encode(), now=NOW) == what


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_is_for_passwords_is_looked_into(path):
    assert is_secret_file(path)
    assert find_secret(path, FILES[path].encode(), now=NOW) == "passwords or keys in a file that is for them"


@pytest.mark.parametrize("path", HARMLESS)
def test_what_is_no_secret_is_let_through(path):
    assert find_secret(path, HARMLESS[path].encode(), now=NOW) is None


def test_a_key_store_is_known_by_its_ending():
    assert is_secret_file("a/My.P12")
    assert find_secret("a/My.P12", b"\0\1") == "a key store"


def test_a_secret_in_binary_data_is_found():
    data = random.Random(1).randbytes(50_000) + b"\0" + key().encode() + b"\0"
    assert find_secret("core.dump", data) == "a private key"


@pytest.mark.parametrize("path", SECRETS)
def test_grep_and_python_read_the_expression_alike(path, tmp_path):
    file = tmp_path / "file"
    file.write_text(SECRETS[path][0])
    assert re.search(GREP, SECRETS[path][0])
    done = subprocess.run(["grep", "-q", "-E", "-e", GREP, "--", file], env={"LC_ALL": "C"}, timeout=60, check=False)
    assert done.returncode == 0


def test_nothing_of_a_secret_is_in_what_is_said_of_it():
    for path, (content, _what) in SECRETS.items():
        said = find_secret(path, content.encode(), now=NOW) or ""
        assert not set(re.findall(r"[A-Za-z0-9]{12,}", content)) & set(re.findall(r"[A-Za-z0-9]{12,}", said))
