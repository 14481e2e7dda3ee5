"""Object stores after `::` in URLs of fsspec, as in `vzarr://main@/air::s3://bucket/climate`.

fsspec looks up a file system for each scheme in a URL. That for an object store is never used: the
repository reads through obstore. If its package is missing, a placeholder takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from fsspec import AbstractFileSystem, register_implementation
from fsspec.registry import known_implementations, registry

from versioned_zarr.urls import split_url, without_user

_PACKAGES: Final = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
"""What fsspec needs for a scheme."""
_OF_SERVER: Final = ("endpoint", "endpoint_url", "account_name")
_OF_OPEN: Final = frozenset({"storage_options", "store", "cache_bytes"})
_HARMLESS: Final = frozenset(
    {
        "allow_http",
        "cache_bytes",
        "endpoint",
        "endpoint_url",
        "region",
        "skip_signature",
        "storage_namespace",
        "storage_options",
        "timeout_s",
        "virtual_hosted_style_request",
    }
)
"""Options that contain no credentials, but for a user in a URL."""


def register_placeholders() -> None:
    """Let fsspec know the schemes whose packages are not installed."""
    for scheme, package in _PACKAGES.items():
        if scheme not in registry and find_spec(package) is None:
            register_implementation(scheme, _placeholder(scheme), clobber=True)


def _placeholder(scheme: str) -> type[AbstractFileSystem]:
    advice = known_implementations[scheme]["err"]

    def refuse(*_: object, **__: object) -> None:
        raise ImportError(
            f"{advice}; or open a branch of a repository as vzarr://main@/PATH::{scheme}://…"
        )

    members: dict[str, Any] = {"protocol": scheme, "__init__": refuse, "cachable": False}
    if scheme.startswith("http"):
        members["_strip_protocol"] = staticmethod(lambda path: path)
    return type(f"Missing_{scheme}", (AbstractFileSystem,), members)


def options_at(place: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `vz.open`; those of an object store may stand beside them.

    >>> options_at("s3://bucket/x", {"region": "eu", "cache_bytes": 0})
    {'cache_bytes': 0, 'storage_options': {'region': 'eu'}}
    """
    if "://" not in place or split_url(place).scheme not in _PACKAGES:
        return dict(options)
    found = {name: value for name, value in options.items() if name in _OF_OPEN}
    beside = {name: value for name, value in options.items() if name not in _OF_OPEN}
    if beside:
        found["storage_options"] = {**(found.get("storage_options") or {}), **beside}
    return found


def server_of(options: Mapping[str, Any]) -> str:
    """A text that differs if options lead a URL to another server, account or store.

    >>> server_of({"storage_options": {"endpoint": "http://127.0.0.1:9000", "region": "eu"}})
    "endpoint='http://127.0.0.1:9000'"
    """
    given = {**options, **(options.get("storage_options") or {})}
    named = {name.lower(): value for name, value in given.items()}
    parts = [f"{name}={value!r}" for name, value in named.items() if name.endswith(_OF_SERVER)]
    if "store" in options:
        parts.append(f"store={id(options['store'])}")
    return " ".join(sorted(parts))


def without_secrets(given: Any) -> Any:
    """An argument of a file system without credentials: options, a URL, or anything else."""
    if isinstance(given, Mapping):
        return {name: without_secrets(given[name]) for name in given if name in _HARMLESS}
    return without_user(given) if isinstance(given, str) else given
