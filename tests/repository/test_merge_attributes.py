"""Attributes merge key by key to any depth, and lists of named items item by item."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import zarr
from hypothesis import given
from zarr.abc.store import Store

import versioned_zarr as vz
from tests.repository.test_merge_nodes import forked
from versioned_zarr.engine.hierarchy.json_values import MISSING, same
from versioned_zarr.engine.hierarchy.merge.json_merge import FieldClash, field_name, merge_documents
from versioned_zarr.repository.repository import Repository

Json = Any
IMAGE: Json = {
    "version": "0.5",
    "multiscales": [
        {
            "name": "image",
            "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
            "datasets": [{"path": "0", "coordinateTransformations": [{"scale": [1, 1]}]}],
        }
    ],
    "omero": {
        "channels": [
            {"label": "DAPI", "color": "0000FF", "window": {"start": 0, "end": 100}},
            {"label": "GFP", "color": "00FF00", "window": {"start": 0, "end": 200}},
        ]
    },
    "labels": ["cells", "nuclei"],
}


def changed(value: Json, change: Callable[[Json], object]) -> Json:
    result = copy.deepcopy(value)
    change(result)
    return result


def merged(base: Json, ours: Json, theirs: Json) -> tuple[Json, list[FieldClash]]:
    """The attribute `a` of a merge, and the clashes, each of which is settled by ours."""
    clashes: list[FieldClash] = []

    def settle(clash: FieldClash) -> Any:
        clashes.append(clash)
        return clash.values[1]

    sides = [{} if side is MISSING else {"a": side} for side in (base, ours, theirs)]
    return merge_documents(".zattrs", *sides, settle).get("a", MISSING), clashes


def fields(clashes: list[FieldClash]) -> list[str]:
    return [field_name(clash.path) for clash in clashes]


def in_ome(version: int, change: Callable[[Json], object]) -> Callable[[Store], object]:
    """A change of what OME-Zarr keeps in the attributes of a group."""

    def step(store: Store) -> None:
        group = zarr.open_group(store, path="image", zarr_format=version, use_consolidated=False)
        group.attrs["ome"] = changed(group.attrs["ome"], change)

    return step


def images(version: int, *changes: Callable[[Json], object]) -> Repository:
    def base(store: Store) -> None:
        zarr.create_group(store, zarr_format=version)
        zarr.create_group(store, path="image", zarr_format=version, attributes={"ome": IMAGE})

    ours, theirs = (in_ome(version, change) for change in changes)
    return forked(base, ours, theirs)


def ome(repository: Repository, version: int) -> Json:
    store = repository.checkout().store
    return zarr.open_group(store, path="image", mode="r", zarr_format=version).attrs["ome"]


@pytest.mark.parametrize("version", [2, 3])
def test_what_lies_deep_merges_key_by_key(version: int) -> None:
    def ours(value: Json) -> None:
        value["omero"]["channels"][0]["color"] = "FFFFFF"
        value["labels"].append("mitochondria")
        value["rdefs"] = {"model": "color"}

    def theirs(value: Json) -> None:
        value["omero"]["channels"][0]["window"]["end"] = 50
        value["omero"]["channels"].append({"label": "RFP", "color": "FF0000"})
        value["multiscales"][0]["axes"][1]["unit"] = "micrometer"
        value["labels"].remove("cells")

    repository = images(version, ours, theirs)
    repository.merge("dev")
    found = ome(repository, version)
    assert found["omero"]["channels"] == [
        {"label": "DAPI", "color": "FFFFFF", "window": {"start": 0, "end": 50}},
        IMAGE["omero"]["channels"][1],
        {"label": "RFP", "color": "FF0000"},
    ]
    assert found["multiscales"][0]["axes"][1] == {
        "name": "x", "type": "space", "unit": "micrometer",
    }  # fmt: skip
    assert found["labels"] == ["nuclei", "mitochondria"]
    assert found["rdefs"] == {"model": "color"}


@pytest.mark.parametrize("version", [2, 3])
def test_a_conflict_names_the_inner_path_and_has_both_values_whole(version: int) -> None:
    def scale(*sizes: int) -> Callable[[Json], None]:
        def change(value: Json) -> None:
            value["multiscales"][0]["datasets"][0]["coordinateTransformations"] = [
                {"scale": list(sizes)}
            ]
            value["multiscales"][0][str(sizes[0])] = True

        return change

    ours, theirs = [2] * 300, [2] * 150 + [3] + [2] * 149
    repository = images(version, scale(*ours), scale(*theirs))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    start = "attributes.ome" if version == 3 else "ome"
    assert conflict.field == f"{start}.multiscales[name=image].datasets"
    assert conflict.kind is vz.ConflictKind.FIELD
    assert conflict.ours[0]["coordinateTransformations"] == [{"scale": ours}]
    assert conflict.theirs[0]["coordinateTransformations"] == [{"scale": theirs}]
    shown = str(conflict)
    assert len(shown) < 1_000
    assert "…" in shown
    one, other = shown.partition("ours ")[2].split(", theirs ")
    assert one != other.removesuffix(")")
    assert "3, 2" in other
    assert json.loads(json.dumps(conflict.to_dict()))["theirs"] == conflict.theirs


def test_short_values_are_shown_whole_and_as_they_are() -> None:
    def set_attribute(value: Any) -> Callable[[Store], object]:
        return lambda store: zarr.open_group(store).attrs.update({"a": value, "long": "x" * 150})

    cases: list[tuple[Any, Any, str]] = [
        ("1", 1, 'ours "1", theirs 1'),
        (None, "x", 'ours null, theirs "x"'),
        ("y" * 100, "z", f'ours "{"y" * 100}", theirs "z"'),
    ]
    for ours, theirs, text in cases:
        repository = forked(zarr.create_group, set_attribute(ours), set_attribute(theirs))
        with pytest.raises(vz.ConflictError) as caught:
            repository.merge("dev")
        assert f"base nothing, {text}" in str(caught.value.conflicts[0])


@given(st.text("ab", min_size=150, max_size=260), st.text("ab", min_size=150, max_size=260))
def test_values_that_differ_never_look_the_same(one: str, other: str) -> None:
    # In the middle of what is long, so that nothing but the middle tells them apart.
    sides = ["c" * 80 + middle + "c" * 80 for middle in (one, other)]
    conflict = vz.Conflict("x/.zattrs", vz.ConflictKind.FIELD, None, *sides, field="a")
    ours, theirs = str(conflict).partition("ours ")[2].split(", theirs ")
    assert (ours == theirs.removesuffix(")")) == (one == other)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "wanted"),
    [
        (["a", "b"], ["a", "b", "c"], ["a", "b", "d"], ["a", "b", "c", "d"]),
        (["a", "b"], ["x", "a", "b"], ["y", "a", "b"], ["x", "y", "a", "b"]),
        (["a", "b"], ["a", "x", "b"], ["b"], ["x", "b"]),
        (["a", "b"], ["a", "b", "c"], ["a", "c", "b"], ["a", "b", "c"]),
        (["a", "b", "c"], ["b", "c", "d"], ["a", "b", "c", "e"], ["b", "c", "d", "e"]),
        (["a", "b"], ["a2", "b"], ["a", "b2"], ["a2", "b2"]),
        ([], ["a"], ["b"], ["a", "b"]),
        # Not told apart, so one value.
        (["a"], ["b", "a"], ["a", "a"], None),
        ([1, 2], [1, 2, 3], [1, 2, 4], None),
        ([[1], [2]], [[1], [2], [3]], [[1]], None),
        ([{"n": 1}], [{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 3}], None),
        ([{"name": "a"}, "b"], [{"name": "a"}], ["b"], None),
        ([{"name": True}], [{"name": False}], [], None),
        # Put in another order, or other items in the place of the same one.
        (["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c", "d"], None),
        (["a", "b"], ["x", "b"], ["y", "b"], None),
        (MISSING, ["a"], ["b"], None),
        ({"a": 1}, ["a"], ["b"], None),
        ("a", ["a"], ["a", "b"], None),
    ],
)
def test_lists_merge_item_by_item_if_their_items_have_names(
    base: Json, ours: Json, theirs: Json, wanted: Json
) -> None:
    if wanted is None:
        _, clashes = merged(base, ours, theirs)
        assert [clash.values for clash in clashes] == [(base, ours, theirs)]
        return
    assert merged(base, ours, theirs) == (wanted, [])
    for key in ("name", "id"):
        named = [[{key: item, "v": 1} for item in side] for side in (base, ours, theirs, wanted)]
        assert merged(*named[:3]) == (named[3], [])


def test_an_item_that_one_side_removed_and_the_other_changed_is_a_conflict() -> None:
    base = [{"id": 1, "v": 1}, {"id": 2, "v": 1}]
    ours, theirs = [base[0]], [base[0], {"id": 2, "v": 2}]
    _, clashes = merged(base, ours, theirs)
    assert fields(clashes) == ["a[id=2]"]
    assert clashes[0].values == (base[1], MISSING, theirs[1])


def test_names_that_are_text_and_numbers_are_told_apart() -> None:
    base = [{"id": 1, "v": 0}, {"id": "1", "v": 0}]
    ours = [{"id": 1, "v": 1}, {"id": "1", "v": 0}]
    theirs = [{"id": 1, "v": 0}, {"id": "1", "v": 2}]
    assert merged(base, ours, theirs) == ([ours[0], theirs[1]], [])


def test_a_name_that_is_not_unique_leaves_the_identifier() -> None:
    base = [{"name": "a", "id": 1}, {"name": "a", "id": 2}]
    ours, theirs = [*base, {"name": "a", "id": 3}], [*base, {"name": "a", "id": 4}]
    assert merged(base, ours, theirs) == ([*ours, theirs[-1]], [])


def test_dimensions_of_a_v2_array_are_one_value() -> None:
    base, ours, theirs = ["y", "x"], ["lat", "x"], ["y", "lon"]
    clashes: list[FieldClash] = []
    sides = [{"_ARRAY_DIMENSIONS": side} for side in (base, ours, theirs)]
    merge_documents(".zattrs", *sides, clashes.append)
    assert fields(clashes) == ["_ARRAY_DIMENSIONS"]


def test_what_is_no_attribute_is_one_value() -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [2]}}
    sides: list[Json] = [
        {"chunk_grid": grid},
        {"chunk_grid": {**grid, "x": 1}},
        {"chunk_grid": {**grid, "y": 1}},
    ]
    clashes: list[FieldClash] = []
    merge_documents("zarr.json", *sides, clashes.append)
    assert fields(clashes) == ["chunk_grid"]


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.text("xy", max_size=2))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.lists(inner, max_size=2),
        st.lists(st.sampled_from("pqrs"), unique=True, max_size=4),
        st.lists(
            st.builds(
                lambda name, value: {"name": name, "v": value}, st.sampled_from("mno"), inner
            ),
            unique_by=lambda item: item["name"],
            max_size=3,
        ),
    ),
    max_leaves=8,
)
ATTRIBUTES = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@given(ATTRIBUTES, ATTRIBUTES, ATTRIBUTES)
def test_both_sides_see_the_same_conflicts_and_one_side_alone_is_taken(
    base: Json, ours: Json, theirs: Json
) -> None:
    found, clashes = merged(base, ours, theirs)
    _, mirrored = merged(base, theirs, ours)
    assert sorted(fields(clashes)) == sorted(fields(mirrored))
    assert same(merged(base, ours, base)[0], ours)
    assert same(merged(base, base, theirs)[0], theirs)
    assert same(merged(base, ours, ours)[0], ours)
    # Of what is merged nothing comes from nowhere.
    if not clashes:
        assert leaves(found) <= leaves(base) | leaves(ours) | leaves(theirs)


def leaves(value: Json) -> set[str]:
    if isinstance(value, dict):
        return {leaf for each in value.values() for leaf in leaves(each)}
    if isinstance(value, list):
        return {leaf for each in value for leaf in leaves(each)}
    return {json.dumps(value)}


NAMES = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=6)


@given(NAMES, st.sets(st.sampled_from("abcdefg")), st.sets(st.sampled_from("abcdefg")))
def test_lists_of_names_merge_as_sets_do(base: list[str], ours: set[str], theirs: set[str]) -> None:
    def side(names: set[str]) -> list[str]:
        # What stays keeps its order; what is new comes last.
        return [*(n for n in base if n in names), *sorted(n for n in names if n not in base)]

    found, clashes = merged(base, side(ours), side(theirs))
    if not clashes and ours != theirs:
        both = ours & theirs
        before = set(base)
        assert set(found) == both | (ours - before) | (theirs - before)
        assert len(found) == len(set(found))
        assert [n for n in found if n in before] == [n for n in base if n in both]


def test_a_document_that_is_nested_deeply_merges() -> None:
    value: Json = {}
    for _ in range(150):
        value = {"a": value}

    def deepest(inner: Json, key: str) -> None:
        while inner:
            inner = inner["a"]
        inner[key] = 1

    ours, theirs = (changed(value, lambda v, key=key: deepest(v, key)) for key in "xy")
    found, clashes = merged(value, ours, theirs)
    while "a" in found:
        found = found["a"]
    assert (found, clashes) == ({"x": 1, "y": 1}, [])


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
def test_nested_attributes_are_copied_into_consolidated_metadata(version: int) -> None:
    def consolidated(change: Callable[[Json], object]) -> Callable[[Store], object]:
        def step(store: Store) -> None:
            in_ome(version, change)(store)
            zarr.consolidate_metadata(store, zarr_format=version)

        return step

    def base(store: Store) -> None:
        zarr.create_group(store, zarr_format=version)
        zarr.create_group(store, path="image", zarr_format=version, attributes={"ome": IMAGE})
        zarr.consolidate_metadata(store, zarr_format=version)

    repository = forked(
        base,
        consolidated(lambda value: value["labels"].append("a")),
        consolidated(lambda value: value["omero"].update(b=1)),
    )
    repository.merge("dev")
    store = repository.checkout().store.with_consolidated_metadata()
    for is_used in (True, False):
        root = zarr.open_group(store, mode="r", zarr_format=version, use_consolidated=is_used)
        found = root["image"].attrs["ome"]
        assert found["labels"] == ["cells", "nuclei", "a"]
        assert found["omero"]["b"] == 1
