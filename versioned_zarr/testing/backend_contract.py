"""The contract of a `Backend`: whether a location is free, and creating and opening there."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from versioned_zarr import location
from versioned_zarr.engine.backend import Backend, begin
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.marker import encode_marker, read_marker
from versioned_zarr.errors import (
    AlreadyExistsError,
    BlockNotFoundError,
    InvalidInputError,
    RepositoryNotFoundError,
)
from versioned_zarr.history.refs import HEADS
from versioned_zarr.ipld.cid import hash_function
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.testing.history_contract import commit_values, contents
from versioned_zarr.testing.reading_contract import VALUES, ReadingContract

_HASH = "sha2-256"


def _no_other(url: object, /, **_options: object) -> RepositoryContext:
    raise AssertionError(f"nothing is exchanged with {url!r}")


class BackendContract(ReadingContract):
    """Subclass it with a fixture `place`, a function that returns a `Backend` of a free location.

    Override `options` if `create` and `open` need options.

    Attributes:
        takes_any_hash: whether repositories can use hash functions other than sha2-256.
        option: an option of the backend, with a value that changes nothing; None if it has no
            options.
    """

    takes_any_hash = True
    option: tuple[str, Any] | None = None

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """The options of `create` and `open`."""
        return {}

    @pytest.fixture
    def shown(self, place: Callable[[], Backend], options: dict[str, Any]) -> str:
        """The location, with a repository that contains `VALUES`."""
        url = place().url
        commit_values(location.create(url, **options), dict(VALUES))
        return url

    @pytest.fixture
    def absent(self, place: Callable[[], Backend]) -> str:
        """The location without a repository."""
        return place().url

    @pytest.fixture
    def open_at(self, options: dict[str, Any]) -> Callable[[str], Snapshot]:
        """Opens the snapshot of the branch `main`."""
        return lambda url: location.open(url, **options).checkout()

    # What a backend does

    def test_a_place_that_is_free_says_so_and_stays_free(
        self, place: Callable[[], Backend]
    ) -> None:
        for _ in range(2):
            place().check_free()
            with pytest.raises(FileNotFoundError):
                place().read_marker()

    def test_a_place_has_one_name(self, place: Callable[[], Backend]) -> None:
        first, second = place(), place()
        assert first.url == second.url == first.storage.url
        assert "://" in first.url

    def test_a_marker_that_was_written_is_read_by_others(
        self, place: Callable[[], Backend]
    ) -> None:
        place().write_marker(encode_marker(_HASH))
        found = read_marker("the place", place().read_marker)
        assert found["hash"] == _HASH
        assert read_marker("the place", place().read_marker) == found

    def test_a_place_that_was_just_made_has_the_history_that_it_says(
        self, place: Callable[[], Backend]
    ) -> None:
        made = place()
        made.write_marker(encode_marker(_HASH))
        stores = place().stores(hash_function(_HASH), "network", _no_other)
        assert bool(stores.refs.names(HEADS)) == made.has_history

    def test_the_parts_belong_together(self, place: Callable[[], Backend]) -> None:
        place().write_marker(encode_marker(_HASH))
        made = place()
        stores = made.stores(hash_function(_HASH), "network", _no_other)
        assert stores.hash.name == _HASH
        assert stores.storage.url == made.url
        assert stores.read_marker() == made.read_marker()
        data = secrets.token_bytes(16)  # others may share the blocks
        cid = stores.hash.raw(data)
        with pytest.raises(BlockNotFoundError):
            stores.blocks.get(cid)
        stores.blocks.put([(cid, data)], cid)
        assert stores.trees.blocks.get(cid) == data

    # Creating and opening

    def test_what_was_made_is_opened_with_all_that_is_in_it(
        self, place: Callable[[], Backend], options: dict[str, Any]
    ) -> None:
        made = location.create(place().url, **options)
        commit = commit_values(made, {"a": b"1"})
        made.tags.create("v1")
        session = made.session()
        session.write("b", b"2")
        found = location.open(place().url, verify="always", **options)
        assert found.url == made.url == place().url
        assert found.hash == _HASH
        assert found.branches["main"] == found.tags["v1"] == commit
        assert contents(found) == {"a": b"1"}
        assert bytes(found.resume(session.id).read("b")) == b"2"

    def test_another_hash_function_is_taken_or_refused(
        self, place: Callable[[], Backend], options: dict[str, Any]
    ) -> None:
        if self.takes_any_hash:
            made = location.create(place().url, hash="blake3", **options)
            commit_values(made, {"a": b"1"})
            found = location.open(place().url, **options)
            assert found.hash == "blake3"
            assert contents(found) == {"a": b"1"}
        else:
            with pytest.raises(InvalidInputError, match=_HASH):
                location.create(place().url, hash="blake3", **options)
            place().check_free()

    def test_a_place_that_is_taken_is_refused_and_left_as_it_was(
        self, shown: str, place: Callable[[], Backend], options: dict[str, Any]
    ) -> None:
        with pytest.raises(AlreadyExistsError):
            place().check_free()
        with pytest.raises(AlreadyExistsError) as caught:
            location.create(shown, **options)
        assert caught.value.name == shown
        assert contents(location.open(shown, **options)) == VALUES

    def test_nothing_is_opened_where_nothing_was_made(
        self, absent: str, place: Callable[[], Backend], options: dict[str, Any]
    ) -> None:
        with pytest.raises(RepositoryNotFoundError) as caught:
            location.open(absent, **options)
        assert caught.value.url == absent
        place().check_free()

    def test_it_is_made_where_it_is_not_there_and_opened_where_it_is(
        self, absent: str, options: dict[str, Any]
    ) -> None:
        made = location.open_or_create(absent, **options)
        commit = commit_values(made, {"a": b"1"})
        assert location.open_or_create(absent, **options).branches["main"] == commit

    def test_what_was_begun_is_finished(
        self, absent: str, place: Callable[[], Backend], options: dict[str, Any]
    ) -> None:
        begin(place(), _HASH)
        with pytest.raises(RepositoryNotFoundError):
            location.open(absent, **options)
        made = location.create(absent, **options)
        commit_values(made, {"a": b"1"})
        assert contents(location.open(absent, **options)) == {"a": b"1"}

    def test_an_option_that_is_not_known_is_refused(
        self, absent: str, place: Callable[[], Backend], options: dict[str, Any]
    ) -> None:
        for call in (location.open, location.create):
            with pytest.raises(InvalidInputError, match="colour"):
                call(absent, colour="red", **options)  # type: ignore[call-arg] # told at run time
        place().check_free()

    def test_an_option_that_is_known_is_taken(self, shown: str, options: dict[str, Any]) -> None:
        chosen = dict([self.option] if self.option else [])
        found = location.open(shown, **{**options, **chosen})
        assert contents(found) == VALUES

    def test_a_pickled_repository_is_the_same_one(
        self, shown: str, options: dict[str, Any]
    ) -> None:
        found = location.open(shown, **options)
        again: Repository = pickle.loads(pickle.dumps(found))
        assert (again.url, again.hash) == (found.url, found.hash)
        commit_values(again, {"more": b"1"})
        assert contents(found) == {**VALUES, "more": b"1"}
