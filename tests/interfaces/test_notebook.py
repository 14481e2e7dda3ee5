"""What a notebook shows is well-formed, escaped, bounded, and needs nothing from outside."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz
from versioned_zarr.engine.hierarchy.diff import Diff
from versioned_zarr.engine.hierarchy.node_diff import ChunkChange
from versioned_zarr.history.log import Log
from versioned_zarr.interfaces.display import html, svg
from versioned_zarr.interfaces.display.graph import rows, text_lines
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.diff_tree import KeyChange

EVIL = "<script>alert('x')</script> & \"quotes\" \x00\ud800"
SAFE = "&lt;script&gt;"
TIMES = "\N{MULTIPLICATION SIGN}"


def parsed(shown: Any) -> ET.Element:
    """The HTML of something, read by a parser that forgives nothing."""
    text = shown if isinstance(shown, str) else shown._repr_html_()
    root = ET.fromstring(text)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "link", "img", "iframe", "a"}
    without_namespace = text.replace("http://www.w3.org/2000/svg", "")
    assert "://" not in re.sub(r"(file|memory)://", "", without_namespace)
    return root


def words(shown: Any) -> str:
    return "".join(parsed(shown).itertext())


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    """Two branches that were merged, and a third on its way."""
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="Add t") as session:
        group = zarr.create_group(session.store)
        group.create_array("t", shape=(40, 60), chunks=(10, 10), dtype="f4")
        group.create_array("scalar", shape=(), dtype="i4")
    repository.branches.create("side")
    with repository.session("side", message="Write a corner") as session:
        zarr.open_array(session.store, path="t")[:10, :20] = 1
    with repository.session(message="Say what t is") as session:
        zarr.open_group(session.store).require_group("more").attrs["about"] = EVIL[:-1]
        zarr.open_array(session.store, path="t").attrs["units"] = "K"
    repository.merge("side")
    repository.tags.create("v1")
    return repository


def test_a_repository_shows_its_refs_and_its_history(repository: vz.Repository) -> None:
    shown = words(repository)
    for expected in (repository.url, "main", "side", "v1", "Merge 'side' into 'main'"):
        assert expected in shown


def test_a_repository_shows_what_was_left_behind(repository: vz.Repository) -> None:
    session = repository.session()
    session.write("notes", b"x")
    assert session.id in words(repository)


def test_a_diff_tells_null_from_nothing(repository: vz.Repository) -> None:
    with repository.session(message="null") as session:
        zarr.open_array(session.store, path="t").attrs["reference"] = None
    assert "attributes.reference\N{EN DASH}\N{RIGHTWARDS ARROW}null" in words(
        repository.diff("main")
    )


def test_a_commit_shows_all_it_says(repository: vz.Repository) -> None:
    with repository.session() as session:
        session.write("k", b"v")
        commit = session.commit("Why\n\nAt length.", author="A <a@b.c>", metadata={"run": [1, 2]})
    shown = words(commit)
    for expected in ("Why", "At length.", "A <a@b.c>", "run", "[1, 2]", commit.cid, commit.tree):
        assert expected in shown
    assert all(parent in shown for parent in commit.parents)


def test_a_snapshot_shows_its_nodes(repository: vz.Repository) -> None:
    shown = words(repository.checkout())
    for expected in (
        repository.checkout().cid,
        "scalar",
        f"40 {TIMES} 60",
        f"10 {TIMES} 10",
        "float32",
        "units",
    ):
        assert expected in shown


def test_a_snapshot_without_zarr_shows_its_keys(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    assert "empty" in words(repository.checkout())
    with repository.session(message="notes") as session:
        session.write("folder/notes.txt", b"x")
    assert "folder" in words(repository.checkout())
    assert "notes.txt" in words(repository.checkout().path("folder"))


def test_a_session_shows_what_it_changed(repository: vz.Repository) -> None:
    session = repository.session()
    assert "no differences" in words(session)
    zarr.open_array(session.store, path="t")[35:, 55:] = 3
    assert "1 added" in words(session)
    session.discard()
    assert "was discarded" in words(session)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_diff_shows_fields_and_a_map_of_chunks(tmp_path: Path, zarr_format: Any) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="Before") as session:
        options = {"shape": (4, 6), "chunks": (1, 1), "zarr_format": zarr_format}
        array = zarr.create_array(session.store, name="a", dtype="i2", **options)
        array[:] = 1
    with repository.session(message="After") as session:
        array = zarr.open_array(session.store, path="a")
        array[0, 0] = 2
        array.attrs["long_name"] = "x" * 1000
        session.write("stray", b"")
    diff = repository.diff("main")
    shown = words(diff)
    assert f"1 of 24 chunks (4 {TIMES} 6) differ" in shown
    assert "attributes.long_name" in shown
    assert "stray" in shown
    assert "x" * 500 not in shown
    painted = [e.get("d") for e in parsed(diff).iter() if e.get("fill") == "#cf8a1c"]
    assert painted == ["M0 0h14v14h-14z"]


def test_a_moved_node_is_shown_as_one(repository: vz.Repository) -> None:
    with repository.session(message="Move") as session:
        for key in list(session.keys("t")):
            session.write(f"renamed{key[1:]}", session.read(key))
            session.delete(key)
    diff = repository.diff("main")
    assert "t → renamed" in words(diff)
    assert "chunks" not in words(diff)


def test_markup_in_what_users_wrote_is_shown_as_text(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "<b>.vz")
    evil = EVIL.replace("\ud800", "")
    session = repository.session()
    session.write("<i>key</i>", b"x")
    group = zarr.create_group(session.store)
    group.attrs["<script>"] = evil
    assert "<script" not in session._repr_html_()
    commit = session.commit(evil, author=evil, metadata={evil: evil})
    repository.branches.create("<img>")
    for shown in (
        repository,
        commit,
        repository.log(),
        repository.checkout(),
        repository.diff("main"),
    ):
        text = shown._repr_html_()
        assert "<script" not in text
        assert "<b>" not in text
        assert "<i>" not in text
        assert "<img" not in text
        parsed(text)
    assert SAFE in commit._repr_html_()


@given(st.text(st.characters()))
def test_any_text_can_be_shown(text: str) -> None:
    root = ET.fromstring(html.element("p", text, title=text).encode())
    assert not list(root)


def test_a_log_is_shown_without_being_used_up(repository: vz.Repository) -> None:
    log = repository.log()
    assert "Write a corner" in words(log)
    assert "Write a corner" in str(log)
    assert len(list(log)) == 5
    assert "Write a corner" in str(log)


def test_a_log_draws_a_dot_for_each_commit_and_a_line_to_each_parent(
    repository: vz.Repository,
) -> None:
    root = parsed(repository.log())
    commits = list(repository.log())
    dots = [element for element in root.iter() if element.tag.endswith("circle")]
    lines = [element for element in root.iter() if element.tag.endswith("path")]
    assert len(dots) == len(commits)
    assert len(lines) >= sum(len(commit.parents) for commit in commits)


def test_the_graph_as_text_is_drawn_as_git_draws_it(repository: vz.Repository) -> None:
    drawn = [drawing for drawing, _ in text_lines(repository.log())]
    assert drawn == ["*", "|\\", "* |", "| *", "|/", "*", "*"]


def test_a_log_of_a_path_has_no_side_lines(repository: vz.Repository) -> None:
    drawn = [drawing for drawing, _ in text_lines(repository.log(path="t"), is_linear=True)]
    assert drawn == ["*"] * len(drawn)
    assert "\n* " in str(repository.log(path="t"))
    parsed(repository.log(path="t"))


@given(st.lists(st.lists(st.integers(1, 8), max_size=3, unique=True), max_size=40))
def test_every_line_of_a_graph_leads_from_a_commit_to_its_parent(steps: list[list[int]]) -> None:
    commits = [commit(at, [at + step for step in back]) for at, back in enumerate(steps)]
    laid_out = rows(commits)
    waiting: dict[int, set[str]] = {}
    for row in laid_out:
        assert row.width > row.lane
        here = waiting.pop(row.lane, set())
        assert here <= {row.commit.cid}
        below: dict[int, set[str]] = {}
        for start, end in row.lines:
            passing = waiting.get(start, set()) if start != row.lane else set()
            below.setdefault(end, set()).update(passing)
        for parent in row.commit.parents:
            ends = [end for start, end in row.lines if start == row.lane]
            assert any(below[end] <= {parent} for end in ends)
            next(below[end] for end in ends if below[end] <= {parent}).add(parent)
        waiting = below
    assert len(text_lines(commits)) >= len(commits)


def commit(number: int, parents: list[int]) -> vz.Commit:
    names = tuple(f"c{parent}" for parent in parents)
    return vz.Commit(f"c{number}", "t", names, "me", datetime.now(UTC), f"commit {number}")


def test_a_long_log_is_cut_off() -> None:
    commits = [commit(number, [number + 1]) for number in range(10_000)]
    log = Log(lambda: iter(commits), title="x" * 10)
    assert len(log._repr_html_()) < 60_000
    assert str(log).endswith("\n…")
    assert len(str(log)) < 10_000


def wide(count: int) -> list[vz.Commit]:
    """A commit with many parents, each with a past of its own."""
    return [commit(0, list(range(1, count))), *(commit(n, [n + count]) for n in range(1, count))]


def test_a_graph_of_many_lanes_is_cut_off() -> None:
    log = Log(lambda: iter(wide(60)))
    assert len(log._repr_html_()) < 300_000
    parsed(log)


@pytest.mark.parametrize(
    "grid", [(), (1,), (7,), (100_000,), (3, 5), (1000, 1000), (2, 3, 4), (0, 5), (5, 0)]
)
def test_a_map_of_chunks_is_bounded(grid: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    count = min(100_000, int(np.prod(grid)))
    coordinates = zip(*(random.integers(0, size, count) for size in grid if size), strict=True)
    hows = ("added", "changed", "removed")
    chunks = [ChunkChange("k", tuple(map(int, c)), hows[n % 3]) for n, c in enumerate(coordinates)]
    drawn = svg.chunk_map(chunks, grid)
    assert len(drawn) < 40_000
    width, height = size_of(drawn)
    assert width <= 700
    assert height <= 400


def test_a_map_shows_one_chunk_among_a_million() -> None:
    drawn = svg.chunk_map([ChunkChange("k", (500, 999), "changed")], (1000, 1000))
    assert html.AMBER in drawn
    assert "1 of 1,000,000 chunks" in drawn


def test_a_map_shows_chunks_that_an_array_lost() -> None:
    gone = [ChunkChange("k", (0, 9), "removed")]
    assert size_of(svg.chunk_map(gone, (1, 2))) == (10 * 14 + 1, 14 + 1)


def test_a_map_leaves_out_dimensions_of_one_chunk() -> None:
    changed = [ChunkChange("k", (0, 2, 0, 1), "added")]
    assert size_of(svg.chunk_map(changed, (1, 3, 1, 4))) == (4 * 14 + 1, 3 * 14 + 1)


def test_a_map_shows_chunks_of_both_ranks_of_an_array_that_was_replaced() -> None:
    changed = [ChunkChange("k", (0, 2, 0), "removed"), ChunkChange("k", (1,), "added")]
    for grid in ((3,), (1, 3, 4), ()):
        ET.fromstring(svg.chunk_map(changed, grid))


def size_of(drawn: str) -> tuple[float, float]:
    svg = next(element for element in ET.fromstring(drawn).iter() if element.tag.endswith("svg"))
    return float(svg.get("width", 0)), float(svg.get("height", 0))


def huge_diff(arrays: int, chunks: int, make: Callable[[int, int], str]) -> Diff:
    document = json.dumps(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [1000, 1000],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1]}},
            "chunk_key_encoding": {"name": "default"},
            "data_type": "int8",
            "codecs": [],
            "attributes": {},
        }
    ).encode()

    def read(key: str) -> bytes | None:
        return document if re.fullmatch(r"[^/]+/zarr\.json", key) else None

    link = Link("", Cid(b"\x01\x55\x12\x20" + bytes(32)), 1)
    keys = [make(array, chunk) for array in range(arrays) for chunk in range(chunks)]
    return Diff(
        [KeyChange(key, None, link) for key in keys],
        read_old=read,
        read_new=read,
        old_name="old",
        new_name="new",
    )


@pytest.mark.slow
def test_a_diff_of_a_hundred_thousand_chunks_is_bounded() -> None:
    diff = huge_diff(1, 100_000, lambda a, c: f"a/c/{c // 1000}/{c % 1000}")
    assert "100000 added" in words(diff)
    assert len(diff._repr_html_()) < 50_000


def test_a_diff_of_many_arrays_is_bounded() -> None:
    diff = huge_diff(500, 50, lambda a, c: f"a{a}/c/{c * 20}/{c * 20}")
    assert "460 more nodes" in words(diff)
    assert len(diff._repr_html_()) < 300_000


def test_what_html_shows_is_printed_too(repository: vz.Repository) -> None:
    left = repository.session()
    left.write("notes", b"x")
    printed = str(repository)
    for expected in (repository.url, "main", "side", "v1", "Merge 'side' into 'main'", left.id):
        assert expected in printed
    printed = str(repository.checkout())
    for expected in (repository.checkout().cid, "scalar", f"40 {TIMES} 60", "float32"):
        assert expected in printed
    assert "notes" in str(left)
    left.discard()
    assert "discarded" in str(left)
    assert str(vz.create(f"memory://{uuid.uuid4()}").checkout()).count("\n") == 1


def test_print_gives_something_to_read(repository: vz.Repository) -> None:
    session = repository.session()
    for shown in (repository, session, repository.checkout(), repository.diff("main")):
        assert re.match(r"<[A-Z]\w+ .*>$", repr(shown))
    assert str(next(repository.log())).startswith("commit bafy")
    assert "added" in str(repository.diff("main~1^1~1", "side"))


def test_the_axes_of_a_map_have_names_and_numbers() -> None:
    changed = [ChunkChange("k", (3, 0, 5, 7), "changed")]
    drawn = svg.chunk_map(changed, (12, 1, 6, 8), ("time", "level", "lat", "lon"))
    texts = [element.text for element in parsed(drawn).iter() if element.tag.endswith("}text")]
    assert texts == ["lat", "0", "5", "time", "0", "11"]
    evil = svg.chunk_map(changed, (12, 1, 6, 8), (EVIL * 9, "b", EVIL, "d"))
    assert SAFE[:8] in evil
    single = svg.chunk_map([ChunkChange("k", (0,), "added")], (2,), ("station",))
    assert [e.text for e in parsed(single).iter() if e.tag.endswith("}text")] == ["station"]


def test_a_snapshot_names_dimensions_and_sizes_and_leaves_out_noise(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "named.vz")
    with repository.session(message="data") as session:
        array = zarr.create_array(
            session.store, name="t", shape=(24, 8), chunks=(4, 8), dtype="f4", compressors=None,
            dimension_names=("time", "x"), attributes={"units": "K", "_FillValue": 1},
        )  # fmt: skip
        array[:] = 1
    shown = words(repository.checkout())
    assert "time 24, x 8" in shown
    assert "time 24, x 8" in str(repository.checkout())
    assert "float322.1 kB" in shown  # 768 bytes, the metadata and the nodes of the tree
    assert "units" in shown
    assert "_FillValue" not in shown


def test_times_are_local_and_name_their_zone(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        commit = repository.branches["main"]
        here = commit.time.astimezone()
        assert f"{here:%H:%M:%S} XYZ" in words(commit)
        assert f"{here:%H:%M:%S} XYZ" in str(commit)
        assert here.utcoffset().total_seconds() == 5.5 * 3600
    finally:
        monkeypatch.undo()
        time.tzset()
