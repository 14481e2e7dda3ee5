"""Ref staging: MFS keeps what a ref update points to until the update is made.

MFS protects complete DAGs that it links to from the node's garbage collection. So a move is linked
here and completed before the ref gets it: whenever the ref moves, everything is present.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final

from versioned_zarr.backends.kubo.client import KuboClient, NoSuchPathError, PathTakenError
from versioned_zarr.backends.kubo.kubo_blocks import KuboBlocks
from versioned_zarr.errors import CollectedError, StorageError, StorageFullError
from versioned_zarr.ipld.cid import Cid, from_text, to_text

STAGED: Final = "staged"
_ATTEMPTS: Final = 5
_FIRST_PAUSE_S: Final = 0.02


class RefStaging:
    """Staged moves: `staged/SECONDS-TOKEN` in the repository's MFS directory.

    Args:
        client: the node.
        root: the repository's MFS directory.
        blocks: makes sure that staged DAGs are complete.
    """

    def __init__(self, client: KuboClient, root: str, blocks: KuboBlocks) -> None:
        self._client, self._blocks = client, blocks
        self._folder = f"{root}/{STAGED}"

    def hold(self, root: Cid, *, parents: bool) -> str:
        """Stage a move with everything that it reaches; returns its path.

        Args:
            root: the directory of the move.
            parents: create the parent directories.

        Raises:
            NoSuchPathError: a parent directory does not exist.
            CollectedError: a collection removed blocks that could not be sent again.
        """
        path = f"{self._folder}/{int(time.time())}-{secrets.token_hex(8)}"
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._client.copy(to_text(root), path, parents=parents)
                break
            except PathTakenError:  # only the response was lost
                break
            except StorageError as error:
                if self._is_there(path, root):
                    break
                if attempt == _ATTEMPTS or isinstance(error, StorageFullError):
                    raise
                time.sleep(_FIRST_PAUSE_S * 2**attempt)
                self._blocks.secure()
        try:
            self._blocks.settle()
        except CollectedError:
            self.let_go(path)
            raise
        return path

    def _is_there(self, path: str, root: Cid) -> bool:
        try:
            return from_text(self._client.stat(path)) == root
        except NoSuchPathError:
            return False

    def let_go(self, path: str) -> None:
        """Unstage a move that was made or never will be; in the background."""

        def remove() -> None:
            with suppress(StorageError):  # it expires after a day
                self._client.remove(path)

        self._client.in_background(remove)

    def forget(self, after: timedelta) -> None:
        """Unstage moves that interrupted processes staged before this period."""
        try:
            entries = self._client.list(self._folder)
        except NoSuchPathError:
            return
        oldest_s = time.time() - after.total_seconds()
        for entry in entries:
            began = entry.name.partition("-")[0]
            if not began.isdecimal() or int(began) < oldest_s:
                self._client.remove(f"{self._folder}/{entry.name}")
