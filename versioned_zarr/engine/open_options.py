"""Where a repository is, and the options with which it is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

from versioned_zarr.engine.progress import OnProgress


class StoreLike(Protocol):
    """A store of obstore."""

    def get_range(self, path: str, *, start: int, end: int) -> Any:
        """Read a range of an object."""
        ...


Location: TypeAlias = "str | os.PathLike[str] | StoreLike"
"""Where a repository is: a path, a URL, or a store of obstore with its prefix."""


class ServerOptions(TypedDict, total=False):
    """Options of a repository: on an IPFS node, on lakeFS, in an object store or in a folder.

    Attributes:
        headers: sent with every request; the values are never shown.
        token: a bearer token; $VERSIONED_ZARR_IPFS_AUTH by default. Never shown.
        client: an `ipfshttpclient.Client` whose credentials and headers are used; the node is that
            of the URL, not that of the client.
        timeout_s: the time for a request, in seconds, without its bytes at 4 KiB a second.
        cache_bytes: the size of the cache on this machine; 0 turns it off.
        endpoint: the URL of the lakeFS server. The default of this and the next two options is
            that of lakeFS's own clients: the environment or the configuration of `lakectl`.
        access_key_id: the access key.
        secret_access_key: its secret. Never shown.
        storage_namespace: where lakeFS should store a repository that `create` creates, such as
            `s3://bucket/path`.
        storage_options: the options of an object store, as `obstore.store.from_url` accepts them,
            such as `region`, `endpoint`, `access_key_id` or `skip_signature`; by default those that
            obstore finds in the environment. Never shown, but part of pickles.
        store: an obstore store, including the prefix, to use for the URL.
        shared: whether a folder that is created is for several machines that mount it, as on
            Lustre, GPFS or NFS; on Windows by default. An existing one is recognized.
    """

    headers: Mapping[str, str]
    token: str
    client: Any
    timeout_s: float
    cache_bytes: int
    endpoint: str
    access_key_id: str
    secret_access_key: str
    storage_namespace: str
    storage_options: Mapping[str, Any]
    store: Any
    shared: bool


class Options(ServerOptions, total=False):
    """Those, and one for the caller.

    Attributes:
        progress: called while values from other tools are read from lakeFS and hashed, with the
            number of bytes done and found so far, on the waiting thread.
    """

    progress: OnProgress
