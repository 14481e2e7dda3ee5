"""Zarr import: commits a folder or a URL without decoding chunks."""

from __future__ import annotations

import os
from typing import Any

from versioned_zarr._hooks import shows_progress
from versioned_zarr.engine.hierarchy.zarr_nodes import join
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.errors import NothingToCommitError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.files.import_session import session_for, warn_if_large
from versioned_zarr.interfaces.files.parallel_copy import WORKERS, run_all
from versioned_zarr.interfaces.files.shared_copy import TaskExecutor, copy_shared
from versioned_zarr.interfaces.files.sources import open_source
from versioned_zarr.repository.repository import Repository
from versioned_zarr.tree.keys import check_text


@shows_progress("importing")
def import_zarr(
    repository: Repository,
    source: str | os.PathLike[str],
    *,
    into: str = "main",
    path: str = "",
    message: str | None = None,
    overwrite: bool = False,
    workers: int = WORKERS,
    executor: TaskExecutor | None = None,
    storage_options: dict[str, Any] | None = None,
    progress: OnProgress | None = None,
) -> Commit:
    """Import a plain Zarr hierarchy, key by key, and commit it.

    At most `workers` values are in memory at a time, in each process. If an import is interrupted
    or its process dies, call it again with the same source, branch and path to resume, unless other
    data has been written to `path` since. Copied values are copied again if a file of the source
    has changed, or if the source cannot tell (for example, a web server).

    Examples:
        >>> import tempfile, zarr, versioned_zarr as vz
        >>> repo = vz.create("memory://import-zarr")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = zarr.create_array(f"{folder}/old.zarr", shape=(4,), dtype="i4")
        ...     commit = vz.import_zarr(repo, f"{folder}/old.zarr", message="As it was")
        >>> commit.message
        'As it was'
        >>> repo.checkout("main").list_dir()
        ['zarr.json']

    Args:
        repository: the repository to import into.
        source: a folder, a zip file, or a URL that fsspec supports, with Zarr v2 or v3. In a zip
            file, the hierarchy may lie in a folder, such as `old.zarr`.
        into: the branch to commit to.
        path: the group to import into; the root by default.
        message: the commit message; by default, it names the source.
        overwrite: replace existing data at `path`.
        workers: the number of values copied in parallel; always one for an archive (zip, tar),
            which fsspec reads through a single file.
        executor: copies in other processes, which write into the same session: a
            `ProcessPoolExecutor` or a Dask `Client`; each task copies `workers` values in parallel.
            Its workers reach the source and the repository by the same names as this process.
        storage_options: passed to fsspec.
        progress: called from the calling thread as the source is listed, with the number of keys
            found as the total, and then as values arrive; with an executor, as tasks end.

    Raises:
        InvalidInputError: there is no Zarr hierarchy at `source`.
        AlreadyExistsError: `path` is not empty, and `overwrite` is false.
        NothingToCommitError: `path` already holds the same data.
        NotFoundError: a file named by the URL of the source does not exist.
        StorageError: the source cannot be read; the session is kept and can be resumed.
    """
    check_text(path)
    found = open_source(source, storage_options or {}, progress)
    total = sum(found.sizes.values())
    warn_if_large(total, f"{len(found.sizes)} keys", found.name)
    path = path.strip("/")
    purpose = f"import {found.full_name} into /{path} as of "
    session = session_for(repository, purpose, found.state, into, path, overwrite=overwrite)
    with session:
        held = dict(session.sizes(path))
        sizes = {join(path, name): size for name, size in found.sizes.items()}
        names = {join(path, name): name for name in found.sizes}
        for key in held.keys() - sizes.keys():
            session.delete(key)  # an earlier attempt copied it, and it no longer exists
        is_same = found.state and session._working.head.purpose == purpose + found.state
        done = held if is_same else {}
        waiting = [key for key, size in sizes.items() if done.get(key) != size]

        def copy(key: str) -> int:
            data = found.read(names[key])
            session.write(key, data)
            return len(data)

        finished = sum(size for key, size in sizes.items() if done.get(key) == size)
        start = Progress("keys", len(sizes) - len(waiting), len(sizes), finished, total)
        at_once = 1 if found.is_read_by_one else workers
        if executor is None:
            run_all(waiting, copy, at_once, start, progress)
        else:
            wanted = {key: names[key] for key in waiting}
            copy_shared(
                session, found, wanted, executor, workers=at_once, progress=start, tell=progress
            )
        try:
            return session.commit(message or f"Import {found.name}")
        except NothingToCommitError:
            session.discard()
            raise
