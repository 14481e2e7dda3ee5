"""Bulk paths: the target of each file of a bulk copy, by fsspec's rules.

See fsspec's guide "Copying files and directories". fsspec's own helpers treat the first part of a
path without slashes as the common parent folder, and remove it.
"""

from __future__ import annotations

from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem, make_path_posix, trailing_sep
from fsspec.utils import other_paths, stringify_path

from versioned_zarr.engine.hierarchy.zarr_nodes import join, split


def pairs(
    files: AbstractFileSystem,
    source: Any,
    target: Any,
    *,
    recursive: bool,
    maxdepth: int | None,
    is_local: bool = False,
) -> list[tuple[str, str]]:
    """Each source path with its target path, including folders.

    Args:
        files: the file system of the sources.
        source: a path, a pattern or a list of them.
        target: a path, or a list with one path for each source.
        recursive: whether to copy the content of folders.
        maxdepth: the maximum depth; None for no limit.
        is_local: whether the targets are on this machine; otherwise on the same file system.

    Raises:
        FileNotFoundError: a source does not exist.
    """
    source, target = stringify_path(source), stringify_path(target)
    if not isinstance(source, str) and not isinstance(target, str):
        given = files._strip_protocol(source)
        return list(zip(given, _stripped(files, target, is_local), strict=True))
    is_one = isinstance(source, str)
    found = files.expand_path(source, recursive=recursive, maxdepth=maxdepth)
    if is_one and (not recursive or maxdepth is not None):
        found = [path for path in found if not files.isdir(path)]
    if not found:
        return []
    is_folder = trailing_sep(target) or (
        LocalFileSystem().isdir(target) if is_local else files.isdir(target)
    )
    is_into = False
    if is_one:
        key = files._strip_protocol(source)
        if has_magic(key) and not files.exists(key):
            is_into = len(found) == 1
        else:
            is_into = is_folder and not trailing_sep(source)
    (below,) = _stripped(files, [target], is_local)
    places = other_paths([f"/{path}" for path in found], below, exists=is_into, flatten=not is_one)
    return list(zip(found, _stripped(files, places, is_local), strict=True))


def whole_folder(files: AbstractFileSystem, source: Any, target: Any) -> tuple[str, str] | None:
    """A folder and the path, where nothing is, that it gets as a whole; None for other sources.

    Args:
        files: the file system.
        source: a path, a pattern or a list of them.
        target: a path, or a list with one path for each source.
    """
    source, target = stringify_path(source), stringify_path(target)
    if not (isinstance(source, str) and isinstance(target, str)):
        return None
    old, new = _stripped(files, [source, target], is_local=False)
    if not old or has_magic(old) or not files.isdir(old):
        return None
    if (trailing_sep(target) or files.isdir(new)) and not trailing_sep(source):
        new = join(new, split(old)[1])
    is_free = bool(new) and not files.exists(new) and not f"{new}/".startswith(f"{old}/")
    return (old, new) if is_free else None


def _stripped(files: AbstractFileSystem, paths: Any, is_local: bool) -> list[str]:
    if is_local:
        return [make_path_posix(path) for path in paths]
    return [files._strip_protocol(path) for path in paths]
