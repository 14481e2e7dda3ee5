"""What `open` gives has what callers of fsspec use, and half-written values never appear."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem

LARGE = bytes(range(256)) * 40_000
TEXT = b"a,1\nb,2\r\nno end"


@pytest.fixture(params=["memory", "folder"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> vz.Repository:
    place = f"memory://opened-{tmp_path.name}" if request.param == "memory" else tmp_path / "r.vz"
    repository = vz.create(place)
    with repository.session(message="begin") as session:
        session.write("t.csv", TEXT)
        session.write("large", LARGE)
        session.write("empty", b"")
    return repository


@pytest.fixture(params=["snapshot", "session"])
def files(
    repository: vz.Repository, request: pytest.FixtureRequest
) -> Iterator[VersionedFileSystem]:
    files = VersionedFileSystem(repository.url, skip_instance_cache=True)
    if request.param == "session":
        files.pipe({"t.csv": TEXT, "large": LARGE, "empty": b""})
    yield files
    files.end_session(commit=False)


# Reading


@pytest.mark.parametrize("path", ["t.csv", "vzarr://main@/t.csv"])
def test_an_opened_value_says_what_it_is(files: VersionedFileSystem, path: str) -> None:
    with files.open(path) as file:
        assert isinstance(file, AbstractBufferedFile)
        assert (file.size, file.path, file.mode, file.fs) == (len(TEXT), "t.csv", "rb", files)
        assert file.details == files.info("t.csv")
        assert file.info() == files.info("t.csv")
        assert file.blocksize == AbstractBufferedFile.DEFAULT_BLOCK_SIZE
        assert (file.loc, file.tell()) == (0, 0)
        assert file.full_name == files.unstrip_protocol("t.csv")
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.read(3) == b"a,1"
        assert (file.loc, file.tell()) == (3, 3)
        assert file.seek(-3, 2) == len(TEXT) - 3
        assert file.read() == b"end"
    assert file.closed
    assert files.open("t.csv", block_size=7).blocksize == 7
    for missing in ("gone", "", "vzarr://main@/gone"):
        with pytest.raises(FileNotFoundError):
            files.open(missing)


# fsspec leaves the file of a blockcache to the collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_blocks_and_caches_of_fsspec_read_it(files: VersionedFileSystem, tmp_path: Path) -> None:
    assert files.read_block("t.csv", 0, 4) == b"a,1\n"
    assert files.read_block("t.csv", 1, 4, delimiter=b"\n") == b"b,2\r\n"
    assert files.read_block("large", 5_000_000, None) == LARGE[5_000_000:]
    assert files.head("large", 5) == LARGE[:5]
    assert files.tail("large", 5) == LARGE[-5:]
    for cache in ("blockcache", "filecache", "simplecache"):
        url = f"{cache}::vzarr://main@/large::{files.repository.url}"
        storage = str(tmp_path / cache)
        with fsspec.open(url, **{cache: {"cache_storage": storage}}) as file:
            file.seek(9_000_000)
            assert file.read(100) == LARGE[9_000_000:9_000_100]


@given(st.lists(st.tuples(st.sampled_from(["read", "seek", "line", "lines"]), st.integers(0, 40))))
def test_a_value_reads_as_a_file_in_memory(steps: list[tuple[str, int]]) -> None:
    repository = vz.open_or_create("memory://opened-lines")
    files = VersionedFileSystem(repository.url, skip_instance_cache=True)
    lines = b"".join(b"%d\n" % (10**n) for n in range(12)) + b"\n\nlast"
    files.pipe("lines", lines)
    model, file = io.BytesIO(lines), files.open("lines", block_size=5)
    for what, amount in steps:
        if what == "read":
            assert file.read(amount) == model.read(amount)
        elif what == "seek":
            assert file.seek(amount) == model.seek(amount)
        elif what == "line":
            assert file.readline(amount) == model.readline(amount)
        else:
            assert file.readline() == model.readline()
            assert file.tell() == model.tell()
    assert file.readlines() == model.readlines()
    file.seek(0)
    assert list(file) == lines.splitlines(keepends=True)
    files.end_session(commit=False)


def test_a_range_of_a_large_value_reads_that_range(repository: vz.Repository) -> None:
    """Counted in the bytes that the snapshot is asked for."""
    files = VersionedFileSystem(repository.url, skip_instance_cache=True)
    asked = []
    view = files.view
    read_found = view._read_found
    view._read_found = lambda found, start=0, end=None: (
        asked.append((start, end)),
        read_found(found, start, end),
    )[1]  # type: ignore[method-assign]  # on this object alone
    with files.open("large", block_size=1000, cache_type="none") as file:
        file.seek(4_000_000)
        assert file.read(10) == LARGE[4_000_000:4_000_010]
    assert asked == [(4_000_000, 4_000_010)]


def test_an_opened_value_stays_what_it_is(
    repository: vz.Repository, files: VersionedFileSystem
) -> None:
    with files.open("large", block_size=1 << 20) as file:
        start = file.read(10)
        files.pipe("large", b"other")
        files.commit()
        files.invalidate_cache()
        assert start + file.read() == LARGE
    assert files.cat("large") == b"other"


def test_text_and_pickled_copies_are_read(files: VersionedFileSystem) -> None:
    with files.open("t.csv", "r", newline="") as text:
        assert text.readlines() == ["a,1\n", "b,2\r\n", "no end"]
    with files.open("t.csv") as file:
        file.seek(4)
        assert pickle.loads(pickle.dumps(file)).read() == TEXT[4:]


# Writing


WAYS: dict[str, Callable[[VersionedFileSystem], Any]] = {
    "bytes": lambda files: files.open("new", "wb"),
    "exclusive": lambda files: files.open("new", "xb"),
    "text": lambda files: files.open("new", "w", newline=""),
    "text t": lambda files: files.open("new", "wt", newline=""),
    "exclusive text": lambda files: files.open("new", "x", newline=""),
    "gzip": lambda files: files.open("new", "wb", compression="gzip"),
    "bz2": lambda files: files.open("new", "wb", compression="bz2"),
    "xz": lambda files: files.open("new", "wb", compression="xz"),
    "zip": lambda files: files.open("new", "wb", compression="zip"),
    "gzip text": lambda files: files.open("new", "w", newline="", compression="gzip"),
    "inferred": lambda files: files.open("new.gz", "wb", compression="infer"),
    "by URL": lambda files: fsspec.open(files.unstrip_protocol("new"), "wb"),
    "text by URL": lambda files: fsspec.open(files.unstrip_protocol("new"), "wt", newline=""),
    "gzip by URL": lambda files: fsspec.open(files.unstrip_protocol("new"), compression="gzip",
                                             mode="wb"),
    "gzip text by URL": lambda files: fsspec.open(files.unstrip_protocol("new"), "wt", newline="",
                                                  compression="gzip"),
    "several by URL": lambda files: fsspec.open_files([files.unstrip_protocol("new")], "wb"),
}  # fmt: skip


@pytest.fixture
def plain(repository: vz.Repository) -> Iterator[VersionedFileSystem]:
    files = VersionedFileSystem(repository.url)
    yield files
    files.end_session(commit=False)


def write_half(opened: Any, data: bytes) -> None:
    with opened as file:
        target = file[0] if isinstance(file, list) else file
        try:
            target.write(data)
        except TypeError:
            target.write(data.decode())


def fail_half(opened: Any, data: bytes) -> None:
    with opened as file:
        target = file[0] if isinstance(file, list) else file
        try:
            target.write(data)
        except TypeError:
            target.write(data.decode())
        target.flush()
        raise ZeroDivisionError


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [3, 3_000_000])
def test_what_an_exception_leaves_half_written_is_discarded(
    plain: VersionedFileSystem, way: str, size: int
) -> None:
    before = plain.find("")
    with pytest.raises(ZeroDivisionError):
        fail_half(WAYS[way](plain), b"x" * size)
    assert plain.find("") == before
    write_half(WAYS[way](plain), b"x" * size)
    (new,) = set(plain.find("")) - set(before)
    with plain.open(new, compression=_compression(way)) as file:
        assert file.read() == b"x" * size


def _compression(way: str) -> str | None:
    kinds = {"bz2": "bz2", "xz": "xz", "zip": "zip", "inferred": "gzip"}
    return "gzip" if "gzip" in way else kinds.get(way)


def test_what_is_closed_within_a_handler_is_written(plain: VersionedFileSystem) -> None:
    """Only the exception that ends the file's own block gives it up."""
    url = plain.unstrip_protocol
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        with plain.open("a", "w") as file:
            file.write("1")
        with fsspec.open(url("b"), "w") as file:
            file.write("2")
        last = plain.open("c", "wb")
        last.write(b"3")
        last.close()
    assert plain.cat(["a", "b", "c"]) == {"a": b"1", "b": b"2", "c": b"3"}


def test_compressed_values_are_what_others_read(plain: VersionedFileSystem) -> None:
    for name, read in (("gzip", gzip.decompress), ("bz2", bz2.decompress), ("xz", lzma.decompress)):
        file = plain.open(name, "wb", compression=name)
        assert file.write(TEXT) == len(TEXT)
        assert file.tell() == len(TEXT)
        assert (file.writable(), file.path, file.closed) == (True, name, False)
        file.close()
        assert file.closed
        assert read(plain.cat(name)) == TEXT


def test_a_written_file_says_what_it_is(plain: VersionedFileSystem) -> None:
    with plain.open("vzarr://main@/n/new", "wb") as file:
        file.write(b"12")
        assert (file.path, file.fs, file.mode) == ("n/new", plain, "wb")
        assert (file.loc, file.tell(), file.size) == (2, 2, 2)
        assert file.blocksize == plain.blocksize
        assert file.full_name == plain.unstrip_protocol("n/new")
        assert not plain.exists("n/new")
    assert file.details == plain.info("n/new")


def test_a_value_that_cannot_be_written_is_told_once(plain: VersionedFileSystem) -> None:
    for options in ({}, {"compression": "gzip"}, {"mode": "w"}):
        with pytest.raises(vz.InvalidKeyError):
            write_half(plain.open("t.csv/below", **{"mode": "wb", **options}), b"1")


def test_without_autocommit_a_value_waits(plain: VersionedFileSystem) -> None:
    file = plain.open("a", "wb", autocommit=False)
    file.write(b"1")
    file.close()
    assert not plain.exists("a")
    file.commit()
    assert plain.cat("a") == b"1"
    plain.transaction.files.clear()
    other = plain.open("b", "wb", autocommit=False)
    other.write(b"1")
    other.close()
    other.discard()
    other.commit()
    assert not plain.exists("b")
    plain.transaction.files.clear()


@pytest.mark.parametrize("way", [way for way in WAYS if "URL" not in way])
def test_what_is_left_open_in_a_transaction_is_written_whole(
    plain: VersionedFileSystem, way: str
) -> None:
    opened = []

    def write(data: bytes) -> None:
        with plain.transaction:
            opened.append(WAYS[way](plain))
            is_text = isinstance(opened[-1], io.TextIOBase)
            opened[-1].write(data.decode() if is_text else data)
            if len(opened) == 1:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(b"x" * 100_000)
    assert not plain.exists("new")
    write(b"y" * 100_000)
    (new,) = {*plain.find("")} - {"t.csv", "large", "empty"}
    with plain.open(new, compression=_compression(way)) as file:
        assert file.read() == b"y" * 100_000
    assert all(file.closed for file in opened)


def test_nothing_else_is_taken_for_a_mode(plain: VersionedFileSystem) -> None:
    for mode in ("ab", "r+b", "w+b", "q"):
        with pytest.raises(ValueError, match="mode must be"):
            plain.open("t.csv", mode)
    with pytest.raises(FileExistsError):
        plain.open("t.csv", "x")
    with pytest.raises(FileExistsError), plain.open("late", "xb"):
        plain.pipe("late", b"")


# Times


def test_a_committed_value_changed_when_it_was_committed(repository: vz.Repository) -> None:
    commit = repository.branches["main"]
    for ref in ("main", commit.cid):
        files = VersionedFileSystem(repository.url, ref=ref)
        for path in ("t.csv", "", "vzarr://@/large"):
            assert files.modified(path) == commit.time
            assert files.created(path) == commit.time
        for method in (files.modified, files.created):
            with pytest.raises(FileNotFoundError):
                method("gone")


def test_a_tree_without_a_commit_has_never_changed(repository: vz.Repository) -> None:
    files = VersionedFileSystem(repository.url, ref=repository.checkout().cid)
    assert files.modified("t.csv") == files.created("t.csv") == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_value_in_a_session_changed_with_its_last_write(plain: VersionedFileSystem) -> None:
    committed = plain.repository.branches["main"].time
    plain.pipe("a", b"1")
    (info,) = plain.repository.sessions.values()
    assert plain.created("a") == info.started
    first = plain.modified("a")
    assert plain.modified("t.csv") == committed
    time.sleep(0.02)
    plain.pipe("a", b"2")
    assert plain.modified("a") > first >= info.started
    plain.commit()
    assert plain.modified("a") == plain.repository.branches["main"].time
