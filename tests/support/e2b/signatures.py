"""Access tokens and the signatures of file URLs (reference, 1.6 and 2.6)."""

from __future__ import annotations

import base64
import hashlib
import hmac


def token(secret: bytes, kind: str, sandbox_id: str) -> str:
    """Derive a token from the sandbox's id, so that it is the same after a pause."""
    return f"{kind}_{hmac.new(secret, f'{kind}:{sandbox_id}'.encode(), hashlib.sha256).hexdigest()[:40]}"


def sign(path: str, operation: str, user: str, token: str, expiry: int | None) -> str:
    """Sign a file URL as the SDKs do; `operation` is `read` or `write`, `expiry` unix seconds."""
    parts = [path, operation, user, token] + ([] if expiry is None else [str(expiry)])
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    return "v1_" + base64.b64encode(digest).decode().rstrip("=")
