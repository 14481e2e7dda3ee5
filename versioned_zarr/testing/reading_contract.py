"""The contract of reading from a URL: of a repository or of a gateway."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from versioned_zarr.errors import KeyNotFoundError, NotFoundError, ReadOnlyError
from versioned_zarr.repository.snapshot import Snapshot

GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'
VALUES = {
    "zarr.json": GROUP,
    "empty": b"",
    "folder/small": b"small",
    "folder/zarr.json": GROUP,
    "large": bytes(range(256)) * 5000,  # of more than one leaf
}


class ReadingContract:
    """Subclass it with three fixtures.

    - `shown`: a URL that serves `VALUES`.
    - `absent`: a URL where nothing exists.
    - `open_at`: opens the first snapshot of a URL.
    """

    def test_what_is_there_is_read(self, shown: str, open_at: Callable[[str], Snapshot]) -> None:
        found = open_at(shown)
        assert dict(found.mapping) == VALUES
        assert found.read("large", 1_000_000, 1_000_010) == VALUES["large"][1_000_000:1_000_010]
        assert dict(found.path("folder").mapping) == {"small": b"small", "zarr.json": GROUP}
        with pytest.raises(KeyNotFoundError, match="folder/none"):
            found.read("folder/none")

    def test_its_url_leads_to_it_again(
        self, shown: str, open_at: Callable[[str], Snapshot]
    ) -> None:
        found = open_at(shown)
        again = open_at(found.repository.url)
        assert again == found
        assert again.repository.url == found.repository.url

    def test_a_pickle_leads_to_it_again(
        self, shown: str, open_at: Callable[[str], Snapshot]
    ) -> None:
        found = open_at(shown)
        again = pickle.loads(pickle.dumps(found))
        assert (again, again.commit) == (found, found.commit)
        assert again.read("folder/small") == b"small"

    def test_a_snapshot_is_written_by_nobody(
        self, shown: str, open_at: Callable[[str], Snapshot]
    ) -> None:
        found = open_at(shown)
        assert found.read_only
        assert found.store.read_only
        assert found.open("folder").read_only
        for mode in ("w", "a", "r+"):
            with pytest.raises(ReadOnlyError):
                found.open(mode=mode)
        assert dict(open_at(shown).mapping) == VALUES

    def test_where_nothing_is_nothing_is_opened(
        self, absent: str, open_at: Callable[[str], Snapshot]
    ) -> None:
        for _ in range(2):  # reading creates nothing
            with pytest.raises(NotFoundError):
                open_at(absent)
