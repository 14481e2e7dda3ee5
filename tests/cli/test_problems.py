"""What cannot be read is named by the commands that leave it out; to look changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import versioned_zarr as vz
from versioned_zarr.cli.app import cli


def run(place: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(place), *words])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    repository = vz.create(tmp_path / "r.vz")
    repository.branches.create("junk")
    repository.tags.create("v1")
    for name in ("heads/junk", "tags/v1"):
        log = tmp_path / "r.vz" / "refs" / f"{name}.log"
        log.write_bytes(log.read_bytes().replace(b"commit", b"kommit", 1))
    return tmp_path / "r.vz"


@pytest.mark.parametrize(("word", "name"), [("branch", "junk"), ("tag", "v1")])
def test_a_broken_ref_is_named_and_can_be_deleted(place: Path, word: str, name: str) -> None:
    listed = run(place, word)
    assert listed.exit_code == 0
    assert f"'{name}' is damaged" in listed.stderr
    assert name not in listed.stdout
    assert run(place, word, "-d", name).exit_code == 0
    assert run(place, word).stderr == ""


def test_gc_and_stats_say_what_they_could_not_read(place: Path) -> None:
    done = run(place, "gc", "--keep-reflog", "0")
    assert done.exit_code == 0
    assert done.stderr.count("all commits were kept") == 2
    assert run(place, "stats").stdout.count("not counted") == 2


def test_status_takes_nothing_back(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    left = repository.session()
    left.write("a", b"1" * 1000)
    left._working.end("died", keep_folder=True)
    folder = tmp_path / "r.vz" / "sessions" / left.id
    (draft,) = folder.glob("*.draft")
    draft.write_bytes(bytes(draft.stat().st_size))
    before = (folder / "journal").read_bytes()
    assert "1 key" in run(tmp_path / "r.vz", "status").stdout
    assert (folder / "journal").read_bytes() == before
