"""File systems that refuse what a local disk grants: what works, and what is refused by name."""

from __future__ import annotations

import errno
import fcntl
import gc
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.torture import TIMES

LARGE = os.urandom(2_000_000)


def filled(place: Path) -> vz.Repository:
    repository = vz.create(place)
    with repository.session(message="x") as session:
        session.write("a/b", b"x" * 5000)
        session.write("large", LARGE)
    return repository


def refuse(code: int) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize("is_all", [False, True], ids=["shared maps", "all maps"])
@pytest.mark.parametrize("code", [errno.ENODEV, errno.EINVAL, errno.ENOTSUP, errno.ENOMEM])
def test_without_maps_values_are_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_all: bool, code: int
) -> None:
    filled(tmp_path / "r.vz")
    gc.collect()
    real = mmap.mmap

    def refused(fd: int, size: int, flags: int = mmap.MAP_SHARED, **options: Any) -> mmap.mmap:
        if fd != -1 and (is_all or flags & mmap.MAP_SHARED):
            raise OSError(code, os.strerror(code))
        return real(fd, size, flags=flags, **options)

    monkeypatch.setattr(mmap, "mmap", refused)
    for verify in ("network", "always"):
        repository = vz.open(tmp_path / "r.vz", verify=verify)
        assert bytes(repository.checkout().read("large")) == LARGE
        assert bytes(repository.checkout().read("a/b", 10, 20)) == b"x" * 10
        with repository.session(message="y") as session:
            session.write(f"more/{verify}", LARGE)
        assert repository.fsck().is_clean
    repository.gc()
    repository.repack()
    assert bytes(vz.open(tmp_path / "r.vz").checkout().read("more/always")) == LARGE


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_folders_that_cannot_be_synced_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.fsync

    def refused(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(os, "fsync", refused)
    repository = filled(tmp_path / "r.vz")
    repository.tags.create("v1")
    repository.branches.rename("main", "trunk")
    repository.gc()
    assert bytes(vz.open(tmp_path / "r.vz").checkout("trunk").read("large")) == LARGE


def test_a_folder_whose_sync_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = filled(tmp_path / "r.vz")
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    session = repository.session()
    with pytest.raises(vz.StorageError, match=r"r\.vz"):
        session.write("a", b"1")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL])
def test_without_locks_all_is_read_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    repository = filled(tmp_path / "r.vz")
    left = repository.session()
    left.write("left", b"1")
    left._working.end("died", keep_folder=True)
    before = {path: path.read_bytes() for path in (tmp_path / "r.vz").rglob("*") if path.is_file()}
    monkeypatch.setattr(fcntl, "flock", refuse(code))
    again = vz.open(tmp_path / "r.vz")
    assert bytes(again.checkout().read("large")) == LARGE
    assert len(list(again.log())) == 2
    assert again.diff("main").nodes is not None
    assert again.stats().commits == 2
    assert again.fsck().is_clean
    assert [info.is_alive for info in again.sessions.values()] == [True]  # nobody can know
    session = again.session()
    assert session.get("large") is not None
    for act in (
        lambda: session.write("b", b"1"),
        lambda: again.branches.create("dev"),
        lambda: again.tags.create("v1"),
        lambda: again.branches.move("main", "main~1"),
        lambda: again.merge("main~1"),
        lambda: again.revert("main"),
        again.gc,
        again.repack,
        lambda: vz.create(tmp_path / "new.vz"),
        lambda: vz.clone(again.url, tmp_path / "clone.vz"),
    ):
        with pytest.raises(vz.StorageError, match="no file locks"):
            act()
    found = {path: path.read_bytes() for path in before}
    assert found == before


CALLS = ("open", "pread", "pwrite", "pwritev", "write", "fsync", "fdatasync", "rename", "replace")
CODES = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EROFS, errno.ESTALE,
         errno.ENAMETOOLONG, errno.EMFILE, errno.ENXIO, errno.ELOOP)[: 2 + TIMES]  # fmt: skip


@pytest.mark.torture
@pytest.mark.parametrize("call", [*CALLS, "mkdir", "stat", "lseek", "ftruncate", "unlink"])
@pytest.mark.parametrize("code", CODES)
def test_every_refusal_of_the_system_is_an_error_of_ours_with_the_path(
    tmp_path: Path, call: str, code: int
) -> None:
    """Each call of the kind below the repository's folder fails in turn, once."""
    for number in range(1, 60):
        place = tmp_path / f"{number}.vz"
        repository = filled(place) if number % 3 else vz.create(place)
        count = 0
        real = getattr(os, call)

        def failing(
            target: Any,
            *arguments: Any,
            real: Any = real,
            place: Path = place,
            number: int = number,
            **options: Any,
        ) -> Any:
            nonlocal count
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
            if str(os.fspath(path)).startswith(str(place)):
                count += 1
                if count == number:
                    raise OSError(code, os.strerror(code))
            return real(target, *arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                session = repository.session()
                session.write("k", LARGE[:number])
                session.write("l", LARGE[: 100_000 * (number % 20)])
                session.read("k")
                session.commit("x")
                repository.branches.create("dev")
                repository.gc()
                session.discard()
            except vz.VersionedZarrError as error:
                said = str(error)
            else:
                said = str(place)
        assert str(place) in said or "refs/" in said or ".draft" in said
        if count < number:
            return
        again = vz.open(place, verify="always")
        assert all(damage.where.startswith("sessions/") for damage in again.fsck().damaged)
        with again.session(message="goes on") as other:
            other.write("on", b"1")
