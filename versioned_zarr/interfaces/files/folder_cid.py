"""The CID of a plain folder, without a repository."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from versioned_zarr._hooks import shows_progress
from versioned_zarr.engine.progress import OnProgress, Steps
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction, hash_function, to_text
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder


class _Leaf(NamedTuple):
    cid: Cid
    tsize: int


class _Nodes(dict[Cid, bytes]):
    """The nodes of the tree that is being built, as a block source."""

    def get(self, cid: Cid) -> bytes:  # type: ignore[override]  # of a dict it is the index alone
        return self[cid]


@shows_progress("hashing")
def cid_of_folder(
    path: str | os.PathLike[str],
    hash_name: str = "sha2-256",
    *,
    progress: OnProgress | None = None,
) -> str:
    """Compute the CID that a snapshot with the files of a folder has, or the CID of a file.

    `ipfs add -r -Q --hidden --only-hash` with the profile unixfs-v1-2025 prints the same CID,
    unless the folder contains empty folders, which a snapshot omits. O(bytes); files are
    memory-mapped.

    Examples:
        >>> import tempfile, versioned_zarr as vz
        >>> repo = vz.create("memory://cid-of-folder")
        >>> with repo.session("main", message="A note") as session:
        ...     session.write("note", b"Ask before use.")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = repo.checkout("main").to_folder(f"{folder}/copy")
        ...     vz.cid_of_folder(f"{folder}/copy") == repo.checkout("main").cid
        True

    Args:
        path: the folder or file; symbolic links are followed.
        hash_name: "sha2-256" or "blake3".
        progress: called with the bytes of files done and in total, after each file.

    Raises:
        FileNotFoundError: the path does not exist.
        InvalidInputError: see `files_below`.
        InvalidKeyError: the name of a file is not a valid key.
    """
    function = hash_function(hash_name)
    root = Path(path)
    if root.is_file():
        return to_text(_leaf(root, function).cid)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {str(root)!r}")
    nodes = _Nodes()
    empty = unixfs.directory([])
    nodes[function.dag_pb(empty)] = empty
    tree: TreeBuilder[_Leaf] = TreeBuilder(Trees(nodes, function), function.dag_pb(empty))
    sizes = {key: state.st_size for key, state in files_below(root)}
    steps = Steps(sum(sizes.values()), progress)
    for key, size in sizes.items():
        tree.set(key, _leaf(root / key, function))
        steps.add(size)
    return to_text(tree.flush(lambda cid, block: None).cid)


def files_below(root: str | os.PathLike[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The files in a folder and below it, by relative path; symbolic links are followed.

    O(files), with one system call for each and two for each folder.

    Raises:
        InvalidInputError: a symbolic link leads to a folder that contains it, or an entry is
            neither a file nor a folder.
        OSError: a folder cannot be listed, or a symbolic link is broken.
    """
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [
        (os.fspath(root), "", frozenset())
    ]
    while waiting:
        folder, start, passed = waiting.pop()
        state = os.stat(folder)
        place = state.st_dev, state.st_ino
        if place in passed:
            raise InvalidInputError(
                f"{folder!r} leads back to a folder that contains it; remove that symbolic link"
            )
        passed |= {place}
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append((entry.path, f"{start}{entry.name}/", passed))
                    continue
                state = entry.stat()
                if not stat.S_ISREG(state.st_mode):
                    raise InvalidInputError(
                        f"{entry.path!r} is neither a file nor a folder; remove it"
                    )
                yield start + entry.name, state


def _leaf(file: Path, function: HashFunction) -> _Leaf:
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if size <= unixfs.LEAF_SIZE:
            found = unixfs.build_file(memoryview(opened.read()), function)
            return _Leaf(found.cid, found.tsize)
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            found = unixfs.build_file(view, function)
            leaf = _Leaf(found.cid, found.tsize)
            del found
            view.release()
            return leaf
