"""N5 containers are imported with the values that tensorstore reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import versioned_zarr as vz
from versioned_zarr.interfaces.files.import_session import LargeTransferWarning
from versioned_zarr.repository.repository import Repository

ts = pytest.importorskip("tensorstore")

COMPRESSIONS = [
    {"type": "raw"},
    {"type": "gzip"},
    {"type": "gzip", "useZlib": True},
    {"type": "bzip2"},
    {"type": "xz"},
    {"type": "zstd"},
    {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
]


RAW = {"type": "raw"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r.vz")


def opened(path: Path, **metadata: Any) -> Any:
    place = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}}
    if metadata:
        place |= {"metadata": metadata, "create": True}
    return ts.open(place).result()


def create(path: Path, values: np.ndarray, block: list[int], **more: Any) -> None:
    metadata = {"compression": {"type": "gzip"}, **more}
    sizes = {"dimensions": values.shape, "blockSize": block, "dataType": values.dtype.name}
    opened(path, **sizes, **metadata)[...] = values


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A container with groups, a dataset of an odd size for each compression, and attributes."""
    root = tmp_path / "brain.n5"
    values = np.arange(1, 5 * 7 * 3 + 1, dtype="i2").reshape(5, 7, 3)
    for number, compression in enumerate(COMPRESSIONS):
        place = root / "volumes" / f"raw{number}"
        create(place, values + np.int16(number), [2, 3, 3], compression=compression)
    path = root / "volumes" / "raw0" / "attributes.json"
    document = json.loads(path.read_text()) | {"resolution": [4, 4, 40], "axes": ["x", "y", "z"]}
    path.write_text(json.dumps(document))
    (root / "attributes.json").write_text('{"n5": "2.5.1", "who": "us"}')
    (root / "volumes" / "attributes.json").write_text('{"deep": {"a": [1, 2]}}')
    return root


def check_equal(repository: Repository, container: Path, path: str = "") -> int:
    """Compare every dataset with what tensorstore reads, transposed; returns their number."""
    count = 0
    snapshot = repository.checkout().path(path)
    for document in container.rglob("attributes.json"):
        if "dimensions" in json.loads(document.read_text()):
            count += 1
            found = snapshot.open(document.parent.relative_to(container).as_posix().strip("."))
            expected = opened(document.parent).read().result()
            np.testing.assert_array_equal(found[...], expected.T)
            assert found.dtype == expected.dtype
    return count


def test_every_compression_is_read_value_by_value(repository: Repository, container: Path) -> None:
    told: list[vz.Progress] = []
    commit = vz.import_from(repository, container, progress=told.append)
    assert commit.message == f"Import {container}"
    assert check_equal(repository, container) == len(COMPRESSIONS)
    assert told[-1].done == told[-1].total == 9 * len(COMPRESSIONS)
    assert told[-1].done_bytes == told[-1].total_bytes == 5 * 7 * 3 * 2 * len(COMPRESSIONS)
    snapshot = repository.checkout()
    array = snapshot.open("volumes/raw0")
    assert (array.shape, array.chunks) == ((3, 7, 5), (3, 3, 2))
    assert dict(array.attrs) == {"resolution": [4, 4, 40], "axes": ["x", "y", "z"]}
    assert dict(snapshot.open().attrs) == {"who": "us"}
    assert dict(snapshot.open("volumes").attrs) == {"deep": {"a": [1, 2]}}


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int32", "int64", "float32", "float64"]
)
def test_every_data_type(repository: Repository, tmp_path: Path, dtype: str) -> None:
    create(tmp_path / "d.n5" / "a", np.arange(1, 101).astype(dtype).reshape(10, 10), [4, 20])
    vz.import_from(repository, tmp_path / "d.n5")
    assert check_equal(repository, tmp_path / "d.n5") == 1


def test_missing_blocks_stay_missing(repository: Repository, tmp_path: Path) -> None:
    create(tmp_path / "d.n5" / "a", np.ones((9, 9), "u1"), [3, 3])
    shutil.rmtree(tmp_path / "d.n5" / "a" / "1")
    vz.import_from(repository, tmp_path / "d.n5")
    check_equal(repository, tmp_path / "d.n5")
    assert len(list(repository.checkout().keys("a/c"))) == 6


def test_a_container_that_is_a_dataset_and_one_in_a_zip_file(
    repository: Repository, tmp_path: Path
) -> None:
    create(tmp_path / "d.n5", np.arange(1, 10, dtype="u1"), [4])
    vz.import_from(repository, tmp_path / "d.n5", path="one")
    check_equal(repository, tmp_path / "d.n5", "one")
    shutil.make_archive(str(tmp_path / "d"), "zip", tmp_path / "d.n5")
    vz.import_from(repository, f"zip://::{tmp_path}/d.zip", format="n5", path="two")
    check_equal(repository, tmp_path / "d.n5", "two")


class _StopError(Exception):
    pass


def test_an_interrupted_import_continues(repository: Repository, tmp_path: Path) -> None:
    create(tmp_path / "d.n5" / "a", np.arange(1, 101, dtype="i4"), [2])

    def stop(progress: vz.Progress) -> None:
        if progress.done == 20:
            raise _StopError

    with pytest.raises(_StopError):
        vz.import_from(repository, tmp_path / "d.n5", progress=stop, workers=1)
    told: list[vz.Progress] = []
    vz.import_from(repository, tmp_path / "d.n5", progress=told.append)
    counted = [progress for progress in told if progress.total_bytes is not None]
    assert counted[0].done >= 20
    assert counted[-1].done == 50
    check_equal(repository, tmp_path / "d.n5")
    assert not repository.sessions


def test_a_large_import_warns(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "d.n5" / "a", np.ones(1000, "f8"), [100])
    monkeypatch.setattr("versioned_zarr.interfaces.files.import_session.LARGE_BYTES", 1000)
    with pytest.warns(LargeTransferWarning, match="10 chunks, 0.0 GB"):
        vz.import_from(repository, tmp_path / "d.n5")


def test_damage_is_named(repository: Repository, tmp_path: Path) -> None:
    create(tmp_path / "d.n5" / "a", np.ones(10, "f8"), [5])
    (tmp_path / "d.n5" / "a" / "1").write_bytes(b"rubbish")
    with pytest.raises(vz.InvalidInputError, match="cannot decode block 'a/1'"):
        vz.import_from(repository, tmp_path / "d.n5")
    document = tmp_path / "d.n5" / "a" / "attributes.json"
    good = document.read_text()
    document.write_text(good.replace("gzip", "jpeg"))
    with pytest.raises(vz.InvalidInputError, match=r"cannot decode block .*jpeg"):
        vz.import_from(repository, tmp_path / "d.n5")
    document.write_text('{"dimensions": [3]}')
    with pytest.raises(vz.InvalidInputError, match="there is no 'blockSize'"):
        vz.import_from(repository, tmp_path / "d.n5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(vz.InvalidInputError, match=r"there is no attributes\.json"):
        vz.import_from(repository, tmp_path / "empty", format="n5")


@pytest.mark.parametrize(
    "document",
    [
        {"dimensions": [float("inf")]},
        {"dimensions": [4.5]},
        {"dimensions": [10**30]},
        {"dimensions": "4"},
        {"dimensions": [True]},
        {"dimensions": [-1]},
        {"dataType": "object"},
        {"dataType": "S5"},
        {"dataType": None},
        {"dataType": "M8"},
        "[" * 100_000,
        '{"x":' * 3000 + "1" + "}" * 3000,
    ],
)
def test_attributes_that_are_none_are_refused(
    repository: Repository, tmp_path: Path, document: Any
) -> None:
    sound = {"dimensions": [4], "blockSize": [2], "dataType": "uint8", "compression": RAW}
    (tmp_path / "d.n5" / "a").mkdir(parents=True)
    text = document if isinstance(document, str) else json.dumps(sound | document)
    (tmp_path / "d.n5" / "a" / "attributes.json").write_text(text)
    with pytest.raises(vz.InvalidInputError, match=r"a/attributes\.json|nested too deeply"):
        vz.import_from(repository, tmp_path / "d.n5", format="n5")
    assert not list(repository.sessions)


def test_a_dataset_in_a_dataset_is_refused(repository: Repository, tmp_path: Path) -> None:
    for path in ("a", "a/b"):
        create(tmp_path / "d.n5" / path, np.ones(4, "u1"), [2])
    with pytest.raises(vz.InvalidInputError, match="'a/b' lies in the dataset 'a'"):
        vz.import_from(repository, tmp_path / "d.n5", format="n5")


def test_files_beside_blocks_are_not_taken_for_blocks(
    repository: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "d.n5" / "a"
    create(folder, np.arange(1, 5, dtype="u1"), [2], compression=RAW)
    for name in ("00", "\N{ARABIC-INDIC DIGIT ZERO}", "9" * 100):
        (folder / name).write_bytes(b"no block")
    vz.import_from(repository, tmp_path / "d.n5")
    assert check_equal(repository, tmp_path / "d.n5") == 1
