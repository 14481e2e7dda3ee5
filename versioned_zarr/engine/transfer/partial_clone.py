"""A partial clone: which commits and paths it holds; it fetches the rest on first read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.remote.lazy_origin import BlockOrigin
from versioned_zarr.blocks.remote.lazy_store import LazyStore
from versioned_zarr.engine.remotes import open_stores
from versioned_zarr.engine.transfer.missing_objects import Get, MissingBlock, MissingObjects
from versioned_zarr.errors import CorruptError, InvalidInputError, KeyNotFoundError
from versioned_zarr.history.walk import Reader
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Documents, Storage
from versioned_zarr.tree.dag import ResolvedPath, resolve
from versioned_zarr.tree.keys import check_key

PARTIAL = "partial.json"
_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")


@dataclass(frozen=True)
class PartialClone:
    """What is copied at once of each commit that is fetched.

    Attributes:
        origin: the URL of the repository that has the rest.
        depth: how many commits of each branch, counted from its end; None for all.
        paths: the groups, arrays or keys, with the metadata documents on the way to them; none
            for everything.

    Raises:
        InvalidInputError: the depth is less than 1, or `paths` is a single text.
        InvalidKeyError: a path can be no key.
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
        """Whether nothing is left out."""
        return self.depth is None and not self.paths


def write(documents: Documents, record: str, selection: PartialClone) -> None:
    """Note what a repository is a copy of."""
    documents.put(record, [json.dumps(asdict(selection), sort_keys=True).encode()])


def read(documents: Documents | None, record: str = PARTIAL) -> PartialClone | None:
    """What a repository is a copy of, as a record says; None if there is no such record."""
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
            f"{record} of {documents.url!r} is damaged: {error}; clone the repository anew",
            where=record,
        ) from error


def packed_or_partial(storage: Storage, hash_function: HashFunction, *, verify: bool) -> PackStore:
    """The blocks of a repository, completed from elsewhere if it is a partial copy."""
    origin = origin_of(storage)
    if origin is None:
        return PackStore(storage, hash_function, verify=verify)
    return LazyStore(storage, hash_function, verify=verify, origin=origin)


def origin_of(documents: Documents) -> BlockOrigin | None:
    """Where the rest of a partial copy is; None if the repository holds all that it names."""
    selection = read(documents)
    if selection is None:
        return None
    url = selection.origin
    return BlockOrigin(url, lambda: open_stores(url).blocks)


def newest(starts: Sequence[str], known: Sequence[str], depth: int, read: Reader) -> list[str]:
    """The commits at most `depth` steps back from the starts, those known left out."""
    found: dict[str, float] = {}
    level = [cid for cid in starts if cid not in known]
    for _ in range(depth):
        following: list[str] = []
        for cid in level:
            if cid not in found:
                commit = read(cid)
                found[cid] = commit.time.timestamp()
                following += [parent for parent in commit.parents if parent not in known]
        level = following
    return sorted(found, key=lambda cid: -found[cid])


def blocks_of_paths(
    novelty: MissingObjects, tree: Cid, older: Sequence[Cid], paths: Sequence[str]
) -> Iterator[MissingBlock]:
    """The new blocks of some paths in a tree, of the way there, and of the documents beside it."""
    yield from _block(novelty, tree)
    for path in paths:
        parts = path.split("/")
        way = _resolve(novelty.get, tree, parts)
        if way is None:
            continue
        for cid in way.blocks:
            yield from _block(novelty, cid)
        before = [there.end for old in older if (there := _resolve(novelty.get, old, parts))]
        yield from novelty.blocks(way.end, before)
        for folder in way.roots[:-1]:
            for name in _DOCUMENTS:
                document = _resolve(novelty.get, folder, [name])
                if document is not None:
                    for cid in document.blocks:
                        yield from _block(novelty, cid)
                    yield from novelty.blocks(document.end)


def has_path(get: Get, tree: Cid, path: str) -> bool:
    """Whether anything lies at a path."""
    return _resolve(get, tree, path.split("/")) is not None


def _block(novelty: MissingObjects, cid: Cid) -> Iterator[MissingBlock]:
    block = novelty.get(cid)
    yield MissingBlock(cid, block, len(block), is_value=False)


def _resolve(get: Get, root: Cid, parts: Sequence[str]) -> ResolvedPath | None:
    try:
        return resolve(get, root, parts)
    except KeyNotFoundError:
        return None
