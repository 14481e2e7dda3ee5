"""The lakeFS backend: a repository at `lakefs://REPO[/PREFIX]`.

Any lakeFS repository can be opened. The metadata cache and recently read values are in a folder
under $VERSIONED_ZARR_HOME, which can be deleted at any time.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

from versioned_zarr.backends.lakefs.api.client import LakefsClient
from versioned_zarr.backends.lakefs.api.credentials import TIMEOUT_S, connection
from versioned_zarr.backends.lakefs.api.thread_pool import ThreadPool
from versioned_zarr.backends.lakefs.commits.commit_mapping import CommitMapping
from versioned_zarr.backends.lakefs.commits.commit_writer import CommitWriter
from versioned_zarr.backends.lakefs.commits.lakefs_refs import LakefsRefs
from versioned_zarr.backends.lakefs.lakefs_context import LakefsContext
from versioned_zarr.backends.lakefs.lakefs_folder import LakefsFolder
from versioned_zarr.backends.lakefs.sessions.lakefs_session_store import LakefsSessionStore
from versioned_zarr.backends.lakefs.trees.lakefs_blocks import LakefsBlocks, outgoing_folder
from versioned_zarr.backends.lakefs.trees.metadata_cache import MetadataCache
from versioned_zarr.backends.lakefs.trees.tree_reader import TreeReader
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.local.state_dir import home
from versioned_zarr.blocks.cache.block_cache import LIMIT_BYTES, BlockCache
from versioned_zarr.engine.backend import Verify
from versioned_zarr.engine.context import OpenOther, RepositoryContext
from versioned_zarr.engine.marker import encode_marker
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.errors import AlreadyExistsError, InvalidInputError, InvalidUrlError
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import HashFunction
from versioned_zarr.storage.protocol import Storage
from versioned_zarr.tree.lookup import Trees

_HASH = "sha2-256"
_UPKEEP = (
    "lakeFS manages its own objects: its garbage collection removes what no commit names, "
    "and every value that is read here is verified against its CID"
)


class LakefsBackend:
    """A location on a lakeFS server; see `versioned_zarr.engine.backend.Backend`.

    Args:
        url: `lakefs://REPO`, or `lakefs://REPO/PREFIX` for a folder of it.
        endpoint: see `versioned_zarr.engine.open_options.Options`, also for the others.
        access_key_id: see there.
        secret_access_key: see there.
        storage_namespace: see there.
        progress: see there.
        cache_bytes: see there.
        timeout_s: see there.

    Raises:
        InvalidUrlError: the URL does not have that form.
        CredentialsError: no server or no credentials are configured.
    """

    has_history = True

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        storage_namespace: str | None = None,
        progress: OnProgress | None = None,
        cache_bytes: int = LIMIT_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        parts = urlsplit(url)
        prefix = unquote(parts.path).strip("/")
        if not parts.netloc or parts.query or parts.fragment or "//" in prefix:
            raise InvalidUrlError(
                f"{url!r} must have the form lakefs://REPO or lakefs://REPO/PREFIX, such as lakefs://climate",
                url=url,
            )
        self._prefix = f"{prefix}/" if prefix else ""
        reached = connection(endpoint, access_key_id, secret_access_key, timeout_s)
        self.client = LakefsClient(reached, parts.netloc)
        self.url = f"lakefs://{parts.netloc}/{_encoded(prefix)}".rstrip("/")
        self._namespace, self._cache_bytes = storage_namespace, cache_bytes
        self._progress = progress
        server = quote(reached.endpoint, safe="")
        self._folder = home() / "lakefs" / server / parts.netloc / quote(f"@{prefix}", safe="")
        self.storage: Storage = LocalStorage(self._folder, url=self.url)

    def check_free(self) -> None:
        """See `Backend.check_free`: an existing repository can be used if the prefix is empty."""
        if not self.client.exists():
            return
        _, head = next(self.client.branches())
        for stat in self.client.list(head, self._prefix):
            raise AlreadyExistsError(
                f"{self.url!r} already contains {stat.path!r}; open it with vz.open, or choose "
                "another prefix",
                name=self.url,
            )

    def read_marker(self) -> bytes:
        """See `Backend.read_marker`: any lakeFS repository can be opened."""
        if not self.client.exists():
            raise FileNotFoundError(self.url)
        return encode_marker(_HASH)

    def write_marker(self, marker: bytes) -> None:
        """See `Backend.write_marker`: creates the lakeFS repository, if it does not exist."""
        if marker != encode_marker(_HASH):
            raise InvalidInputError(
                f"a repository on lakeFS must use the hash {_HASH!r}: it has no marker that could "
                "name another hash"
            )
        if self.client.exists():
            return
        namespace = self._namespace or self.client.default_namespace()
        if namespace is None:
            raise InvalidInputError(
                f"{self.url!r} does not exist on {self.client.endpoint}; to create it, tell "
                "lakeFS where to store it: storage_namespace='s3://bucket/path'"
            )
        self.client.create_repository(namespace)

    def stores(
        self, hash_function: HashFunction, verify: Verify, open_other: OpenOther
    ) -> RepositoryContext:
        """See `Backend.stores`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        metadata_cache = MetadataCache(self._folder / "knowledge.sqlite")
        empty = unixfs.EMPTY_DIRECTORY
        metadata_cache.add_nodes([(hash_function.dag_pb(empty), empty)])
        lakefs_folder = LakefsFolder(
            self.client, self._prefix, metadata_cache, hash_function, ThreadPool()
        )
        values = LocalStorage(self._folder / "values", url=self.url)
        outgoing = LocalStorage(self._folder / outgoing_folder(), url=self.url)
        cache = BlockCache(
            values, hash_function, limit_bytes=self._cache_bytes, verify=verify == "always"
        )
        tree_reader = TreeReader(lakefs_folder, self._progress)
        commits = CommitMapping(lakefs_folder, tree_reader.tree_of)
        blocks = LakefsBlocks(lakefs_folder, cache, outgoing, tree_reader, commits)
        trees = tree_reader.trees = Trees(blocks, hash_function)
        parts = LakefsContext(lakefs_folder, tree_reader, commits, blocks, trees)
        commit_writer = CommitWriter(parts)
        refs = LakefsRefs(self.client, commits, commit_writer, self.storage)
        session_store = LakefsSessionStore(parts, commit_writer)
        return RepositoryContext(
            self.storage,
            blocks,
            refs,
            trees,
            self.read_marker,
            open_other,
            session_store=session_store,
            others=commits,
            upkeep=_UPKEEP,
        )


def _encoded(prefix: str) -> str:
    """A prefix in a URL: characters with another meaning there are percent-encoded."""
    return re.sub(r"[%?#\s\x00-\x1f\x7f]", lambda found: quote(found.group()), prefix)
