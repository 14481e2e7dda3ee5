"""The lakeFS folder: the location of a repository's keys in a lakeFS repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from versioned_zarr.backends.lakefs.api.client import LakefsClient
from versioned_zarr.backends.lakefs.api.objects import Stat
from versioned_zarr.backends.lakefs.api.thread_pool import ThreadPool
from versioned_zarr.backends.lakefs.trees.metadata_cache import MetadataCache
from versioned_zarr.ipld.cid import HashFunction

_LISTED_FROM = 16
"""From this many paths in one folder on, a listing costs less than separate requests."""


@dataclass(frozen=True)
class LakefsFolder:
    """A folder of a lakeFS repository, with its metadata cache.

    Attributes:
        client: the lakeFS repository.
        prefix: the path of the folder, ending in "/"; empty for the whole repository.
        metadata_cache: the cache of what is known about the repository.
        hash: the hash function of the CIDs.
        workers: threads for requests.
    """

    client: LakefsClient
    prefix: str
    metadata_cache: MetadataCache
    hash: HashFunction
    workers: ThreadPool

    def path(self, key: str) -> str:
        """The path of a key's object in the lakeFS repository."""
        return self.prefix + key

    def stats(self, ref: str, paths: Iterable[str]) -> Iterator[tuple[str, Stat | None]]:
        """The objects at paths; one request each, but many paths in one folder are listed."""
        folders: dict[str, list[str]] = {}
        for path in paths:
            folders.setdefault(path.rpartition("/")[0], []).append(path)
        single = [path for some in folders.values() if len(some) < _LISTED_FROM for path in some]
        stats = self.workers.stream(lambda path: self.client.stat(ref, path), single)
        yield from zip(single, stats, strict=True)
        for folder, some in folders.items():
            if len(some) >= _LISTED_FROM:
                found = self._listed(ref, folder, frozenset(some))
                yield from ((path, found.get(path)) for path in some)

    def _listed(self, ref: str, folder: str, wanted: frozenset[str]) -> dict[str, Stat]:
        """The objects at paths of one folder."""
        found: dict[str, Stat] = {}
        last = max(wanted)
        for stat in self.client.list(ref, f"{folder}/" if folder else ""):
            if stat.path in wanted:
                found[stat.path] = stat
            if stat.path >= last:
                break
        return found

    def key(self, path: str) -> str:
        """The key of an object."""
        return path[len(self.prefix) :]
