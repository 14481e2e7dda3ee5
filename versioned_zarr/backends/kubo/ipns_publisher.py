"""The IPNS publisher: the node signs a record that a name points to a snapshot."""

from __future__ import annotations

from versioned_zarr.backends.kubo.client import KuboClient
from versioned_zarr.errors import InvalidCidError, RefNotFoundError, StorageError
from versioned_zarr.ipld.cid import Cid, from_text, to_text

LIFETIME = "8760h"
"""The validity of a signature: a year, because a dataset is published once and read for long."""


class IpnsPublisher:
    """A `Publisher` that uses the keys of a node."""

    def __init__(self, client: KuboClient) -> None:
        self._client = client

    def publish(self, tree: Cid, key: str) -> str:
        """See `Publisher.publish`; up to three requests."""
        if key not in self._client.key_ids():
            self._make_key(key)
        name = self._client.publish(f"/ipfs/{to_text(tree)}", key, LIFETIME)
        return f"ipns://{name}"

    def _make_key(self, key: str) -> None:
        try:
            self._client.make_key(key)
        except StorageError:
            if key not in self._client.key_ids():  # response lost, or created by others
                raise

    def resolve(self, name: str) -> tuple[Cid, str]:
        """See `Publisher.resolve`; accepts `ipns://NAME`, `/ipns/NAME` or the bare name."""
        bare = name.removeprefix("ipns://").removeprefix("/ipns/").strip("/")
        try:
            path = self._client.resolve(f"/ipns/{bare}")
            root, _, below = path.removeprefix("/ipfs/").partition("/")
            return from_text(root), below
        except (StorageError, InvalidCidError) as error:
            raise RefNotFoundError(
                f"the IPFS node at {self._client.base_url} cannot resolve {name!r}: {error}",
                ref=name,
            ) from error
