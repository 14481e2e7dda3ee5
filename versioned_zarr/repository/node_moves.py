"""Node moves: removes and renames arrays, groups and keys in a session.

Copies of their metadata in groups above them (consolidated metadata) follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

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
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.errors import AlreadyExistsError, InvalidInputError, KeyNotFoundError
from versioned_zarr.repository.session import Session


def remove_paths(session: Session, paths: Sequence[str]) -> None:
    """Remove keys, and everything in folders.

    Raises:
        KeyNotFoundError: nothing is at one of the paths; then nothing is removed.
        InvalidInputError: one of them is the root.
    """
    keys = {path: _keys_at(session, path) for path in (each.strip("/") for each in paths)}
    before = _documents_above(session, keys)
    for path, found in keys.items():
        if found == [path]:
            session.delete(path)
        else:
            session.clear(path)
    nodes = _nodes_of(key for found in keys.values() for key in found)
    states = (before.get, before.get, before.get)
    _write(session, consolidated.refreshed(nodes, partial(_document, session), *states))


def move_path(session: Session, old: str, new: str, progress: OnProgress | None = None) -> str:
    """Move a key or a folder, copying its values.

    Args:
        session: the session.
        old: where it is.
        new: where it goes; if a group is there, into this group under its own name.
        progress: called after each value.

    Returns:
        Where it is now.

    Raises:
        KeyNotFoundError: nothing is at `old`.
        AlreadyExistsError: something other than a group is at `new`.
        InvalidInputError: `old` is the root or contains `new`, or no group would contain the node.
    """
    old, new = old.strip("/"), new.strip("/")
    sizes = {key: session.size(key) or 0 for key in _keys_at(session, old)}
    new = _target(session, old, new)
    before = _documents_above(session, (old, new))
    done, total = 0, sum(sizes.values())
    for number, (key, size) in enumerate(sizes.items(), 1):
        session.write(f"{new}{key[len(old) :]}", session.read(key))
        done += size
        if progress is not None:
            progress(Progress("keys", number, len(sizes), done, total))
    if list(sizes) == [old]:
        session.delete(old)
    else:
        session.clear(old)
    gone = _nodes_of(sizes)
    come = {f"{new}{path[len(old) :]}" for path in gone if path == old or _is_below(path, old)}
    listed = consolidated.listing(come, before.get)
    states = (before.get, before.get, listed)
    _write(session, consolidated.refreshed(gone | come, partial(_document, session), *states))
    return new


def _target(session: Session, old: str, new: str) -> str:
    """The path that a move gives; see `move_path`."""
    read = partial(_bytes, session)
    there = node_at(new, read)
    if there is not None and not there.is_array:
        new = join(new, split(old)[1])
    if new == old or _is_below(new, old):
        raise InvalidInputError(f"{old!r} cannot be moved to {new!r}, which it contains")
    if session.size(new) is not None or not session.is_empty(new):
        raise AlreadyExistsError(f"{new!r} exists already", name=new)
    if node_at(old, read) is None:
        return new
    folder = split(new)[0]
    above = ZarrNodes(read).array_above(new)
    if above is not None:
        raise InvalidInputError(f"{new!r} would lie in the array {above.path!r}")
    if folder and node_at(folder, read) is None:
        raise InvalidInputError(f"{folder!r} is no group, so zarr would not find {new!r}")
    return new


def _keys_at(session: Session, path: str) -> list[str]:
    if not path:
        raise InvalidInputError("the root can be neither removed nor moved; name what is in it")
    found = [path] if session.size(path) is not None else list(session.keys(path))
    if not found:
        raise KeyNotFoundError(f"nothing at {path!r} on branch {session.branch!r}", key=path)
    return found


def _is_below(path: str, above: str) -> bool:
    return path.startswith(f"{above}/")


def _nodes_of(keys: Iterable[str]) -> set[str]:
    """The paths of the nodes whose documents are among these keys."""
    return {path for path, name in map(split, keys) if name in (*NODE_DOCUMENTS, ".zattrs")}


def _documents_above(session: Session, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The documents of all groups above these paths, by key."""
    found = {}
    for path in paths:
        folder = path
        while folder:
            folder = split(folder)[0]
            for name in DOCUMENTS:
                document = _document(session, join(folder, name))
                if document is not None:
                    found[join(folder, name)] = document
    return found


def _bytes(session: Session, key: str) -> bytes | None:
    value = session.get(key)
    return None if value is None else bytes(value)


def _document(session: Session, key: str) -> dict[str, Any] | None:
    return parse(_bytes(session, key))


def _write(session: Session, documents: Iterable[tuple[str, dict[str, Any]]]) -> None:
    for key, document in list(documents):
        session.write(key, dump(document))
