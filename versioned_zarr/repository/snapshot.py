"""A snapshot: the read-only view of a tree, or of one folder in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from versioned_zarr import _hooks
from versioned_zarr.blocks.file_reader import check_room, locate, read_stored
from versioned_zarr.blocks.protocol import BlockStore, ByteRange
from versioned_zarr.errors import InvalidKeyError, KeyNotFoundError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.cid import Cid, is_raw, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.citation import Citation
from versioned_zarr.repository.mapping import SnapshotMapping
from versioned_zarr.repository.missing_methods import MissingMethods
from versioned_zarr.tree.keys import check_key, check_text
from versioned_zarr.tree.lookup import Directory, Trees

if TYPE_CHECKING:
    import xarray
    import zarr
    from zarr.abc.store import Store


class OriginContext(Protocol):
    """The block store and tree reader of a snapshot."""

    @property
    def blocks(self) -> BlockStore:
        """The block store."""
        ...

    @property
    def trees(self) -> Trees:
        """Reads trees, with a cache."""
        ...


class SnapshotOrigin(Protocol):
    """The source of a snapshot: a repository, or an equivalent. Pickles."""

    @property
    def url(self) -> str:
        """Its URL."""
        ...

    @property
    def _stores(self) -> OriginContext:
        """The block store and tree reader."""
        ...


class FoundValue(Protocol):
    """The value of a key: its CID and the cumulative size of its blocks."""

    @property
    def cid(self) -> Cid:
        """The CID of the value."""
        ...

    @property
    def tsize(self) -> int:
        """The cumulative size of its blocks, in bytes."""
        ...


class Snapshot(MissingMethods, _hooks.HintsAtNames, _hooks.Shown, _hooks.ZarrStoreLike):
    """An immutable, read-only view of a tree. From `Repository.checkout` or `open_snapshot`.

    Two snapshots are equal if their trees are equal, whatever their source. A snapshot is pickled
    as the URL of its source and its CID.

    Attributes:
        repository: its source.
        commit: the commit that was checked out; None for a bare tree CID or a subtree.

    Example:
        >>> import versioned_zarr as vz
        >>> repo = vz.create("memory://snapshot-read")
        >>> with repo.session(message="Say hello") as session:
        ...     session.write("a/b", b"hello")
        >>> snapshot = repo.checkout("main")
        >>> list(snapshot.keys()), bytes(snapshot.read("a/b")), snapshot.commit.message
        (['a/b'], b'hello', 'Say hello')
        >>> snapshot.path("a").list_dir()
        ['b']
    """

    def __init__(self, repository: SnapshotOrigin, tree: Cid, commit: Commit | None = None) -> None:
        self.repository = repository
        self.commit = commit
        self._tree = tree
        self._stores = repository._stores
        self._directories: dict[str, Directory | None] = {}
        self._store: Store | None = None

    @property
    def cid(self) -> str:
        """The CID of the tree: what `ipfs add -r -Q --hidden --cid-version=1` prints for it."""
        return to_text(self._tree)

    def __repr__(self) -> str:
        return f"<Snapshot {self.cid} of {self.repository.url}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and other._tree == self._tree

    def __hash__(self) -> int:
        return hash(self._tree)

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self.repository, self._tree, self.commit)

    @property
    def read_only(self) -> bool:
        """Always true."""
        return True

    # Interfaces

    @property
    def store(self) -> Store:
        """The snapshot as a read-only zarr v3 store."""
        if self._store is None:
            self._store = _hooks.interfaces.zarr_store(self)
        return self._store

    @property
    def mapping(self) -> SnapshotMapping:
        """The snapshot as a Mapping from keys to bytes, for zarr v2 and other libraries."""
        return SnapshotMapping(self)

    def open(self, path: str = "", **options: Any) -> zarr.Group | zarr.Array[Any]:
        """Open the group or array at `path` with zarr, for reading.

        Args:
            path: a Zarr path; the root by default.
            options: passed to `zarr.open`; `mode` can only be "r".

        Raises:
            ReadOnlyError: `mode` is one that writes.
        """
        return _hooks.interfaces.open_node(self, path, **options)

    def __getitem__(self, path: str) -> zarr.Group | zarr.Array[Any]:
        if not self.list_dir(path.strip("/")):  # a TypeError or InvalidKeyError if it is no path
            raise KeyNotFoundError(f"no group or array at {path!r} in tree {self.cid}", key=path)
        return self.open(path)

    __iter__: ClassVar[None] = None
    """Not iterable, although it has items; `keys` iterates over keys."""

    def to_xarray(self, group: str | None = None, **options: Any) -> xarray.Dataset:
        """Open the group as an xarray Dataset.

        Args:
            group: the path of the group; the root by default.
            options: passed to `xarray.open_zarr`.

        Raises:
            MissingDependencyError: xarray is not installed.
            ReadOnlyError: `mode` is one that writes.
        """
        return _hooks.interfaces.to_xarray(self, group, **options)

    def to_datatree(self, group: str | None = None, **options: Any) -> xarray.DataTree:
        """Open the group and all groups below it as an xarray DataTree.

        Args:
            group: the path of the group; the root by default.
            options: passed to `xarray.open_datatree`.

        Raises:
            MissingDependencyError: xarray is not installed.
            ReadOnlyError: `mode` is one that writes.
        """
        return _hooks.interfaces.to_datatree(self, group, **options)

    def cite(self) -> Citation:
        """How to cite the snapshot: as a line, `.bibtex`, `.cff` or `.datacite`.

        The title and the creators come from the attributes of the root group, by the names of the
        Attribute Convention for Data Discovery; otherwise the author of the commit is credited.

        Example:
            >>> import versioned_zarr as vz
            >>> repo = vz.create("memory://cited")
            >>> with repo.session(message="first") as session:
            ...     session.write("zarr.json", b'{"attributes": {"title": "Sea ice"}}')
            >>> repo.checkout().cite().title
            'Sea ice'
        """
        return Citation.of(self, self.repository.url)

    def to_folder(self, path: str, **options: Any) -> _hooks.ExportCounts:
        """Export all values as the files of a plain Zarr folder.

        Args:
            path: the folder; created if it does not exist.
            options: `update=True` makes an earlier export equal to the snapshot: only files that
                differ are written, and files that it does not have are deleted; `crate=True` adds
                `ro-crate-metadata.json`; `workers`, the number of values written in parallel;
                `progress`, called as values are written; `max_keys` and `max_bytes`, limits on the
                size of the export.

        Returns:
            How many files were written, unchanged and deleted.
        """
        return _hooks.interfaces.to_folder(self, path, **options)

    def to_zip(self, path: str, **options: Any) -> None:
        """Export all values to an uncompressed zip file; equal snapshots give equal bytes.

        Args:
            path: the file; replaced if it exists.
            options: `crate`, `progress`, `max_keys` and `max_bytes`, as for `to_folder`.
        """
        _hooks.interfaces.to_zip(self, path, **options)

    # Values

    def _find(self, key: str) -> Link | None:
        """The link to the value of a key, or None; two dict lookups after the first time.

        Raises:
            InvalidKeyError: the key is not text; the same class in all lookups here.
        """
        check_text(key)
        folder, slash, name = key.rpartition("/")
        if slash and (not folder or folder[-1] == "/" or folder[0] == "/"):
            return None  # not a key, but a path that a lookup would normalize
        directory = self._directory(folder)
        link = None if directory is None else directory.get(name)
        if link is None or is_raw(link.cid):
            return link
        return None if self._stores.trees.is_directory(link) else link

    def _directory(self, path: str) -> Directory | None:
        try:
            return self._directories[path]
        except KeyError:
            trees = self._stores.trees
            link = trees.subtree(self._tree, path)
            found = None
            if link is not None and trees.is_directory(link):
                found = trees.directory(link.cid)
            self._directories[path] = found
            return found

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value, or a range of them, clamped like a slice.

        The result is read-only. A value of up to 1 MiB in a local pack is not copied.

        Raises:
            KeyNotFoundError: there is no value under this key.
            InvalidKeyError: the key is not text.
            CorruptBlockError: reads are verified, and the stored bytes do not match their CID.
        """
        link = self._find(key)
        if link is None:
            raise KeyNotFoundError(f"no value under {key!r} in tree {self.cid}", key=key)
        return self._read_found(link, start, end)

    def _read_found(self, found: FoundValue, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value that `_find` returned, or a range of them."""
        blocks = self._stores.blocks
        if blocks.is_remote and not is_raw(found.cid):
            low, high, _ = slice(start, end).indices(self._size_of(found))
            check_room(high - low)  # before any of it is fetched
        return read_stored(blocks, found.cid, start, end)

    def _size_of(self, found: FoundValue) -> int:
        """The size in bytes of a value that `_find` returned."""
        return self._stores.trees.size(Link("", found.cid, found.tsize))

    def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview | None:
        """Like `read`, but returns None for a missing key."""
        link = self._find(key)
        return None if link is None else self._read_found(link, start, end)

    def size(self, key: str) -> int | None:
        """The size of a value in bytes, without reading it; None if the key is missing."""
        link = self._find(key)
        return None if link is None else self._stores.trees.size(link)

    def place(self, key: str) -> ByteRange | None:
        """The location of the bytes of a value, for programs that read files or objects by ranges.

        It is valid until the next `gc` or `repack`.

        Returns:
            The URL of a pack, the offset of the first byte and the number of bytes; None if the
            value is not one range of one pack: on a node or a lakeFS server, and if it shares
            leaves with other values; `repack` makes current values one range.

        Raises:
            KeyNotFoundError: there is no value under this key.

        Example:
            >>> import versioned_zarr as vz
            >>> repo = vz.create("memory://places")
            >>> with repo.session(message="a value") as session:
            ...     session.write("a", b"12345")
            >>> url, offset, size = repo.checkout().place("a")
            >>> size
            5
        """
        link = self._find(key)
        if link is None:
            raise KeyNotFoundError(f"no value under {key!r} in tree {self.cid}", key=key)
        return locate(self._stores.blocks, link.cid)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys in a folder and below it, sorted within each folder. Lazy."""
        return (key for key, _ in self._links(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Iterate over the keys in a folder and below it, with the sizes of their values. Lazy."""
        return ((key, self._stores.trees.size(link)) for key, link in self._links(prefix))

    def _links(self, prefix: str = "") -> Iterator[tuple[str, Link]]:
        """The keys in a folder and below it with the links to their values. Lazy."""
        check_text(prefix)
        return self._stores.trees.walk(self._tree, prefix)

    def list_dir(self, path: str = "") -> list[str]:
        """The names directly in a folder, sorted."""
        check_text(path)
        return self._stores.trees.list_dir(self._tree, path)

    def is_empty(self, path: str = "") -> bool:
        """Whether a folder contains no values."""
        return not self.list_dir(path)

    def path(self, key: str) -> Snapshot:
        """The snapshot of the folder at `key`, with its own CID.

        Raises:
            InvalidKeyError: the name is not valid for a folder, or a value is there.
            KeyNotFoundError: nothing is there.
        """
        check_text(key)
        key = key.strip("/")
        if key == "":
            return self
        check_key(key)
        link = self._stores.trees.subtree(self._tree, key)
        if link is None:
            raise KeyNotFoundError(f"nothing at {key!r} in tree {self.cid}", key=key)
        if not self._stores.trees.is_directory(link):
            raise InvalidKeyError(f"{key!r} is a value, not a folder; use snapshot.read", key=key)
        return Snapshot(self.repository, link.cid)
