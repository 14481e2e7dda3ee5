"""Plain Zarr comes in and goes out byte for byte, also when it is interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from versioned_zarr.interfaces.files import sources
from versioned_zarr.interfaces.files.import_session import LargeTransferWarning
from versioned_zarr.interfaces.files.zarr_export import to_folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(params=[2, 3])
def plain(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "plain.zarr"
    group = zarr.create_group(str(folder), zarr_format=request.param)
    array = group.create_array("a/b", shape=(40, 30), chunks=(10, 10), dtype="f4")
    array[:] = np.arange(1200).reshape(40, 30)
    array.attrs["units"] = "K"
    return folder


def test_import_and_export_give_the_same_files(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    commit = vz.import_zarr(repository, plain)
    snapshot = repository.checkout()
    assert snapshot.commit == commit
    assert dict(snapshot.mapping) == files_of(plain)
    snapshot.to_folder(tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(plain)
    assert not repository.sessions


def test_import_into_a_group_and_from_a_url(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    vz.import_zarr(repository, plain.as_uri(), path="runs/1")
    vz.import_zarr(repository, plain, path="runs/2", message="again")
    snapshot = repository.checkout()
    assert snapshot.path("runs/1").cid == snapshot.path("runs/2").cid
    with pytest.raises(vz.AlreadyExistsError, match="runs/1"):
        vz.import_zarr(repository, plain, path="runs/1")


def test_what_is_no_zarr_is_refused(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with pytest.raises(vz.InvalidInputError, match=r"zarr\.json"):
        vz.import_zarr(repository, tmp_path)
    with pytest.raises(vz.InvalidInputError):
        vz.import_zarr(repository, tmp_path / "nothing")


def copied(seen: list[vz.Progress]) -> list[int]:
    """How many keys were there each time, once the source was listed."""
    return [progress.done for progress in seen if progress.total_bytes is not None]


def test_an_interrupted_import_goes_on_where_it_stopped(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")

    def interrupt(progress: vz.Progress) -> None:
        if progress.done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vz.import_zarr(repository, plain, workers=1, progress=interrupt)
    (left,) = repository.sessions.values()
    assert left.keys >= 5
    seen: list[vz.Progress] = []
    vz.import_zarr(repository, plain, progress=seen.append)
    assert copied(seen)[0] >= 5
    assert dict(repository.checkout().mapping) == files_of(plain)
    assert not repository.sessions


def interrupted(repository: vz.Repository, plain: Path, **options: Any) -> None:
    """An import that stops after four values."""

    def interrupt(progress: vz.Progress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vz.import_zarr(repository, plain, workers=1, progress=interrupt, **options)


def write(repository: vz.Repository, **values: bytes) -> None:
    with repository.session(message="write") as session:
        for key, value in values.items():
            session.write(key.replace("__", "/"), value)


def test_an_import_of_the_same_leaves_no_session(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    vz.import_zarr(repository, plain, path="x")
    with pytest.raises(vz.NothingToCommitError):
        vz.import_zarr(repository, plain, path="x", overwrite=True)
    assert not repository.sessions
    write(repository, x__note=b"1")
    vz.import_zarr(repository, plain, path="x", overwrite=True)
    assert dict(repository.checkout().path("x").mapping) == files_of(plain)


def test_an_import_does_not_go_on_over_what_came_since(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    write(repository, x__note=b"1", elsewhere=b"1")
    interrupted(repository, plain, path="x", overwrite=True)
    write(repository, x__note=b"2", x__other=b"1")
    vz.import_zarr(repository, plain, path="x", overwrite=True)
    assert dict(repository.checkout().path("x").mapping) == files_of(plain)
    assert not repository.sessions


def test_an_import_goes_on_where_the_branch_moved_elsewhere(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    interrupted(repository, plain, path="x")
    write(repository, elsewhere=b"1")
    seen: list[vz.Progress] = []
    vz.import_zarr(repository, plain, path="x", progress=seen.append)
    assert copied(seen)[0] >= 4
    assert dict(repository.checkout().path("x").mapping) == files_of(plain)


def test_an_import_that_goes_on_replaces_nothing_unasked(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    interrupted(repository, plain, path="x")
    write(repository, x__note=b"1")
    with pytest.raises(vz.AlreadyExistsError, match="overwrite"):
        vz.import_zarr(repository, plain, path="x")
    vz.import_zarr(repository, plain, path="x", overwrite=True)
    assert dict(repository.checkout().path("x").mapping) == files_of(plain)


@pytest.mark.parametrize("is_told", [True, False])
def test_an_import_takes_nothing_of_another_state_of_its_source(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    """Values of the same length, as uncompressed chunks have, and keys that are gone."""
    if not is_told:
        monkeypatch.setattr(sources, "CHANGES", ())
    repository = vz.create(tmp_path / "r.vz")

    def interrupt(progress: vz.Progress) -> None:
        if progress.done >= len(files_of(plain)) - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vz.import_zarr(repository, plain, workers=1, progress=interrupt)
    documents = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
    chunks = (path for path in plain.rglob("*") if path.is_file() and path.name not in documents)
    gone, *changed = sorted(chunks)
    gone.unlink()
    for path in changed:
        path.write_bytes(bytes(len(path.read_bytes())))
    vz.import_zarr(repository, plain)
    assert dict(repository.checkout().mapping) == files_of(plain)
    assert not repository.sessions


def test_the_same_words_for_another_folder_are_another_source(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(tmp_path / "r.vz")

    def interrupt(progress: vz.Progress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    monkeypatch.chdir(plain.parent)
    with pytest.raises(KeyboardInterrupt):
        vz.import_zarr(repository, plain.name, workers=1, progress=interrupt)
    other = tmp_path / "other" / plain.name
    shutil.copytree(plain, other)
    for path in other.rglob("*"):
        if path.is_file() and path.name[:2] not in {"za", ".z"}:
            path.write_bytes(bytes(path.stat().st_size))
    monkeypatch.chdir(other.parent)
    vz.import_zarr(repository, plain.name)
    assert dict(repository.checkout().mapping) == files_of(other)
    assert len(repository.sessions) == 1


def test_what_a_killed_export_was_writing_does_not_stay(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    vz.import_zarr(repository, plain)
    out = tmp_path / "out"
    out.mkdir()
    tell = "from versioned_zarr import process_identity as p; print(p.current())"
    process = subprocess.run([sys.executable, "-c", tell], check=True, capture_output=True)
    identity = process.stdout.decode().strip()
    _, number, started = identity.split(":")
    elsewhere = f".vz-export-{'0' * 16}-{number}-{started}-00"  # of another machine: it may live
    for name in (
        f".vz-export-{number}-00",
        f".vz-export-{identity.replace(':', '-')}-00",
        elsewhere,
    ):
        (out / name).write_bytes(b"half")
    to_folder(repository.checkout(), out)
    assert files_of(out) == {**files_of(plain), elsewhere: b"half"}


def test_an_interrupted_export_goes_on_where_it_stopped(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    vz.import_zarr(repository, plain)
    out = tmp_path / "out"

    def interrupt(progress: vz.Progress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_folder(repository.checkout(), out, workers=1, progress=interrupt)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    victim = next(path for path in written if path.stat().st_size > 2)
    victim.write_bytes(b"x" * victim.stat().st_size)
    os.utime(victim, ns=(1, 1))
    to_folder(repository.checkout(), out)
    assert files_of(out) == files_of(plain)
    kept = [path for path, time in written.items() if path.stat().st_mtime_ns == time]
    assert len(kept) == len(written) - 1


def test_export_does_not_mix_with_other_files(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    vz.import_zarr(repository, plain)
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    with pytest.raises(vz.AlreadyExistsError, match=r"diary\.txt"):
        to_folder(repository.checkout(), out)


def test_an_export_to_where_no_folder_can_be_is_an_error_of_ours(
    plain: Path, tmp_path: Path
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    vz.import_zarr(repository, plain)
    (tmp_path / "file").write_text("mine")
    for place in ("/proc/none", tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(vz.StorageError, match="cannot write"):
            to_folder(repository.checkout(), place)


def test_a_damaged_block_does_not_leave_the_repository(plain: Path, tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    vz.import_zarr(repository, plain)
    chunk = (plain / ("a/b/c/0/0" if (plain / "zarr.json").exists() else "a/b/0.0")).read_bytes()
    for pack in (tmp_path / "r.vz" / "packs").iterdir():
        data = bytearray(pack.read_bytes())
        if chunk in data:
            data[data.index(chunk)] ^= 1
            pack.write_bytes(data)
    with pytest.raises(vz.CorruptBlockError):
        vz.open(tmp_path / "r.vz", verify="never").checkout().to_folder(tmp_path / "out")


def test_a_large_import_says_how_large(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versioned_zarr.interfaces.files.import_session.LARGE_BYTES", 100)
    with pytest.warns(LargeTransferWarning, match="GB"):
        vz.import_zarr(vz.create(tmp_path / "r.vz"), plain)
