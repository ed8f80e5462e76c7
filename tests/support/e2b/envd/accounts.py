"""Who a call acts as, and where a path leads for them (reference, 2.1 and 2.4)."""

from __future__ import annotations

import base64
import os
import pwd

import attrs
from aiohttp import web

from support.e2b.envd.config import EnvdConfig
from support.e2b.envd.connect import ConnectError
from support.e2b.versions import at_least


@attrs.frozen(kw_only=True)
class Account:
    """A user of the sandbox."""

    name: str
    uid: int
    gid: int
    home: str

    def resolve(self, path: str, *, workdir: str | None = None) -> str:
        """Make a path absolute: from the home, or for an empty one the workdir.

        Raises:
            ConnectError: `invalid_argument`, it starts with another user's `~`.
        """
        if not path:
            return workdir or self.home
        if path.startswith("~"):
            if path != "~" and not path.startswith("~/"):
                raise ConnectError("invalid_argument", "path with '~' must start with '~/'")
            path = self.home + path[1:]
        return os.path.normpath(os.path.join(self.home, path))  # noqa: PTH118 -- paths are text here, also odd ones


def account(name: str) -> Account:
    """Look a user up.

    Raises:
        ConnectError: `unauthenticated`, there is none of this name.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConnectError("unauthenticated", f"invalid username: '{name}'") from None
    return Account(name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid, home=found.pw_dir)


def named(name: str | None, config: EnvdConfig) -> Account:
    """Return the named user or, from envd 0.4.0 on, the default one."""
    if name:
        return account(name)
    if not at_least(config.version, "0.4.0"):
        raise ConnectError("unauthenticated", "no user specified")
    return account(config.default_user)


def caller(request: web.Request, config: EnvdConfig) -> Account:
    """Return whom a call's Authorization header names; it is no authentication."""
    header = request.headers.get("Authorization", "")
    name: str | None = None
    if header.startswith("Basic "):
        try:
            name = base64.b64decode(header[6:]).decode().partition(":")[0]
        except ValueError as error:
            raise ConnectError("unauthenticated", f"invalid authorization header: {error}") from error
    return named(name, config)
