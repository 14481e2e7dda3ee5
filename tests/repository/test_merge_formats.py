"""Documents of both Zarr formats at one path are one node, to a merge and to a diff."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store

import versioned_zarr as vz
from tests.repository.test_merge_nodes import forked
from versioned_zarr.repository.repository import Repository

migrate_v3 = pytest.importorskip("zarr.metadata.migrate_v3")
Change = Callable[[Store], object]


def base(store: Store) -> None:
    """A v2 group `g` with an array `g/a` of 4 numbers and one `g/b`."""
    root = zarr.create_group(store, zarr_format=2)
    group = root.create_group("g", attributes={"title": "t"})
    for name in "ab":
        array = group.create_array(
            name, shape=(4,), chunks=(2,), dtype="i4", fill_value=0, attributes={"u": "K"}
        )
        array[:] = [1, 2, 3, 4]


def migrate(store: Store) -> None:
    """Add documents of format 3 beside those of format 2."""
    migrate_v3.migrate_v2_to_v3(input_store=store)


def replace(store: Store) -> None:
    """Put documents of format 3 in the place of those of format 2."""
    migrate(store)
    mapping = store._view.mapping
    for key in [key for key in mapping if key.rpartition("/")[2].startswith(".z")]:
        del mapping[key]


def v2(change: Callable[[Any], object], path: str = "g/a") -> Change:
    return lambda store: change(zarr.open(store, path=path, zarr_format=2))


def v3(change: Callable[[Any], object], path: str = "g/a") -> Change:
    return lambda store: change(zarr.open(store, path=path, zarr_format=3))


def both(*changes: Change) -> Change:
    def change(store: Store) -> None:
        for each in changes:
            each(store)

    return change


def fill(store: Store) -> None:
    mapping = store._view.mapping
    document = {**json.loads(mapping["g/a/.zarray"]), "fill_value": 7}
    mapping["g/a/.zarray"] = json.dumps(document).encode()


def described(repository: Repository, version: int, path: str = "g/a") -> Any:
    node = zarr.open(repository.checkout().store, path=path, mode="r", zarr_format=version)
    found: list[Any] = [dict(node.attrs)]
    if path != "g":
        found += [node.shape, node[:].tolist(), int(node.fill_value or 0)]
    return found


def paths(repository: Repository) -> list[str]:
    """The paths of the conflicts, which merging in the other direction has as well."""
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    with pytest.raises(vz.ConflictError) as turned:
        repository.merge("main", into="dev")
    found = [conflict.path for conflict in caught.value.conflicts]
    assert found == [conflict.path for conflict in turned.value.conflicts]
    return found


CHANGES: dict[str, Change] = {
    "append": v2(lambda array: array.append(np.array([5, 6], "i4"))),
    "grow": v2(lambda array: array.resize((9,))),
    "shrink": v2(lambda array: array.resize((2,))),
    "attribute": v2(lambda array: array.attrs.update(u="C")),
    "attribute removed": v2(lambda array: array.attrs.put({})),
    "fill value": fill,
    "attribute and migrated": both(v2(lambda array: array.attrs.update(u="C")), migrate),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_migration_and_a_change_of_what_was_migrated_conflict(change: str, side: str) -> None:
    repository = forked(base, migrate, CHANGES[change])
    assert paths(repository) == ["g/a"]
    repository.merge("dev", resolve=side)
    names = set(repository.checkout().list_dir("g/a"))
    is_migrated = side == "ours" or change == "attribute and migrated"
    assert ("zarr.json" in names) == is_migrated
    if is_migrated:
        assert described(repository, 2) == described(repository, 3)
    assert described(repository, 2, "g/b") == described(repository, 3, "g/b")


@pytest.mark.parametrize("change", CHANGES)
def test_sessions_conflict_alike(change: str) -> None:
    for changes in ((migrate, CHANGES[change]), (CHANGES[change], migrate)):
        repository = vz.create(f"memory://{uuid.uuid4()}")
        with repository.session(message="base") as session:
            base(session.store)
        sessions = repository.session(), repository.session()
        for session, step in zip(sessions, changes, strict=True):
            step(session.store)
        sessions[0].commit("one")
        with pytest.raises(vz.ConflictError) as caught:
            sessions[1].commit("other")
        assert [each.path for each in caught.value.conflicts] == ["g/a"]


def test_the_attributes_of_a_group_conflict_and_what_is_in_it_merges() -> None:
    change = both(
        v2(lambda group: group.attrs.update(title="new"), "g"),
        v2(lambda array: array.__setitem__(0, 9), "g/b"),
    )
    repository = forked(base, both(migrate, v3(lambda a: a.__setitem__(3, 8))), change)
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    assert (conflict.path, conflict.kind) == ("g", vz.ConflictKind.FORMATS)
    assert conflict.fields == ("zarr.json", ".zattrs")
    assert ".zattrs" in str(conflict)
    repository.merge("dev", resolve={"g": "ours"})
    assert described(repository, 2, "g") == described(repository, 3, "g") == [{"title": "t"}]
    assert described(repository, 3)[2] == [1, 2, 3, 8]
    assert described(repository, 3, "g/b")[2] == [9, 2, 3, 4]


@pytest.mark.parametrize("step", [migrate, replace])
def test_a_node_added_in_the_old_format_is_not_out_of_sight_in_silence(step: Change) -> None:
    def add(store: Store) -> None:
        group = zarr.open_group(store, path="g", zarr_format=2)
        group.create_array("new", shape=(2,), chunks=(2,), dtype="i4")[:] = 1

    repository = forked(base, step, add)
    assert paths(repository) == ["g/new"]
    repository.merge("dev", resolve="theirs")
    assert "g/new/.zarray" in set(repository.checkout().mapping)


def test_chunks_go_together_with_a_migration() -> None:
    repository = forked(base, migrate, v2(lambda array: array.__setitem__(0, 9)))
    repository.merge("dev")
    assert described(repository, 2) == described(repository, 3)
    assert described(repository, 3)[2] == [9, 2, 3, 4]


def test_a_migration_and_another_node_go_together() -> None:
    repository = forked(base, migrate, lambda store: zarr.create_group(store, path="other"))
    repository.merge("dev")
    assert described(repository, 2) == described(repository, 3)


def test_a_change_that_both_made_alike_goes_together_with_a_migration() -> None:
    change = v2(lambda array: array.attrs.update(u="C"))
    repository = forked(base, change, both(change, migrate))
    repository.merge("dev")
    assert described(repository, 2) == described(repository, 3)
    assert described(repository, 3)[0] == {"u": "C"}


def test_a_migration_that_replaced_the_documents_conflicts_with_their_change() -> None:
    repository = forked(base, replace, v2(lambda array: array.attrs.update(u="C")))
    assert paths(repository) == ["g/a"]
    repository = forked(base, replace, v2(lambda group: group.attrs.update(title="new"), "g"))
    assert paths(repository) == ["g"]


@pytest.mark.parametrize("dropped", [".z", "zarr.json"])
def test_chunks_go_together_with_documents_of_one_format_that_were_dropped(dropped: str) -> None:
    def drop(store: Store) -> None:
        mapping = store._view.mapping
        for key in [key for key in mapping if key.rpartition("/")[2].startswith(dropped)]:
            del mapping[key]

    repository = forked(both(base, migrate), drop, v2(lambda array: array.__setitem__(0, 9)))
    repository.merge("dev")
    left = 3 if dropped == ".z" else 2
    assert described(repository, left)[2] == [9, 2, 3, 4]
    change = v2(lambda array: array.attrs.update(n=1))
    assert paths(forked(both(base, migrate), drop, change)) == ["g/a"]


def test_documents_of_both_formats_that_both_sides_changed_together_merge() -> None:
    def in_both(**attributes: Any) -> Change:
        return both(
            v2(lambda array: array.attrs.update(attributes)),
            v3(lambda array: array.attrs.update(attributes)),
        )

    repository = forked(both(base, migrate), in_both(one=1), in_both(two=2))
    repository.merge("dev")
    assert described(repository, 2) == described(repository, 3)
    assert described(repository, 3)[0] == {"u": "K", "one": 1, "two": 2}
    repository = forked(both(base, migrate), in_both(one=1), v2(lambda a: a.attrs.update(two=2)))
    assert paths(repository) == ["g/a"]


def test_two_migrations_of_what_no_longer_was_the_same_conflict() -> None:
    # An attribute that one side removed would come back in zarr.json alone, which has no base.
    removed = both(v2(lambda array: array.attrs.put({})), migrate)
    repository = forked(base, removed, both(v2(lambda array: array.attrs.update(n=1)), migrate))
    assert paths(repository) == ["g/a"]


@pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:Object at")
def test_consolidated_metadata_alone_is_no_change_of_a_node() -> None:
    def consolidate(store: Store) -> None:
        zarr.consolidate_metadata(store, zarr_format=3)

    def ours(store: Store) -> None:
        v3(lambda array: array.attrs.update(n=1))(store)
        consolidate(store)

    repository = forked(
        both(base, migrate, consolidate), ours, v2(lambda group: group.attrs.update(new=1), "")
    )
    repository.merge("dev")
    assert described(repository, 3)[0] == {"u": "K", "n": 1}


# What a diff says


def compared(*changes: Change) -> vz.Diff:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    for change in changes:
        with repository.session(message="change") as session:
            change(session.store)
    return repository.diff("main")


def test_a_diff_shows_a_migrated_node_once_and_its_formats() -> None:
    diff = compared(base, migrate)
    assert diff.nodes_changed == ["", "g", "g/a", "g/b"]
    assert diff.nodes_added == diff.nodes_removed == []
    assert diff.other_keys == []
    assert diff.nodes["g/a"].fields == {"zarr_format": (2, [2, 3])}
    assert "zarr_format: 2 -> [2, 3]" in str(diff)
    assert diff.nodes["g"].fields == {"zarr_format": (2, [2, 3])}


def test_a_diff_shows_what_else_changed_with_a_migration() -> None:
    diff = compared(base, both(v2(lambda array: array.attrs.update(u="C")), migrate))
    assert diff.nodes["g/a"].fields == {
        "attributes.u": ("K", "C"), "zarr_format": (2, [2, 3]),
    }  # fmt: skip
    diff = compared(base, both(migrate, v3(lambda array: array.attrs.update(u="C"))))
    assert diff.nodes["g/a"].fields == {
        "attributes.u": ("K", "C"), "zarr_format": (2, [2, 3]),
    }  # fmt: skip


def test_a_diff_shows_documents_that_no_longer_agree() -> None:
    change = v2(lambda array: array.attrs.update(u="C"))
    diff = compared(both(base, migrate), change)
    assert diff.nodes["g/a"].fields == {"v2.attributes.u": ("K", "C")}
    alike = both(change, v3(lambda array: array.attrs.update(u="C")))
    assert compared(both(base, migrate), alike).nodes["g/a"].fields == {"attributes.u": ("K", "C")}
    grown = v2(lambda array: array.append(np.array([5, 6], "i4")))
    node = compared(both(base, migrate), grown).nodes["g/a"]
    assert node.fields == {"v2.shape": ([4], [6])}
    assert [chunk.coordinates for chunk in node.chunks] == [(2,)]


def test_a_diff_shows_documents_that_were_replaced() -> None:
    diff = compared(base, replace)
    node = diff.nodes["g/a"]
    assert node.how == "changed"
    assert node.fields["zarr_format"] == (2, 3)
    assert "shape" not in node.fields
    assert not [name for name in node.fields if name.startswith("attributes.")]
