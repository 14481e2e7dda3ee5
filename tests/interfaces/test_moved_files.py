"""Moving, copying and removing files of a branch: nothing is lost, and it lies as fsspec says."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem

VALUES = {"a/x": b"1", "a/y": b"2", "a/z/w": b"3", "b/x": b"4", "top": b"5"}


@pytest.fixture(params=["memory", "folder"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[VersionedFileSystem]:
    place = f"memory://moved-{tmp_path.name}" if request.param == "memory" else tmp_path / "r.vz"
    repository = vz.create(place)
    with repository.session(message="begin") as session:
        for key, value in VALUES.items():
            session.write(key, value)
    files = VersionedFileSystem(repository.url, skip_instance_cache=True)
    yield files
    files.end_session(commit=False)


def held(files: fsspec.AbstractFileSystem) -> dict[str, bytes]:
    return {key.strip("/"): files.cat_file(key) for key in files.find("")}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a", "a"),
        ("a", "/a"),
        ("a/", "a"),
        ("a", "a/"),
        ("a", "vzarr://main@/a"),
        ("", ""),
        ("a", ""),
        ("a/z", "a"),
        ("top", "/top"),
        ("top", "vzarr://main@/top"),
        ("top", ""),
        ("a/x", "a"),
        ("a/x", "a/"),
        ("a/[x]", "a"),
        (["a/x"], ["/a/x"]),
        (["a/x", "a/y"], "a"),
    ],
)
def test_what_is_moved_to_where_it_lies_stays(
    files: VersionedFileSystem, source: Any, target: Any
) -> None:
    files.mv(source, target, recursive=True)
    assert held(files) == VALUES


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("a", "a/b", vz.InvalidInputError),
        ("a", "a/z/b", vz.InvalidInputError),
        ("a", "a/z", vz.InvalidInputError),
        ("a", "vzarr://main@/a/b", vz.InvalidInputError),
        ("", "b", vz.InvalidInputError),
        ("", "c/d", vz.InvalidInputError),
        (["a/x", "b/x"], "c", vz.InvalidInputError),  # both would be c/x
        ("top", "a/x/below", vz.InvalidKeyError),
        ("a", "top", vz.InvalidKeyError),
        (["a/x", "top"], ["c", "a"], vz.InvalidKeyError),
        (["a/x", "a/y"], ["c", "c/d"], vz.InvalidKeyError),
        ("top", "c/../d", vz.InvalidKeyError),
        ("gone", "c", FileNotFoundError),
        (["a/x", "gone"], ["c", "d"], FileNotFoundError),
        ("gone*", "c", FileNotFoundError),
    ],
)
def test_a_move_that_would_lose_something_is_refused_as_a_whole(
    files: VersionedFileSystem, source: Any, target: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        files.mv(source, target, recursive=True)
    assert held(files) == VALUES


def test_a_folder_is_moved_only_with_all_in_it(files: VersionedFileSystem) -> None:
    with pytest.raises(IsADirectoryError, match="recursive"):
        files.mv("a", "c")
    assert held(files) == VALUES


def test_what_a_move_does_not_reach_stays(files: VersionedFileSystem) -> None:
    files.mv("a", "c", recursive=True, maxdepth=1)
    assert held(files) == {
        "c/x": b"1", "c/y": b"2", "a/z/w": b"3", "b/x": b"4", "top": b"5"
    }  # fmt: skip


@pytest.mark.parametrize("act", ["mv", "copy"])
def test_a_committed_folder_moves_without_its_values(tmp_path: Path, act: str) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="begin") as session:
        for number in range(500):
            session.write(f"a/{number}", b"%d" % number)
    files = VersionedFileSystem(repository.url, skip_instance_cache=True)
    getattr(files, act)("a", "c", recursive=True)
    journal = next((tmp_path / "r.vz").rglob(f"*{files.session.id}/journal"))
    assert journal.stat().st_size < 300
    files.cp_file("c/7", "seven")
    files.mv("c/8", "eight")
    assert files.cat(["seven", "eight", "c/9"]) == {"seven": b"7", "eight": b"8", "c/9": b"9"}
    assert files.exists("a/7") == (act == "copy")
    assert len(files.find("c")) == 499
    drafts = (tmp_path / "r.vz").rglob(f"*{files.session.id}/*.draft")
    assert sum(path.stat().st_size for path in drafts) < 300
    files.end_session(commit=False)


def test_values_move_at_once(files: VersionedFileSystem) -> None:
    files.mv(["a/x", "a/y"], ["a/y", "a/x"])
    assert held(files) == {**VALUES, "a/x": b"2", "a/y": b"1"}
    files.mv(["a/x", "a/y"], ["a/y", "new"])
    assert held(files) == {
        "a/y": b"2", "new": b"1", "a/z/w": b"3", "b/x": b"4", "top": b"5"
    }  # fmt: skip


SOURCES = ["a", "a/", "/a", "", "a/x", "a/*", "*", "a/z", "top", "b", "b/x", "gone", "a/?"]
TARGETS = ["a", "b", "c", "b/", "c/", "", "a/z", "a/new", "top", "a/x", "/b", "c/d"]


@given(st.data())
def test_no_value_is_lost_by_any_move(data: st.DataObject) -> None:
    repository = vz.create(f"memory://any-move-{uuid.uuid4().hex}")
    files = VersionedFileSystem(repository.url, skip_instance_cache=True)
    files.pipe(VALUES)
    sources = st.sampled_from(SOURCES)
    source = data.draw(sources | st.lists(sources, min_size=1, max_size=3))
    target = data.draw(st.sampled_from(TARGETS))
    options = {
        "recursive": data.draw(st.booleans()),
        "maxdepth": data.draw(st.sampled_from([None, 1, 2])),
    }
    try:
        files.mv(source, target, **options)
    except (OSError, ValueError):
        assert held(files) == VALUES
    after = held(files)
    overwritten = {VALUES[key] for key in VALUES if key in after and after[key] != VALUES[key]}
    assert set(VALUES.values()) - set(after.values()) <= overwritten
    assert len(after) + len(overwritten) == len(VALUES)
    files.end_session(commit=False)


@pytest.fixture
def model() -> Iterator[MemoryFileSystem]:
    """fsspec's own file system in memory, holding the same."""
    model = MemoryFileSystem()
    model.rm("/", recursive=True) if model.find("") else None
    model.pipe(VALUES)
    yield model
    model.rm("/", recursive=True)


@pytest.mark.parametrize("target", ["new", "new/", "there", "there/"])
@pytest.mark.parametrize("source", ["a", "a/", "", "a/z", "a/x", "a/*", "*", "top", "a/z/*"])
@pytest.mark.parametrize("maxdepth", [None, 1])
def test_copies_lie_as_those_of_fsspec(
    files: VersionedFileSystem,
    model: MemoryFileSystem,
    tmp_path: Path,
    source: str,
    target: str,
    maxdepth: int | None,
) -> None:
    out = {each: tmp_path / name for each, name in ((files, "ours"), (model, "theirs"))}
    for each, folder in out.items():
        (folder / "there").mkdir(parents=True)
        each.get(source, f"{folder}/{target}", recursive=True, maxdepth=maxdepth)
        each.pipe("there/own", b"")
        if source:  # a copy of all into a part of it has no end with others
            each.copy(source, target, recursive=True, maxdepth=maxdepth)
    ours, theirs = (
        {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in out.values()
    )
    assert ours == theirs
    assert held(files) == held(model)


def test_what_is_put_lies_as_with_fsspec(
    files: VersionedFileSystem, model: MemoryFileSystem, tmp_path: Path
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "f::1").write_bytes(b"x")
    for target in ("", "a", "new", "new/", "/"):
        for each in (files, model):
            each.put(str(tmp_path / "in"), target, recursive=True)
            each.put(str(tmp_path / "in"), f"{target.strip('/')}/l", recursive=True)
        assert held(files) == held(model)


# Removing


@pytest.mark.parametrize(
    ("path", "options", "gone"),
    [
        ("a/x", {}, {"a/x"}),
        ("a/[xy]", {}, {"a/x", "a/y"}),
        ("*/x", {}, {"a/x", "b/x"}),
        ("a/**/w", {}, {"a/z/w"}),
        ("?", {"recursive": True}, {"a/x", "a/y", "a/z/w", "b/x"}),
        (["a/x", "t*"], {}, {"a/x", "top"}),
        ("a", {"recursive": True}, {"a/x", "a/y", "a/z/w"}),
        ("a", {"recursive": True, "maxdepth": 1}, {"a/x", "a/y"}),
        ("", {"recursive": True, "maxdepth": 1}, {"top"}),
        ("", {"recursive": True, "maxdepth": 2}, {"top", "a/x", "a/y", "b/x"}),
        ("", {"recursive": True}, set(VALUES)),
        ("vzarr://main@/a/*", {"recursive": True}, {"a/x", "a/y", "a/z/w"}),
        ("*", {"recursive": True, "maxdepth": 2}, {"top", "a/x", "a/y", "b/x"}),
    ],
)
def test_what_is_removed(
    files: VersionedFileSystem, path: Any, options: dict[str, Any], gone: set[str]
) -> None:
    files.rm(path, **options)
    assert held(files) == {key: value for key, value in VALUES.items() if key not in gone}


@pytest.mark.parametrize(
    ("path", "options", "error"),
    [
        ("a", {}, IsADirectoryError),
        ("*", {}, IsADirectoryError),
        (["a/x", "gone"], {}, FileNotFoundError),
        (["a/x", "b"], {}, IsADirectoryError),
        ("gone*", {}, FileNotFoundError),
        ("gone", {"recursive": True}, FileNotFoundError),
        ("a", {"recursive": True, "maxdepth": 0}, ValueError),
    ],
)
def test_nothing_is_removed_where_not_all_can_be(
    files: VersionedFileSystem, path: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        files.rm(path, **options)
    assert held(files) == VALUES


def test_a_name_is_itself_before_it_is_a_pattern(files: VersionedFileSystem) -> None:
    files.pipe({"a/[x]": b"6", "a*/c": b"7"})
    files.rm("a/[x]")
    files.rm("a*", recursive=True)
    assert held(files) == VALUES
