"""The obstore backend: a repository at `s3://BUCKET/PREFIX`, `gs://…`, `az://…` or `abfs://…`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from versioned_zarr.backends.objectstore.object_store_backend import ObjectStoreBackend
from versioned_zarr.backends.objectstore.obstore_options import store_at
from versioned_zarr.backends.objectstore.obstore_storage import ObstoreStorage
from versioned_zarr.blocks.cache.block_cache import LIMIT_BYTES
from versioned_zarr.errors import InvalidInputError, InvalidUrlError
from versioned_zarr.urls import split_url, without_user


class ObstoreBackend(ObjectStoreBackend):
    """A prefix in a bucket; see `ObjectStoreBackend`.

    Args:
        url: `SCHEME://BUCKET/PREFIX`; the prefix may be empty.
        storage_options: see `versioned_zarr.engine.open_options.Options`, as all that follow.
        store: see there.
        cache_bytes: see there.

    Raises:
        InvalidUrlError: the URL is not of that form.
        InvalidInputError: obstore does not accept the options.
    """

    def __init__(
        self,
        url: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        store: Any = None,
        cache_bytes: int = LIMIT_BYTES,
    ) -> None:
        parts = split_url(url)
        if parts.query or parts.fragment or not parts.netloc or "@" in parts.netloc:
            shown = without_user(url).partition("?")[0]
            raise InvalidUrlError(
                f"{shown!r} must have the form {parts.scheme}://BUCKET/PREFIX; pass credentials "
                "and other options as storage_options=",
                url=shown,
            )
        bare = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        if store is None:
            store = store_at(bare, storage_options or {})
        elif storage_options:
            raise InvalidInputError("pass store= or storage_options=, not both")
        is_web = parts.scheme in ("http", "https")
        super().__init__(ObstoreStorage(store, bare, can_list=not is_web), cache_bytes)
