"""What things cost, counted: files that are touched, bytes that are read, memory that is held."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.recorder import recording
from versioned_zarr.history.log_refs import encode_entry
from versioned_zarr.history.refs import RefEntry
from versioned_zarr.ipld.cid import from_text

ROOT = Path(__file__).parents[2]
CHANGES = ("create", "write", "truncate", "rename", "unlink", "sync")


def test_what_only_reads_changes_nothing(tmp_path: Path) -> None:
    ours = vz.create(tmp_path / "ours.vz")
    with ours.session(message="many") as session:
        for number in range(5000):
            session.write(f"x/c/{number}", b"%d" % number)
    theirs = vz.clone(ours.url, tmp_path / "theirs.vz")
    ours.remotes.add("origin", theirs.url)
    for number in range(2):
        for repository in (ours, theirs):
            with repository.session(message="apart") as session:
                session.write(repository.url[-9:], b"%d" % number)
        for act in (
            lambda: ours.push("origin", "main"),
            lambda: ours.fetch("origin"),
            lambda: vz.open(theirs.url).checkout("bafybeib2222"),
            lambda: vz.open(theirs.url).checkout().get("not/here"),
        ):
            refused = contextlib.suppress(vz.BranchMovedError, vz.RefNotFoundError)
            with recording(tmp_path / "theirs.vz") as recorder, refused:
                act()
            assert [op for op in recorder.ops if op.what in CHANGES] == []


def test_an_absent_block_rebuilds_no_index(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    for number in range(30):
        with repository.session(message="x") as session:
            session.write("a", b"%d" % number)
    absent = from_text("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
    blocks = repository._stores.blocks
    packs = len(list((tmp_path / "r.vz" / "packs").iterdir()))
    opened: list[str] = []
    real = os.open

    def counted(path: object, *arguments: int, **options: int) -> int:
        opened.append(str(path))
        return real(path, *arguments, **options)  # type: ignore[arg-type]  # whatever came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", counted)
        for _ in range(3):
            with pytest.raises(vz.BlockNotFoundError):
                blocks.get(absent)
        assert len(opened) <= packs + 1  # each pack that no index covers is looked at once
        opened.clear()
        for _ in range(10):
            with pytest.raises(vz.BlockNotFoundError):
                blocks.get(absent)
    assert opened == []


def test_one_tag_of_many_is_looked_up_without_the_others(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    head = from_text(repository.branches["main"].cid)
    line = encode_entry(RefEntry(0, head, datetime.now(UTC), "tag: created at main"))
    (tmp_path / "r.vz" / "refs" / "tags").mkdir()
    for number in range(300):
        (tmp_path / "r.vz" / "refs" / "tags" / f"t{number}.log").write_bytes(line)
    listed: list[object] = []
    real = os.scandir

    def scandir(path: object) -> object:
        listed.append(path)
        return real(path)  # type: ignore[call-overload]  # whatever came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        assert repository.checkout("t7").commit == repository.branches["main"]
        assert repository.tags["t8"] == repository.checkout("tags/t9").commit
        assert "t10" in repository.tags
        assert listed == []
        assert len(list(repository.tags)) == 300
        assert len(listed) == 1


def test_an_old_move_is_found_without_decoding_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    head = from_text(repository.branches["main"].cid)
    lines = [encode_entry(RefEntry(n, head, datetime.now(UTC), "commit: x")) for n in range(3000)]
    (tmp_path / "r.vz" / "refs" / "heads" / "long.log").write_bytes(b"".join(lines))
    decoded: list[bytes] = []
    module = sys.modules["versioned_zarr.history.log_refs"]
    real = module.decode_entry

    def decode(line: bytes, name: str) -> RefEntry:
        decoded.append(line)
        return real(line, name)

    monkeypatch.setattr(module, "decode_entry", decode)
    assert repository.checkout("long@{50}").commit is not None
    assert len(decoded) == 51
    with pytest.raises(vz.RefNotFoundError, match="only 3000 entries"):
        repository.checkout("long@{3000}")


MEMORY = """
import os, sys, gc
import versioned_zarr as vz

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) << 10

def reset():
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

place, kind, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
repository = vz.create(place)
reset()
least = peak()
value = os.urandom(size)
value = {"bytes": bytes, "bytearray": bytearray, "memoryview": lambda v: memoryview(bytearray(v))}[
    kind](value)
reset()
with repository.session(message="x") as session:
    session.write("a", value)
written = peak()
del value, session
reset()
for verify in ("network", "always"):
    reset()
    assert len(vz.open(place, verify=verify).checkout().read("a")) == size
    print(verify, (peak() - least) / size)
print("written", (written - least) / size)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview"])
def test_a_large_value_is_held_once(tmp_path: Path, kind: str) -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not tell the peak of a process's memory")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "r.vz"), kind, str(200 << 20)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found = {name: float(ratio) for name, ratio in map(str.split, done.stdout.splitlines())}
    assert set(found) == {"network", "always", "written"}
    assert all(ratio <= 1.3 for ratio in found.values()), found


def test_a_large_value_that_is_changed_while_it_is_written_is_one_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 70 << 20
    value = bytearray(size)
    module = sys.modules["versioned_zarr.ipld.unixfs"]
    real = module.build_file

    def build(data: object, *arguments: object) -> object:
        file = real(data, *arguments)
        value[size // 2] = 1  # between its hash and its writing
        return file

    monkeypatch.setattr(module, "build_file", build)
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="x") as session:
        session.write("a", value)
    monkeypatch.undo()
    again = vz.open(tmp_path / "r.vz", verify="always")
    assert bytes(again.checkout().read("a")) == value
    assert again.fsck().is_clean
