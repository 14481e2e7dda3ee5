"""MFS files: small files of a repository in its MFS directory, shared by all machines."""

from __future__ import annotations

from collections.abc import Sequence

from versioned_zarr.backends.kubo.client import KuboClient, NoSuchPathError, PathTakenError
from versioned_zarr.errors import StorageError
from versioned_zarr.storage.protocol import Bytes


class MfsFiles:
    """See `versioned_zarr.storage.protocol.Documents`.

    Args:
        client: the node.
        root: the MFS directory, such as `/versioned-zarr/NAME`.
        url: the URL of the repository, for errors.
    """

    def __init__(self, client: KuboClient, root: str, url: str) -> None:
        self._client, self._root, self.url = client, root, url

    def read(self, path: str) -> memoryview:
        """See `Documents.read`; one request."""
        try:
            return memoryview(self._client.read(f"{self._root}/{path}"))
        except NoSuchPathError:
            raise FileNotFoundError(path) from None

    def put(self, path: str, parts: Sequence[Bytes]) -> None:
        """See `Documents.put`; two requests if the file is new."""
        data = b"".join(parts)
        cid = self._client.put_block(data)
        there = f"{self._root}/{path}"
        try:
            self._client.copy(cid, there)
        except PathTakenError:
            if not self._is(cid, there):
                self._client.write(there, data)
        except StorageError:
            if not self._is(cid, there):  # or only the response was lost
                raise

    def _is(self, cid: str, path: str) -> bool:
        try:
            return self._client.stat(path) == cid
        except NoSuchPathError:
            return False
