"""An import by several processes writes into one session, and another run resumes it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from fsspec.implementations.local import LocalFileSystem

import versioned_zarr as vz
from versioned_zarr.interfaces.files.shared_copy import shares
from versioned_zarr.interfaces.files.sources import open_source

CHUNKS = 400


class DeadlyFiles(LocalFileSystem):
    """Local files; the first process that reads the victim is killed, marked by a file."""

    protocol = "deadly"

    def __init__(self, victim: str, mark: str, **options: Any) -> None:
        super().__init__(**options)
        self.victim, self.mark = victim, Path(mark)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("deadly://"))

    def cat_file(self, path: str, *args: Any, **options: Any) -> bytes:
        if path == self.victim and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().cat_file(path, *args, **options)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    place = tmp_path / "plain.zarr"
    group = zarr.create_group(str(place))
    array = group.create_array("a", shape=(CHUNKS,), chunks=(1,), dtype="i4", fill_value=-1)
    array[:] = np.arange(CHUNKS)
    return place


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def expected(plain: Path, tmp_path: Path) -> str:
    """The tree of an import by one process."""
    return vz.import_zarr(vz.create(tmp_path / "alone.vz"), plain).tree


def test_processes_import_the_tree_of_one_process(
    plain: Path, pool: ProcessPoolExecutor, expected: str, tmp_path: Path
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    told: list[vz.Progress] = []
    commit = vz.import_zarr(repository, plain, executor=pool, workers=2, progress=told.append)
    assert commit.tree == expected
    assert not repository.sessions
    counts = [progress.done for progress in told if progress.total_bytes is not None]
    assert counts == sorted(counts)
    assert (told[-1].done, told[-1].total) == (CHUNKS + 2, CHUNKS + 2)
    assert told[-1].done_bytes == told[-1].total_bytes
    assert repository.fsck().is_clean
    with pytest.raises(vz.NothingToCommitError):
        vz.import_zarr(repository, plain, executor=pool, overwrite=True)


def test_a_share_has_every_key_once_and_several_workers_get_some(plain: Path) -> None:
    source = open_source(plain, {})
    names = {f"x/{name}": name for name in source.sizes}
    found = list(shares(source, names))
    assert len(found) >= 4
    assert [key for share in found for key in share] == list(names)


def test_an_import_whose_process_pool_broke_is_resumed(
    plain: Path, pool: ProcessPoolExecutor, expected: str, tmp_path: Path
) -> None:
    fsspec.register_implementation("deadly", DeadlyFiles, clobber=True)
    repository = vz.create(tmp_path / "r.vz")
    victim = str(plain / list(open_source(plain, {}).sizes)[CHUNKS // 2])
    options = {"victim": victim, "mark": str(tmp_path / "died")}

    def run(**more: Any) -> vz.Commit:
        return vz.import_zarr(repository, f"deadly://{plain}", storage_options=options, **more)

    with pytest.raises(BrokenProcessPool) as caught:
        run(executor=pool, workers=1)
    pool.shutdown()  # its other worker ends
    (left,) = repository.sessions.values()
    assert any(left.id in note for note in caught.value.__notes__)
    assert not left.is_alive
    assert left.keys > 0
    told: list[vz.Progress] = []
    commit = run(progress=told.append)
    first = next(progress.done for progress in told if progress.total_bytes is not None)
    assert first >= left.keys
    assert commit.tree == expected
    assert not repository.sessions


def test_an_import_is_resumed_while_its_workers_are_alive(
    plain: Path, pool: ProcessPoolExecutor, expected: str, tmp_path: Path
) -> None:
    repository = vz.create(tmp_path / "r.vz")

    def interrupt(progress: vz.Progress) -> None:
        if progress.total_bytes is not None and progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vz.import_zarr(repository, plain, executor=pool, workers=1, progress=interrupt)
    (left,) = repository.sessions.values()
    assert not left.is_alive  # idle workers do not count
    told: list[vz.Progress] = []
    commit = vz.import_zarr(repository, plain, executor=pool, progress=told.append)
    assert commit.tree == expected
    assert next(progress.done for progress in told if progress.total_bytes is not None) > 0
    assert not repository.sessions


def test_a_failure_in_a_worker_names_the_file(
    plain: Path, pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    repository = vz.create(tmp_path / "r.vz")

    def remove(progress: vz.Progress) -> None:
        if progress.total_bytes is not None:
            (plain / "a" / "c" / "7").unlink(missing_ok=True)

    with pytest.raises(vz.StorageError, match="a/c/7"):
        vz.import_zarr(repository, plain, executor=pool, progress=remove)
