"""The options of an object store: where they come from, and the store that they give.

The rules are those of obstore, with three additions. Options of the HTTP client may stand beside
the others. The environment adds those of the client that the caller does not pass; obstore would
forget them. Requests end within a known time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from obstore.store import from_url

from versioned_zarr.backends.objectstore.obstore_storage import first_line, is_panic
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.urls import split_url

TIMEOUT_S: Final = 60
"""The time for a request with its bytes, unless options or the environment contain `timeout`."""
RETRY_S: Final = 60
"""No request is repeated later than this after it began, without `retry_config`."""
_PREFIXES: Final = {
    "s3": "aws_",
    "gs": "google_",
    "az": "azure_",
    "abfs": "azure_",
}
_OF_CLIENT: Final = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "default_headers",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_max_frame_size",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)
_QUOTED: Final = re.compile('".*"', re.DOTALL)


def store_at(url: str, options: Mapping[str, Any]) -> Any:
    """The store of obstore at a URL, by options, the environment and configuration files.

    Raises:
        InvalidInputError: obstore does not accept the options; no value is shown.
    """
    try:
        return from_url(url, **complete(url, options))
    except BaseException as error:  # errors of obstore have no common class here
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        names = ", ".join(sorted(map(str, options))) or "none"
        said = _QUOTED.sub("a value", first_line(error))
        raise InvalidInputError(
            f"{url!r} cannot be opened with the storage options {names}: {said}"
        ) from None


def complete(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of obstore: options with those of the client apart, and with defaults."""
    scheme = split_url(url).scheme
    prefix = _PREFIXES.get(scheme, "")
    client: dict[str, Any] = {"timeout": f"{TIMEOUT_S}s"}
    if scheme == "http":
        client["allow_http"] = True
    for name, value in os.environ.items():
        bare = name.lower().removeprefix(prefix)
        if prefix and name.lower().startswith(prefix) and bare in _OF_CLIENT:
            client[bare] = value
    others: dict[str, Any] = {"retry_config": {"retry_timeout": timedelta(seconds=RETRY_S)}}
    for name, value in options.items():
        bare = name.lower().removeprefix(prefix)
        if bare in _OF_CLIENT:
            client[bare] = value
        else:
            others[name] = value
    given = others.get("client_options") or {}
    return {
        **others,
        "client_options": {**client, **given} if isinstance(given, Mapping) else given,
    }
