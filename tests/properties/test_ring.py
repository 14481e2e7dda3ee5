"""Repositories that are moved around a ring of backends come back as they were."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

import versioned_zarr as vz
from tests.servers.daemon import Daemon

KEYS = st.sampled_from([f"{a}/c/{b}" for a in "xy" for b in range(6)] + ["zarr.json", "ü/ß"])
VALUES = st.one_of(st.binary(max_size=6), st.integers(0, 2).map(lambda n: bytes([n]) * 1_100_000))
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), VALUES), max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from(["main", "dev"]), CHANGES),
        st.tuples(st.just("merge"), st.sampled_from(["main", "dev"]), st.none()),
        st.tuples(st.just("tag"), st.sampled_from(["main", "dev"]), st.none()),
        st.tuples(st.just("round"), st.sampled_from(["push", "pull", "bundle"]), st.none()),
    ),
    max_size=12,
)


def play(repository: vz.Repository, step: str, branch: str, changes: dict | None) -> None:
    if step == "commit":
        session = repository.session(branch)
        for key, value in (changes or {}).items():
            if value is not None:
                session.mapping[key] = value
            else:
                session.mapping.pop(key, None)
        session.commit("changed", allow_empty=True)
    elif step == "merge":
        other = {"main": "dev", "dev": "main"}[branch]
        repository.merge(other, into=branch, resolve="ours")
    elif step == "tag":
        repository.tags.create(f"t{len(repository.tags)}", branch)


def hand_on(source: vz.Repository, target: vz.Repository, way: str, folder: Path) -> None:
    """Bring `target`, whose branches are in the past of those of `source`, to where that is."""
    if way == "push":
        source.push(target.url)
    elif way == "pull":
        target.pull(source.url, ["main", "dev"])
        target.fetch(source.url)
    else:
        for branch in ("main", "dev"):
            source.export_car(branch, folder / "bundle.car", history=True, since=None)
            target.import_car(folder / "bundle.car", as_branch=branch)
        target.fetch(source.url)  # tags are no part of a bundle


def says(repository: vz.Repository) -> dict[str, object]:
    """All that may not change on the way."""
    found: dict[str, object] = {}
    for branch in repository.branches:
        commits = [commit.to_dict() for commit in repository.log(branch)]
        found[branch] = commits
        found[f"{branch}: diffs"] = [repository.diff(each["cid"]).to_dict() for each in commits]
        found[f"{branch}: values"] = {
            key: bytes(value) for key, value in repository.checkout(branch).mapping.items()
        }
    found["tags"] = {name: commit.cid for name, commit in repository.tags.items()}
    return found


@pytest.mark.slow
@settings(max_examples=25)
@given(steps=STEPS)
def test_a_repository_comes_round_as_it_was(steps: list[tuple]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        goes_round(steps, folder, [folder / "a.vz", f"memory://{uuid.uuid4()}", folder / "b.vz"])
    finally:
        shutil.rmtree(folder)


@pytest.mark.compat
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_a_repository_comes_round_by_ipfs_nodes(node: Daemon, steps: list[tuple]) -> None:
    folder = Path(tempfile.mkdtemp())
    before = os.environ.get("VERSIONED_ZARR_HOME")
    os.environ["VERSIONED_ZARR_HOME"] = str(folder / "home")
    try:
        places = [f"{node.url}/{uuid.uuid4()}" for _ in range(2)]
        goes_round(steps, folder, [places[0], folder / "a.vz", places[1]])
    finally:
        if before is None:
            del os.environ["VERSIONED_ZARR_HOME"]
        else:
            os.environ["VERSIONED_ZARR_HOME"] = before
        shutil.rmtree(folder)


def goes_round(steps: list[tuple], folder: Path, places: list[Path | str]) -> None:
    """Take the steps in a ring of a repository in memory and its clones; check all after each."""
    first = vz.create(f"memory://{uuid.uuid4()}")
    first.branches.create("dev")
    ring = [first]
    for place in places:
        ring.append(vz.clone(ring[-1].url, place))
    at = 0
    for step, name, changes in [*steps, ("round", "push", None), ("round", "pull", None)]:
        if step != "round":
            play(ring[at], step, name, changes)
            continue
        # Each change is made elsewhere than the last, once all have the last.
        for number in range(len(ring) - 1):
            source, target = (ring[(at + number + plus) % len(ring)] for plus in (0, 1))
            hand_on(source, target, name, folder)
        expected = says(ring[at])
        assert all(says(each) == expected for each in ring)
        at = (at + 1) % len(ring)
    assert all(each.fsck().is_clean for each in ring)
