"""A partial clone: the commits and paths that it holds; it fetches the rest on first read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.remote.lazy_origin import BlockOrigin
from versioned_zarr.blocks.remote.lazy_store import LazyStore
from versioned_zarr.engine.context import OpenOther
from versioned_zarr.errors import CorruptError, InvalidInputError
from versioned_zarr.ipld.cid import HashFunction
from versioned_zarr.storage.protocol import Documents, Storage
from versioned_zarr.tree.keys import check_key

PARTIAL = "partial.json"


@dataclass(frozen=True)
class PartialClone:
    """What is copied immediately of each fetched commit.

    Attributes:
        origin: the URL of the repository that has the rest.
        depth: how many commits of each branch, counted from its head; None for all.
        paths: the groups, arrays or keys, with the metadata documents above them; none for
            everything.

    Raises:
        InvalidInputError: the depth is less than 1, or `paths` is a single string.
        InvalidKeyError: a path is not a valid key.
    """

    origin: str
    depth: int | None = None
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 1:
            raise InvalidInputError(f"depth must be 1 or more, not {self.depth}")
        for path in self.paths:
            check_key(path)

    def __str__(self) -> str:
        parts = [f"of {self.origin!r}"]
        parts += [f"depth={self.depth}"] if self.depth is not None else []
        parts += [f"paths={list(self.paths)}"] if self.paths else []
        return ", ".join(parts)

    @property
    def is_everything(self) -> bool:
        """Whether everything is copied."""
        return self.depth is None and not self.paths


def write(documents: Documents, record: str, selection: PartialClone) -> None:
    """Record that a repository is a partial clone."""
    documents.put(record, [json.dumps(asdict(selection), sort_keys=True).encode()])


def read(documents: Documents | None, record: str = PARTIAL) -> PartialClone | None:
    """The partial clone that a record describes; None if there is no record."""
    if documents is None:
        return None
    try:
        text = bytes(documents.read(record))
    except FileNotFoundError:
        return None
    try:
        document = json.loads(text)
        return PartialClone(document["origin"], document["depth"], tuple(document["paths"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"{record} of {documents.url!r} is damaged: {error}; clone the repository again",
            where=record,
        ) from error


def packed_or_partial(
    storage: Storage, hash_function: HashFunction, open_other: OpenOther, *, verify: bool
) -> PackStore:
    """The blocks of a repository; those of a partial clone are completed from its origin."""
    origin = origin_of(storage, open_other)
    if origin is None:
        return PackStore(storage, hash_function, verify=verify)
    return LazyStore(storage, hash_function, verify=verify, origin=origin)


def origin_of(documents: Documents, open_other: OpenOther) -> BlockOrigin | None:
    """The origin of a partial clone; None if the repository is complete."""
    selection = read(documents)
    if selection is None:
        return None
    url = selection.origin
    return BlockOrigin(url, lambda: open_other(url).blocks)
