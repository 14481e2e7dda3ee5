"""The schemes `vzarr+SCHEME` after `::` in URLs of fsspec: repositories whose own scheme it lacks.

fsspec looks up the last scheme of a chain first, and knows `s3` only if s3fs is installed. A
process that got nothing but a string, such as a worker of Cubed, has not imported this package by
then. So URLs of sessions name the repository by a scheme of ours, which fsspec finds by its entry
point. `ipfs+http` is ours anyway.
"""

from __future__ import annotations

from typing import Any, Final

from fsspec import AbstractFileSystem

_OWN: Final = "vzarr+"
_KNOWN: Final = ("file", "memory", "lakefs", "ipfs+http", "ipfs+https")
"""Schemes of repositories that fsspec finds in any process; the last three by entry points."""


class ChainedPlace(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A placeholder for a repository after `::`; it cannot read anything itself."""

    cachable = False

    def __init__(self, *_: object, **__: object) -> None:
        raise ImportError(
            "vzarr+… names a repository after '::', as in vzarr://main@/PATH::vzarr+s3://BUCKET; "
            "by itself it is no file system"
        )

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path


def chained(repository: str) -> str:
    """The URL of a repository, as fsspec understands it after `::` in any process.

    >>> chained("s3://bucket/climate"), chained("file:///data/air.vz")
    ('vzarr+s3://bucket/climate', 'file:///data/air.vz')
    """
    scheme = repository.partition("://")[0]
    return repository if scheme in _KNOWN else _OWN + repository


def unchained(repository: str) -> str:
    """The URL of a repository, as `versioned_zarr.open` understands it."""
    return repository.removeprefix(_OWN)
