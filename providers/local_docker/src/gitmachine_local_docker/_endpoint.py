"""Which engine: what the docker command itself would use.

The order is Docker's: an explicit host or context, DOCKER_HOST, DOCKER_CONTEXT, the current context of its
configuration file, the socket. https://docs.docker.com/engine/manage-resources/contexts/
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import attrs

from gitmachine import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine_local_docker.config import DockerConfig

__all__ = ["Endpoint", "docker_folder", "find_endpoint", "read_docker_config"]

DEFAULT_SOCKET = "/var/run/docker.sock"
_SCHEMES = {"unix", "tcp", "http", "https", "ssh"}


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where an engine is.

    Attributes:
        url: as the user would write it.
        origin: what said so, for messages.
        tls: whether the connection is TLS.
        verify: whether the engine's certificate is checked.
        certificates: the directory with ``ca.pem``, ``cert.pem`` and ``key.pem``, or None.
    """

    url: str
    origin: str
    tls: bool = False
    verify: bool = True
    certificates: Path | None = None

    @property
    def parts(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    @property
    def local(self) -> bool:
        """Whether the engine is on this host."""
        return self.parts.scheme == "unix"

    def address(self) -> tuple[str, int]:
        """Return the host and the port of a ``tcp://`` engine."""
        return self.parts.hostname or "127.0.0.1", self.parts.port or (2376 if self.tls else 2375)

    def tls_context(self) -> ssl.SSLContext:
        """Return the context for TLS; reads the certificates."""
        context = ssl.create_default_context()
        # Python 3.13 began to ask of each certificate what RFC 5280 says of them; the docker command line does not, and
        # authorities made as Docker's own instructions say lack it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificates is not None:
            ca, cert, key = (self.certificates / name for name in ("ca.pem", "cert.pem", "key.pem"))
            try:
                if ca.exists():
                    context.load_verify_locations(cafile=str(ca))
                if cert.exists():
                    context.load_cert_chain(str(cert), str(key))
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"cannot use the certificates in {self.certificates} for {self.url} ({self.origin}): {error}"
                ) from error
        return context


def docker_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of Docker's own configuration."""
    folder = environ.get("DOCKER_CONFIG")
    return Path(folder) if folder else Path.home() / ".docker"


def read_docker_config(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return Docker's own ``config.json``; empty when there is none.

    Raises:
        ConfigError: it is not JSON, or cannot be read.
    """
    path = docker_folder(environ) / "config.json"
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read Docker's configuration {path}: {error}") from error
    return data if isinstance(data, dict) else {}


def find_endpoint(config: DockerConfig, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Return the engine to use.

    Raises:
        ConfigError: a context that does not exist, an address that is none.
    """
    if config.docker_host is not None:
        return _from_url(config.docker_host, "the option docker_host", environ)
    if config.context is not None:
        return _from_context(config.context, "the option context", environ)
    if environ.get("DOCKER_HOST"):
        return _from_url(environ["DOCKER_HOST"], "DOCKER_HOST", environ)
    if environ.get("DOCKER_CONTEXT"):
        return _from_context(environ["DOCKER_CONTEXT"], "DOCKER_CONTEXT", environ)
    current = read_docker_config(environ).get("currentContext")
    if current:
        return _from_context(str(current), "the current Docker context", environ)
    return _default(environ)


def _default(environ: Mapping[str, str]) -> Endpoint:
    candidates = [Path(DEFAULT_SOCKET)]
    if environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(environ["XDG_RUNTIME_DIR"], "docker.sock"))  # rootless
    candidates.append(Path.home() / ".docker/run/docker.sock")  # Docker Desktop
    path = next((path for path in candidates if path.exists()), candidates[0])
    return Endpoint(url=f"unix://{path}", origin="the default")


def _from_url(url: str, origin: str, environ: Mapping[str, str]) -> Endpoint:
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    tls = verify or bool(environ.get("DOCKER_TLS"))
    folder = environ.get("DOCKER_CERT_PATH")
    certificates = Path(folder) if folder else docker_folder(environ)
    parts = _checked(url, origin)
    if parts.scheme == "https" or (parts.scheme in {"tcp", "http"} and tls):
        return Endpoint(url=url, origin=origin, tls=True, verify=verify or not tls, certificates=certificates)
    return Endpoint(url=url, origin=origin)


def _checked(url: str, origin: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # a port that is no number is found out here
    except ValueError as error:
        raise ConfigError(f"{origin} is no address of a Docker engine: {url!r}: {error}") from error
    if parts.scheme not in _SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ConfigError(
            f"{origin} is no address of a Docker engine: {url!r}; expected unix:///path, tcp://host:port or "
            "ssh://user@host"
        )
    if parts.scheme == "ssh" and (parts.password or (parts.hostname or "").startswith("-")):
        raise ConfigError(f"{origin} holds a password, or a host that is none: use a key, with ssh://user@host")
    return parts


def _from_context(name: str, origin: str, environ: Mapping[str, str]) -> Endpoint:
    if name == "default":
        if environ.get("DOCKER_HOST"):
            return _from_url(environ["DOCKER_HOST"], "DOCKER_HOST", environ)
        return _default(environ)
    # A context's directory is called after the SHA-256 of its name: docker/cli, cli/context/store.
    key = hashlib.sha256(name.encode()).hexdigest()
    contexts = docker_folder(environ) / "contexts"
    path = contexts / "meta" / key / "meta.json"
    try:
        described = json.loads(path.read_text())["Endpoints"]["docker"]
        url = str(described["Host"])
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no Docker context {name!r} ({origin}): `docker context ls` lists those there are"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read the Docker context {name!r} ({origin}) from {path}: {error!r}") from error
    where = f"the Docker context {name!r}"
    parts = _checked(url, where)
    folder = contexts / "tls" / key / "docker"
    tls = parts.scheme == "https" or (parts.scheme in {"tcp", "http"} and folder.is_dir())
    return Endpoint(
        url=url,
        origin=where,
        tls=tls,
        verify=not described.get("SkipTLSVerify", False),
        certificates=folder if tls and folder.is_dir() else None,
    )
