"""CAR files: what is in them, who reads them, and what a damaged one does."""

from __future__ import annotations

import os
import random
import stat
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.moving import commit, memory
from tests.servers.kubo import Kubo
from versioned_zarr.ipld import car_v1, cid
from versioned_zarr.ipld.car_v1 import Car
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def ours() -> Repository:
    repository = memory()
    commit(repository, {f"x/c/{n}": b"%d" % (n // 2) for n in range(5000)})
    commit(repository, {"big": os.urandom(2_500_000), "y": b"1"})
    return repository


@pytest.fixture
def car(tmp_path: Path) -> Path:
    return tmp_path / "bundle.car"


def blocks_in(car: Path) -> dict[bytes, bytes]:
    with car.open("rb") as file:
        return {section.cid: section.data for section in Car(file, str(car)).sections()}


@pytest.mark.parametrize("version", [1, 2])
def test_a_snapshot_comes_back_from_its_file(ours: Repository, car: Path, version: int) -> None:
    root = ours.export_car("main", car, version=version)
    assert root == ours.checkout().cid
    theirs = memory()
    assert theirs.import_car(car) == [root]
    assert dict(theirs.checkout(root).mapping) == dict(ours.checkout().mapping)
    with car.open("rb") as file:
        read = Car(file, "it")
        assert read.version == version
        assert len(list(read.sections())) == len(blocks_in(car))


@pytest.mark.parametrize("version", [1, 2])
def test_a_history_comes_back_under_a_branch(ours: Repository, car: Path, version: int) -> None:
    ours.branches.create("dev", "main~1")
    commit(ours, {"z": b"1"}, "dev")
    ours.merge("dev")
    root = ours.export_car("main", car, history=True, version=version)
    theirs = memory()
    theirs.import_car(car, as_branch="copy")
    assert list(theirs.log("copy")) == list(ours.log("main"))
    assert theirs.branches["copy"].cid == root
    assert theirs.fsck().is_clean
    assert not theirs.fsck().unreferenced


def test_a_bundle_since_a_version_holds_the_rest(ours: Repository, car: Path) -> None:
    theirs = vz.clone(ours.url, f"memory://{os.urandom(8).hex()}")
    commit(ours, {"x/c/17": b"changed", "y": b"2"})
    ours.export_car("main", car, history=True, since="main~1")
    assert len(blocks_in(car)) < 15
    theirs.import_car(car, as_branch="main")
    assert theirs.checkout() == ours.checkout()
    ours.export_car("main", car, since="main~1")
    assert len(blocks_in(car)) < 12
    stranger = memory()
    ours.export_car("main", car, history=True, since="main~1")
    with pytest.raises(vz.BlockNotFoundError, match="imported first"):
        stranger.import_car(car, as_branch="copy")
    assert list(stranger.branches) == ["main"]


def test_a_branch_only_goes_forward_and_names_a_commit(ours: Repository, car: Path) -> None:
    theirs = memory()
    ours.export_car("main", car, history=True)
    with pytest.raises(vz.BranchMovedError, match="as another branch"):
        theirs.import_car(car, as_branch="main")
    ours.export_car("main", car)
    with pytest.raises(vz.InvalidInputError, match="not a commit"):
        theirs.import_car(car, as_branch="copy")


def test_a_file_appears_whole_or_not_at_all(ours: Repository, car: Path) -> None:
    car.write_bytes(b"an older one")
    for stored in ours._stores.storage.list("packs"):
        pack = bytearray(ours._stores.storage.read(stored.path))
        pack[len(pack) // 2] ^= 1
        ours._stores.storage.put(stored.path, [pack])
    with pytest.raises(vz.CorruptBlockError):
        ours.export_car("main", car)
    assert car.read_bytes() == b"an older one"
    assert os.listdir(car.parent) == [car.name]


def test_a_place_that_cannot_be_written_is_named(ours: Repository, tmp_path: Path) -> None:
    with pytest.raises(vz.StorageError, match=r"none/x\.car: No such file"):
        ours.export_car("main", tmp_path / "none" / "x.car")


def test_the_index_of_version_2_names_every_block(ours: Repository, car: Path) -> None:
    ours.export_car("main", car, history=True, version=2)
    data = car.read_bytes()
    characteristics, start, size, index_at = struct.unpack_from("<16sQQQ", data, 11)
    assert characteristics[0] == 0x80  # fully indexed
    assert start + size == index_at
    codec, *head = struct.unpack_from("<2siQiIq", data, index_at)
    entries = data[index_at + struct.calcsize("<2siQiIq") :]
    assert (codec, *head) == (b"\x81\x08", 1, 0x12, 1, 40, len(entries))
    rows = [struct.unpack_from("<32sQ", entries, at) for at in range(0, len(entries), 40)]
    assert rows == sorted(rows)
    with car.open("rb") as file:
        blocks = [(each.cid[-32:], each.offset - start) for each in Car(file, str(car)).sections()]
    assert rows == sorted(blocks)


def test_a_wrong_version_is_refused(ours: Repository, car: Path) -> None:
    with pytest.raises(vz.InvalidInputError, match="CARv2"):
        ours.export_car("main", car, version=3)


# Damage


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.99])
def test_a_file_that_is_cut_off_says_where(
    ours: Repository, car: Path, version: int, share: float
) -> None:
    ours.export_car("main", car, history=True, version=version)
    whole = car.read_bytes()
    with car.open("rb") as file:
        ends = {section.offset for section in Car(file, "it").sections()}
    size = int(len(whole) * share)
    while size in ends:
        size += 1
    if version == 2:
        size = min(size, max(ends))  # the index behind the blocks is not read
    car.write_bytes(whole[:size])
    theirs = memory()
    with pytest.raises(vz.CorruptError, match=r"at byte \d+"):
        theirs.import_car(car, as_branch="copy")
    assert list(theirs.branches) == ["main"]
    assert theirs.fsck().is_clean


def test_a_file_whose_blocks_lie_says_where(ours: Repository, car: Path) -> None:
    ours.export_car("main", car, history=True)
    whole = bytearray(car.read_bytes())
    with car.open("rb") as file:
        middle = max(Car(file, "it").sections(), key=lambda section: len(section.data))
    whole[middle.offset + 40] ^= 1
    car.write_bytes(whole)
    with pytest.raises(vz.CorruptBlockError, match=f"at byte {middle.offset} ") as error:
        memory().import_car(car)
    assert error.value.cid == cid.to_text(middle.cid)


def test_no_damage_is_taken_for_something_else(ours: Repository, car: Path) -> None:
    small = memory()
    commit(small, {"a": b"1", "b/c": b"2"})
    small.export_car("main", car, history=True)
    whole, chance = car.read_bytes(), random.Random(1)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        car.write_bytes(data)
        try:
            (root,) = memory().import_car(car, as_branch="copy")
        except vz.VersionedZarrError:
            continue
        assert root in {small.branches["main"].cid, small.checkout("main~1").commit.cid}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x01\xa0",
        b"not a car at all",
        b"\xff" * 20,
        b"\x0a\xa1gversion\x03",
        bytes(99),
    ],
)
def test_what_is_no_car_is_refused(car: Path, data: bytes) -> None:
    car.write_bytes(data)
    with pytest.raises(vz.CorruptError, match="byte 0"):
        memory().import_car(car)


def test_a_length_is_not_taken_on_trust(car: Path) -> None:
    root = cid.hash_function("sha2-256").raw(b"x")
    car.write_bytes(car_v1.header([root]) + b"\xff\xff\xff\xff\x7f" + root + b"x")
    with pytest.raises(vz.CorruptError, match="section of"):
        memory().import_car(car)


def test_blocks_of_another_kind_are_refused(car: Path) -> None:
    block = b"x"
    v0 = cid.Cid(cid.hash_function("sha2-256").raw(block)[2:])
    car.write_bytes(car_v1.header([v0]) + car_v1.section_head(v0, 1) + block)
    with pytest.raises(vz.InvalidCidError, match="only what a CIDv1"):
        memory().import_car(car)
    pytest.importorskip("blake3")
    other = cid.hash_function("blake3").raw(block)
    car.write_bytes(car_v1.header([other]) + car_v1.section_head(other, 1) + block)
    with pytest.raises(vz.InvalidInputError, match="sha2-256"):
        memory().import_car(car)


def test_a_block_in_its_cid_needs_no_storing(car: Path) -> None:
    held, root = cid.Cid(b"\x01\x55\x00\x01x"), cid.hash_function("sha2-256").raw(b"y")
    sections = [car_v1.section_head(held, 1), b"x", car_v1.section_head(root, 1), b"y"]
    car.write_bytes(b"".join([car_v1.header([root]), *sections]))
    assert memory().import_car(car) == [cid.to_text(root)]


def test_a_root_of_another_kind_is_refused(car: Path) -> None:
    car.write_bytes(car_v1.header([cid.Cid(b"\x01\x55\x00\x01x")]))
    with pytest.raises(vz.InvalidCidError, match=r"root of .* identity CID"):
        memory().import_car(car)


def test_a_root_in_version_0_is_taken_by_its_name_in_version_1(ours: Repository, car: Path) -> None:
    root = cid.from_text(ours.export_car("main", car))
    data = car.read_bytes()
    head, old = car_v1.header([root]), car_v1.header([cid.Cid(root[2:])])
    assert data.startswith(head)
    car.write_bytes(old + data[len(head) :])
    theirs = memory()
    assert theirs.import_car(car) == [cid.to_text(root)]
    assert dict(theirs.checkout(cid.to_text(root)).mapping) == dict(ours.checkout().mapping)


@pytest.mark.parametrize("history", [False, True])
def test_a_car_that_lacks_blocks_of_its_root_is_refused(
    ours: Repository, car: Path, history: bool
) -> None:
    ours.export_car("main", car, history=history)
    with car.open("rb") as file:
        read = Car(file, "it")
        found = list(read.sections())
    lacking = [each for each in found if len(each.data) > 10]  # every repository has the empty tree
    for left_out in (lacking[0], lacking[len(lacking) // 2], lacking[-1]):
        parts = [car_v1.header(list(read.roots))]
        for section in found:
            if section is not left_out:
                parts += [car_v1.section_head(section.cid, len(section.data)), section.data]
        car.write_bytes(b"".join(parts))
        with pytest.raises(vz.BlockNotFoundError, match="does not hold all"):
            memory().import_car(car)


# With the real Kubo


@pytest.mark.compat
@pytest.mark.parametrize("version", [1, 2])
def test_kubo_imports_ours(ours: Repository, car: Path, kubo: Kubo, version: int) -> None:
    root = ours.export_car("main", car, history=True, version=version)
    assert any(root in line for line in kubo.dag_import(car))
    assert kubo.cat(f"{root}/tree/y") == b"1"
    assert kubo.cat(f"{root}/parents/0/tree/x/c/4711") == b"2355"
    snapshot = ours.export_car("main", car, version=version)
    kubo.dag_import(car)
    assert kubo.cat(f"{snapshot}/big") == ours.checkout().read("big")


@pytest.mark.compat
def test_ours_reads_what_kubo_exports(ours: Repository, car: Path, kubo: Kubo) -> None:
    root = ours.export_car("main", car, history=True)
    kubo.dag_import(car)
    car.write_bytes(kubo.dag_export(root))
    theirs = memory()
    assert theirs.import_car(car, as_branch="copy") == [root]
    assert list(theirs.log("copy")) == list(ours.log())


@pytest.mark.compat
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--inline", "--inline-limit=64", "--cid-version=1"], "identity CID.*--inline"),
        (["--cid-version=0"], "CIDv0"),
    ],
)
def test_a_folder_with_names_that_none_can_keep_is_refused(
    tmp_path: Path, car: Path, kubo: Kubo, options: list[str], why: str
) -> None:
    (tmp_path / "plain" / "x").mkdir(parents=True)
    (tmp_path / "plain" / "x" / "0").write_bytes(os.urandom(9000))
    (tmp_path / "plain" / "x" / "1").write_bytes(b"tiny")
    root = kubo.run("add", "-r", "-Q", *options, tmp_path / "plain").decode().strip()
    car.write_bytes(kubo.dag_export(root))
    with pytest.raises(vz.InvalidCidError, match=why):
        memory().import_car(car)


@pytest.mark.compat
def test_a_folder_that_kubo_added_can_be_checked_out(tmp_path: Path, car: Path, kubo: Kubo) -> None:
    (tmp_path / "plain" / "x").mkdir(parents=True)
    (tmp_path / "plain" / "x" / "0").write_bytes(b"chunk" * 500_000)
    root = kubo.add(tmp_path / "plain")
    car.write_bytes(kubo.dag_export(root))
    repository = memory()
    assert repository.import_car(car) == [root]
    assert repository.checkout(root).read("x/0") == b"chunk" * 500_000


def test_a_file_that_is_written_anew_keeps_its_mode_and_its_link(
    ours: Repository, tmp_path: Path
) -> None:
    file, link = tmp_path / "private.car", tmp_path / "link.car"
    file.write_bytes(b"old")
    file.chmod(0o600)
    link.symlink_to(file)
    ours.export_car("main", link)
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert vz.create(tmp_path / "other.vz").import_car(link) == [ours.checkout().cid]


def test_what_is_no_file_is_written_to_as_it_is(ours: Repository, tmp_path: Path) -> None:
    pipe, whole = tmp_path / "pipe", tmp_path / "whole.car"
    os.mkfifo(pipe)
    ours.export_car("main", whole)
    with ThreadPoolExecutor(1) as reader:
        came = reader.submit(pipe.read_bytes)
        ours.export_car("main", pipe)
        assert came.result(60) == whole.read_bytes()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_car_that_cannot_be_read_is_said(ours: Repository, tmp_path: Path) -> None:
    for place in (tmp_path / "none.car", tmp_path):
        with pytest.raises(vz.StorageError, match=f"cannot read {place}"):
            ours.import_car(place)
