"""One flipped byte, anywhere in the folder: it is found, named, and never read as data."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.blocks.packs.pack_store import PackStore

CASES = 300


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with all that there can be in one."""
    folder = tmp_path_factory.mktemp("rot") / "r.vz"
    repository = vz.create(folder)
    chance = random.Random(5)
    with repository.session(message="large") as session:
        session.write("a/zarr.json", b"{}")
        session.write("a/c/0", chance.randbytes(1_500_000))
        for number in range(30):
            session.write(f"b/c/{number}", chance.randbytes(chance.choice([1, 100, 20_000])))
    for number in range(40):
        with repository.session(message=f"commit {number}") as session:
            session.write(f"b/c/{number % 30}", chance.randbytes(200))
    repository.tags.create("v1", "main~20")
    repository.branches.create("dev", "main~10")
    with repository.session("dev", message="on dev") as session:
        session.write("names/" + "n" * 200, b"x")
    assert isinstance(repository._stores.blocks, PackStore)
    repository._stores.blocks.registry.merge()
    left = repository.session()
    left.write("left/behind", chance.randbytes(3000))
    left.write("left/large", chance.randbytes(1_100_000))
    left._working.end("died", keep_folder=True)
    report = repository.fsck()
    assert report.is_clean, str(report)
    return folder


def flip(folder: Path, chance: random.Random) -> tuple[str, int]:
    """Flip one byte of one file: a small file as likely as a large one, half of the time."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    if chance.random() < 0.5:
        path = chance.choice(files)
    else:
        path = chance.choices(files, [file.stat().st_size for file in files])[0]
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return str(path.relative_to(folder)), at


def read_everything(repository: vz.Repository) -> dict[str, bytes | str]:
    """Each key of each ref, or the name of the error that came instead."""
    found: dict[str, bytes | str] = {}
    for ref in ("main", "v1", "dev", "main~5"):
        try:
            snapshot = repository.checkout(ref)
            keys = list(snapshot.keys())
        except vz.VersionedZarrError as error:
            found[ref] = type(error).__name__
            continue
        for key in keys:
            try:
                found[f"{ref}:{key}"] = bytes(snapshot.read(key))
            except vz.VersionedZarrError as error:
                found[f"{ref}:{key}"] = type(error).__name__
    return found


@pytest.mark.parametrize("part", range(10))
def test_a_flipped_byte_is_named_and_never_passed_on(
    template: Path, tmp_path: Path, part: int
) -> None:
    truth = read_everything(vz.open(template, verify="always"))
    assert all(isinstance(value, bytes) for value in truth.values())
    for case in range(part, CASES, 10):
        folder = tmp_path / f"{case}.vz"
        shutil.copytree(template, folder)
        where, at = flip(folder, random.Random(case))
        named = f"case {case}: byte {at} of {where}"
        if where == "versioned-zarr.json":
            with pytest.raises(vz.FormatError):
                vz.open(folder)
            shutil.rmtree(folder)
            continue
        repository = vz.open(folder, verify="always")
        report = repository.fsck()
        assert not report.is_clean, named
        assert any(where in damage.where or damage.where in where for damage in report.damaged), (
            f"{named}: {report}"
        )
        found = read_everything(repository)
        wrong = {
            key: value
            for key, value in found.items()
            if isinstance(value, bytes) and value != truth[key]
        }
        assert not wrong, named
        errors = {value for value in found.values() if isinstance(value, str)}
        if where.startswith("packs/") and errors:
            assert errors <= {"CorruptBlockError", "BlockNotFoundError"}, named
            lost = [damage for damage in (*report.damaged, *report.missing) if damage.commits]
            assert lost, f"{named}: {report}; {found}"
            broken = {
                key.split(":", 1)[1]
                for key, value in found.items()
                if ":" in key and isinstance(value, str)
            }
            touched = {key for damage in lost for key in damage.keys}
            assert all(
                key in touched or any(key.startswith(t[:-1]) for t in touched if t.endswith("*"))
                for key in broken
            ), named
        if where.startswith("index/"):
            assert found == truth, named
            repository._stores.blocks.registry.rebuild()
            assert vz.open(folder, verify="always").fsck().is_clean, named
        if where.startswith("sessions/"):
            assert found == truth, named
        shutil.rmtree(folder)


def test_reads_are_verified_only_where_asked(template: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r.vz"
    shutil.copytree(template, folder)
    value = bytes(vz.open(template).checkout().read("a/c/0", 0, 50))
    (pack,) = [path for path in folder.glob("packs/*.pack") if value in path.read_bytes()]
    data = bytearray(pack.read_bytes())
    data[data.index(value)] ^= 1
    pack.write_bytes(data)
    with pytest.raises(vz.CorruptBlockError, match=r"packs/"):
        vz.open(folder, verify="always").checkout().read("a/c/0")
    assert len(vz.open(folder, verify="never").checkout().read("a/c/0")) == 1_500_000


@pytest.mark.parametrize("length", [0, 10, 100, 120, 200_000])
def test_a_pack_that_was_cut_off_is_named_and_left_alone(
    template: Path, tmp_path: Path, length: int
) -> None:
    folder = tmp_path / "r.vz"
    shutil.copytree(template, folder)
    pack = max((folder / "packs").iterdir(), key=lambda path: path.stat().st_size)
    with pack.open("r+b") as file:
        file.truncate(length)
    repository = vz.open(folder)
    for _ in range(20):
        with repository.session(message="goes on") as session:
            session.write("new", random.randbytes(10))
    repository.repack()
    with suppress(vz.BlockNotFoundError):  # it cannot tell what is reached, and removes nothing
        repository.gc()
    assert pack.stat().st_size == length
    report = repository.fsck()
    assert any(pack.name in damage.where for damage in report.damaged)
    assert any(damage.keys and damage.commits for damage in report.missing)
    assert repository.checkout().read("new")


def test_a_pack_that_holds_nothing_stops_nothing(template: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r.vz"
    shutil.copytree(template, folder)
    (folder / "packs" / f"{'0' * 24}.pack").touch()
    repository = vz.open(folder)
    truth = read_everything(repository)
    with repository.session(message="goes on") as session:
        session.write("new", b"1")
    repository.gc()
    repository.repack()
    assert len(repository.fsck().damaged) == 1
    repository.branches.move("main", "main~1")
    assert read_everything(repository) == truth


def test_a_value_that_is_lost_is_not_taken_for_none(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    for number in range(2):
        with repository.session(message="x") as session:
            session.write("a", b"%d" % number * 1_000_000)
    packs = sorted((tmp_path / "r.vz" / "packs").iterdir(), key=lambda pack: pack.stat().st_size)
    for pack in packs[-2:]:
        pack.unlink()
    mapping = vz.open(tmp_path / "r.vz", verify="always").checkout().mapping
    with pytest.raises(vz.BlockNotFoundError):
        mapping.get("a")
    assert mapping.get("b", b"default") == b"default"
