"""The fixture itself: Kubo works offline, in a folder of its own, with the profile we follow."""

import subprocess
from pathlib import Path

import pytest

from tests.servers.kubo import Kubo

pytestmark = pytest.mark.compat


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hierarchy" / "a").mkdir(parents=True)
    (tmp_path / "hierarchy" / ".zgroup").write_bytes(b'{"zarr_format": 2}')
    (tmp_path / "hierarchy" / "a" / "0.0").write_bytes(bytes(range(100)))
    return tmp_path / "hierarchy"


def test_only_hash_and_add_agree(kubo: Kubo, folder: Path) -> None:
    assert kubo.add_only_hash(folder) == kubo.add(folder)
    assert kubo.add_only_hash(folder, hash="blake3") == kubo.add(folder, hash="blake3")


def test_what_was_added_is_read_back(kubo: Kubo, folder: Path, tmp_path: Path) -> None:
    cid = kubo.add(folder)
    assert kubo.cat(f"{cid}/a/0.0") == bytes(range(100))
    names = kubo.ls(cid)
    assert list(names) == [".zgroup", "a"]
    assert kubo.cat(names[".zgroup"]) == b'{"zarr_format": 2}'
    kubo.get(cid, tmp_path / "copy")
    assert (tmp_path / "copy" / ".zgroup").read_bytes() == b'{"zarr_format": 2}'
    assert cid in kubo.dag_stat(cid)


def test_a_car_is_exported_and_imported(kubo: Kubo, folder: Path, tmp_path: Path) -> None:
    cid = kubo.add(folder)
    car = tmp_path / "tree.car"
    car.write_bytes(kubo.dag_export(cid))
    assert any(cid in line for line in kubo.dag_import(car))


def test_a_block_is_put_and_got(kubo: Kubo) -> None:
    assert kubo.block_get(kubo.block_put(b"a leaf")) == b"a leaf"


def test_a_failure_says_what_kubo_said(kubo: Kubo) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        kubo.cat("not-a-cid")
    assert "invalid path" in "".join(caught.value.__notes__)
