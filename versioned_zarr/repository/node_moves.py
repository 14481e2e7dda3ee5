"""Node moves: removes, moves, copies and restores arrays, groups and keys in a session.

Values are linked at their new place by their CIDs, and not read. Copies of nodes' metadata in
groups above them (consolidated metadata) follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.json_values import dump
from versioned_zarr.engine.hierarchy.merge import consolidated
from versioned_zarr.engine.hierarchy.zarr_nodes import (
    DOCUMENTS,
    NODE_DOCUMENTS,
    ZarrNodes,
    join,
    node_at,
    parse,
    split,
)
from versioned_zarr.engine.revisions import resolve
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.protocol import Known, SessionState
from versioned_zarr.errors import AlreadyExistsError, InvalidInputError, KeyNotFoundError
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.keys import check_key, check_text


class NodeSession(Protocol):
    """What moving needs of a session; `versioned_zarr.repository.session.Session` has it."""

    _working: SessionState
    _known: Known | None

    @property
    def repository(self) -> NodeOrigin: ...
    @property
    def id(self) -> str: ...
    @property
    def branch(self) -> str: ...
    @property
    def base(self) -> Commit: ...

    def _find(self, key: str) -> PendingWrite | Link | None: ...
    def _read_found(self, found: PendingWrite | Link) -> memoryview: ...
    def _read_document(self, key: str) -> bytes | None: ...
    def size(self, key: str) -> int | None: ...
    def keys(self, prefix: str = "") -> Iterator[str]: ...
    def list_dir(self, path: str = "") -> list[str]: ...
    def is_empty(self, path: str = "") -> bool: ...
    def write(self, key: str, value: bytes | bytearray | memoryview) -> None: ...
    def delete(self, key: str) -> bool: ...
    def clear(self, path: str = "") -> None: ...


class NodeOrigin(Protocol):
    """The repository of a session."""

    _stores: RepositoryContext


def remove_paths(session: NodeSession, paths: Sequence[str]) -> None:
    """Remove keys, and everything in folders.

    Raises:
        KeyNotFoundError: nothing is at one of the paths; then nothing is removed.
        InvalidInputError: one of them is the root.
    """
    for path in paths:
        check_text(path)
    wanted = [path.strip("/") for path in paths]
    for path in wanted:
        _check_there(session, path)
    with _copies_kept(session, wanted):
        for path in wanted:
            if session._find(path) is not None:
                session.delete(path)
            else:
                session.clear(path)


def move_path(session: NodeSession, old: str, new: str) -> str:
    """See `NodeMethods.move`."""
    known = session._working.position()
    old, new = _checked(session, old, new)
    with _copies_kept(session, (old, new), listed=new):
        if relink(session, old, new, known):
            session._working.delete(old, known)
        else:
            session._working.clear(old, known)
    return new


def copy_path(session: NodeSession, old: str, new: str) -> str:
    """See `NodeMethods.copy`."""
    known = session._working.position()
    old, new = _checked(session, old, new)
    with _copies_kept(session, (new,), listed=new):
        relink(session, old, new, known)
    return new


def restore_path(session: NodeSession, path: str, ref: str) -> None:
    """See `NodeMethods.restore`."""
    check_text(path)
    path = path.strip("/")
    stores, known = session.repository._stores, session._working.position()
    version = resolve(stores, ref)
    found = stores.trees.subtree(version.tree, path)
    if found is None:
        raise KeyNotFoundError(f"nothing at {path!r} in {ref!r}; check the path and ref", key=path)
    read = partial(_stored_bytes, session, version.tree)
    if node_at(path, read) is not None:
        _check_folder(session, path)
    commit = None if version.commit is None else version.commit.cid
    with _copies_kept(session, (path,), listed=path):
        if commit is not None and walk.is_ancestor(commit, session.base.cid, stores.commit):
            _make_way(session, path, known, is_folder=stores.trees.is_directory(found))
            session._working.link(path, found, known)
        else:  # nothing keeps its blocks if a branch is deleted meanwhile
            _write_again(session, path, found, known)


def relink(session: NodeSession, old: str, new: str, known: Known) -> bool:
    """Let `new`, where nothing is, hold what is at `old`. O(depth + uncommitted changes there).

    Values that the session wrote are written again, which stores equal bytes once.

    Args:
        session: the session.
        old: where it is.
        new: where it goes.
        known: the writes of other processes that were known when the caller looked at both: what
            they write meanwhile conflicts, and is not lost.

    Returns:
        Whether it is a value, not a folder.
    """
    working = session._working
    value = session._find(old)
    if isinstance(value, Link):
        working.link(new, value, known)
        return True
    if value is not None:
        working.write(new, session._read_found(value), known)
        return True
    directory, differing = working.linked(old)
    if directory is not None:
        working.link(new, directory, known)
    for key, now in differing:
        if now is None:
            working.delete(join(new, key), known)
    for key, now in differing:
        if isinstance(now, Link):
            working.link(join(new, key), now, known)
        elif now is not None:
            working.write(join(new, key), session._read_found(now), known)
    return False


def _make_way(session: NodeSession, path: str, known: Known, *, is_folder: bool) -> None:
    """Remove a value where a folder is to be, or a folder where a value is to be."""
    if is_folder and path:
        session._working.delete(path, known)
    elif not is_folder:
        session._working.clear(path, known)


def _write_again(session: NodeSession, path: str, found: Link, known: Known) -> None:
    """Write the values of a version that the session does not keep, and delete all others."""
    stores, working = session.repository._stores, session._working
    values = dict(working.values_at(path, found))
    _make_way(session, path, known, is_folder=path not in values)
    for key in [key for key in session.keys(path) if key not in values]:
        working.delete(key, known)
    for key, link in values.items():
        there = session._find(key)
        if there is None or there.cid != link.cid:
            working.write(key, stores.read_link(link), known)


def _checked(session: NodeSession, old: str, new: str) -> tuple[str, str]:
    """Both paths, of which the new one is free; if a group is at `new`, the path in it.

    Raises:
        KeyNotFoundError: nothing is at `old`.
        AlreadyExistsError: something other than a group is at `new`.
        InvalidInputError: `old` is the root or contains `new`, or no group would contain the node.
    """
    check_text(old)
    check_text(new)
    old, new = old.strip("/"), new.strip("/")
    _check_there(session, old)
    if new:
        check_key(new)
    read = session._read_document
    there = node_at(new, read)
    if there is not None and not there.is_array:
        new = join(new, split(old)[1])
    if new == old or f"{new}/".startswith(f"{old}/"):
        raise InvalidInputError(f"{old!r} cannot be put at {new!r}, which it contains")
    if session.size(new) is not None or not session.is_empty(new):
        raise AlreadyExistsError(f"{new or '/'!r} exists already", name=new)
    if node_at(old, read) is not None:
        _check_folder(session, new)
    return old, new


def _check_folder(session: NodeSession, path: str) -> None:
    """Make sure that zarr would find a node at a path.

    Raises:
        InvalidInputError: it is in an array or in no group, or has the name of a document.
    """
    read = session._read_document
    above = ZarrNodes(read).array_above(path)
    if above is not None:
        raise InvalidInputError(f"{path!r} would lie in the array {above.path!r}")
    folder, name = split(path)
    if name in DOCUMENTS:
        raise InvalidInputError(f"{path!r} is the name of a document of Zarr, not of a node")
    if folder and node_at(folder, read) is None:
        raise InvalidInputError(f"{folder!r} is no group, so zarr would not find {path!r}")


def _check_there(session: NodeSession, path: str) -> None:
    if not path:
        raise InvalidInputError(
            "the root can be neither removed, moved nor copied; name what is in it"
        )
    if session.size(path) is None and session.is_empty(path):
        raise KeyNotFoundError(f"nothing at {path!r} on branch {session.branch!r}", key=path)


@contextmanager
def _copies_kept(
    session: NodeSession, paths: Sequence[str], *, listed: str | None = None
) -> Iterator[None]:
    """Update, after a change, the copies of metadata that groups above these paths have.

    Args:
        session: the session.
        paths: what changes.
        listed: the path whose nodes get copies even if they had none.
    """
    before = _documents_above(session, paths)
    if not any(consolidated.has_copies(split(key)[1], it) for key, it in before.items()):
        yield
        return
    nodes = _nodes_below(session, paths)
    yield
    come = set() if listed is None else _nodes_below(session, [listed])
    states = (before.get, before.get, consolidated.listing(come, before.get))
    found = consolidated.refreshed(nodes | come, partial(_document, session), *states)
    for key, document in list(found):
        session.write(key, dump(document))


def _nodes_below(session: NodeSession, paths: Iterable[str]) -> set[str]:
    """The paths of the nodes at and below some paths. O(keys)."""
    keys = (split(key) for path in paths for key in (path, *session.keys(path)))
    return {path for path, name in keys if name in (*NODE_DOCUMENTS, ".zattrs")}


def _documents_above(session: NodeSession, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The documents of all groups above these paths, by key; for the root, its own."""
    folders = {""}
    for path in paths:
        while path := split(path)[0]:
            folders.add(path)
    keys = (join(folder, name) for folder in folders for name in DOCUMENTS)
    read = ((key, _document(session, key)) for key in keys)
    return {key: document for key, document in read if document is not None}


def _stored_bytes(session: NodeSession, tree: Cid, key: str) -> bytes | None:
    stores = session.repository._stores
    link = stores.trees.find(tree, key)
    return None if link is None else stores.read_link(link)


def _document(session: NodeSession, key: str) -> dict[str, Any] | None:
    return parse(session._read_document(key))
