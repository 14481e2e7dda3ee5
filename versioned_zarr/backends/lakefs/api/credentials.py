"""Credentials: which lakeFS server, and which keys, found as lakeFS's own clients do.

Arguments have priority, then the environment, then the configuration file of `lakectl`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from versioned_zarr.backends.http.deadline import check_timeout
from versioned_zarr.errors import InvalidInputError, MissingDependencyError

try:
    import yaml
except ImportError as error:
    raise MissingDependencyError(
        "reading the configuration of lakectl needs the package PyYAML: "
        "pip install 'versioned-zarr[lakefs]'",
        package="PyYAML",
        extra="lakefs",
    ) from error

TIMEOUT_S = 300.0
"""lakeFS takes minutes to merge many objects."""
CONFIG_VARIABLE = "LAKECTL_CONFIG_FILE"
_VARIABLES = {
    "endpoint": ("LAKECTL_SERVER_ENDPOINT_URL", "LAKEFS_ENDPOINT", "LAKEFS_SERVER_ENDPOINT_URL"),
    "access_key_id": (
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
        "LAKEFS_ACCESS_KEY_ID",
        "LAKEFS_CREDENTIALS_ACCESS_KEY_ID",
    ),
    "secret_access_key": (
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
        "LAKEFS_SECRET_ACCESS_KEY",
        "LAKEFS_CREDENTIALS_SECRET_ACCESS_KEY",
    ),
}
_FIELDS = {
    "endpoint": ("server", "endpoint_url"),
    "access_key_id": ("credentials", "access_key_id"),
    "secret_access_key": ("credentials", "secret_access_key"),
}


@dataclass(frozen=True)
class Connection:
    """A lakeFS server and the credentials to use there; the secret is never shown.

    Attributes:
        endpoint: the server's URL, without `/api/v1`.
        access_key_id: the access key.
        secret_access_key: its secret.
        source: the source of the credentials, as text.
        timeout_s: the time for a request without its bytes, in seconds.
    """

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    source: str = ""
    timeout_s: float = TIMEOUT_S


def connection(
    endpoint: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Connection:
    """The server and credentials to use.

    Args:
        endpoint: the server's URL, with or without `/api/v1`.
        access_key_id: the access key.
        secret_access_key: its secret.
        timeout_s: see `Connection`.

    Raises:
        InvalidInputError: one of the first three is not configured anywhere, the configuration
            file cannot be read, or `timeout_s` is not a valid timeout.
    """
    check_timeout(timeout_s)
    passed = {
        "endpoint": endpoint,
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
    }
    found: dict[str, str] = {}
    sources: dict[str, str] = {}
    configured: dict[str, Any] | None = None
    for name, value in passed.items():
        if value:
            found[name], sources[name] = value, "the arguments"
            continue
        variable = next((each for each in _VARIABLES[name] if os.environ.get(each)), None)
        if variable is not None:
            found[name], sources[name] = os.environ[variable], f"${variable}"
            continue
        configured = _configured() if configured is None else configured
        section, key = _FIELDS[name]
        text = (configured.get(section) or {}).get(key)
        if text:
            found[name], sources[name] = str(text), str(_config_file())
    missing = [name for name in passed if name not in found]
    if missing:
        raise InvalidInputError(
            f"lakeFS: missing {' and '.join(missing)}; pass them, set "
            f"{', '.join(_VARIABLES[name][0] for name in missing)}, or run 'lakectl config', "
            f"which writes {_config_file()}"
        )
    url = found["endpoint"].rstrip("/").removesuffix("/api/v1")
    return Connection(
        url if "://" in url else f"http://{url}",
        found["access_key_id"],
        found["secret_access_key"],
        sources["secret_access_key"],
        timeout_s,
    )


def _config_file() -> Path:
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else Path.home() / ".lakectl.yaml"


def _configured() -> dict[str, Any]:
    path = _config_file()
    try:
        document = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise InvalidInputError(f"cannot read the lakectl configuration {path}: {error}") from error
    return document if isinstance(document, dict) else {}
