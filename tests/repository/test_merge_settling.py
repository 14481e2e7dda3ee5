"""How conflicts are told, by kind and one an array, and how they are settled by values."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import zarr
from zarr.abc.store import Store

import versioned_zarr as vz
from tests.repository.test_merge_nodes import forked, values
from versioned_zarr.repository.repository import Repository

Change = Callable[[Store], object]


@pytest.fixture(params=[2, 3], ids=["v2", "v3"])
def version(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def base(version: int) -> Change:
    def make(store: Store) -> None:
        zarr.create_group(store, zarr_format=version)
        made = zarr.create_array(
            store, name="x", shape=(40,), chunks=(2,), dtype="i4", zarr_format=version,
            attributes={"a": {"n": 0, "m": [1, 2]}},
        )  # fmt: skip
        made[:] = 1

    return make


def write(start: int, end: int, value: int) -> Change:
    def change(store: Store) -> None:
        zarr.open_array(store, path="x")[start:end] = value

    return change


def attributes(**changed: Any) -> Change:
    return lambda store: zarr.open_array(store, path="x").attrs.update(changed)


def both(*changes: Change) -> Change:
    def change(store: Store) -> None:
        for each in changes:
            each(store)

    return change


def conflicts(repository: Repository, **options: Any) -> list[vz.Conflict]:
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev", **options)
    return list(caught.value.conflicts)


def test_the_chunks_of_an_array_are_one_conflict(version: int) -> None:
    repository = forked(base(version), write(0, 20, 7), both(write(4, 30, 9), attributes(b=1)))
    (conflict,) = conflicts(repository)
    assert (conflict.path, conflict.kind) == ("x", vz.ConflictKind.CHANGED)
    assert [chunk.coordinates for chunk in conflict.chunks] == sorted(
        ((number,) for number in range(2, 10)), key=lambda at: conflict_key(version, at[0])
    )
    assert [chunk.key for chunk in conflict.chunks] == [
        conflict_key(version, at) for (at,) in [chunk.coordinates for chunk in conflict.chunks]
    ]
    assert conflict.ours == tuple(chunk.ours for chunk in conflict.chunks)
    assert "x: 8 chunks changed on both sides (" in str(conflict)
    told = json.loads(json.dumps(conflict.to_dict()))
    assert told["kind"] == "changed on both sides"
    assert [chunk["coordinates"] for chunk in told["chunks"]] == [
        list(chunk.coordinates) for chunk in conflict.chunks
    ]
    assert pickle.loads(pickle.dumps(conflict)) == conflict


def conflict_key(version: int, number: int) -> str:
    return f"x/{number}" if version == 2 else f"x/c/{number}"


def test_many_chunks_are_told_in_few_words(version: int) -> None:
    repository = forked(base(version), write(0, 40, 7), write(0, 40, 9))
    (conflict,) = conflicts(repository)
    assert len(conflict.chunks) == 20
    assert "and 12 more" in str(conflict)


@pytest.mark.parametrize(("side", "value"), [("ours", 7), ("theirs", 9)])
@pytest.mark.parametrize("how", [str, lambda side: {"x": side}, lambda side: lambda _: side])
def test_a_side_is_for_the_chunks_in_conflict_alone(
    version: int, side: str, value: int, how: Callable[[str], Any]
) -> None:
    repository = forked(
        base(version),
        both(write(0, 8, 7), write(30, 32, 70)),
        both(write(4, 12, 9), write(34, 36, 90), attributes(b=1)),
    )
    repository.merge("dev", resolve=how(side))
    found = values(repository)
    assert found[:12].tolist() == [7] * 4 + [value] * 4 + [9] * 4
    assert (found[30], found[34]) == (70, 90)
    assert zarr.open_array(repository.checkout().store, path="x", mode="r").attrs["b"] == 1


def test_patterns_match_the_array_and_each_chunk(version: int) -> None:
    changes = (write(0, 6, 7), write(0, 6, 9))
    keys = [conflict_key(version, number) for number in range(3)]
    repository = forked(base(version), *changes)
    (left,) = conflicts(repository, resolve={keys[0]: "theirs"})
    assert [chunk.key for chunk in left.chunks] == keys[1:]
    repository.merge("dev", resolve={keys[1]: "theirs", "x": "ours", keys[2]: "theirs"})
    assert values(repository)[:6].tolist() == [7, 7, 9, 9, 7, 7]
    repository = forked(base(version), *changes)
    repository.merge("dev", resolve={"x/*": "theirs"})
    assert values(repository)[:6].tolist() == [9] * 6


def test_a_function_may_settle_chunk_by_chunk(version: int) -> None:
    repository = forked(base(version), write(0, 6, 7), write(0, 6, 9))
    donor = bytes(repository.checkout("dev").mapping[conflict_key(version, 0)])
    keys = [conflict_key(version, number) for number in range(3)]

    def settle(conflict: vz.Conflict) -> Any:
        return {keys[0]: "base", keys[1]: donor, "*": "ours"}

    repository.merge("dev", resolve=settle)
    assert values(repository)[:6].tolist() == [1, 1, 9, 9, 7, 7]


def test_bytes_are_for_one_chunk(version: int) -> None:
    repository = forked(base(version), write(0, 4, 7), write(0, 4, 9))
    donor = bytes(repository.checkout("dev").mapping[conflict_key(version, 0)])
    with pytest.raises(vz.InvalidInputError, match="mapping"):
        repository.merge("dev", resolve=lambda conflict: donor)
    repository = forked(base(version), write(0, 2, 7), write(0, 2, 8))
    repository.merge("dev", resolve=lambda conflict: donor)
    assert values(repository)[0] == 9


def test_a_chunk_that_one_side_removed_is_told_and_settled(version: int) -> None:
    repository = forked(base(version), write(0, 2, 0), both(write(0, 2, 9), write(2, 4, 9)))
    (conflict,) = conflicts(repository)
    assert conflict.kind is vz.ConflictKind.REMOVED
    assert conflict.ours is None
    repository.merge("dev", resolve="ours")
    assert values(repository)[:4].tolist() == [0, 0, 9, 9]


# Fields


def test_a_function_gives_the_value_of_a_field(version: int) -> None:
    repository = forked(
        base(version),
        attributes(a={"n": 1, "m": [3]}),
        both(attributes(a={"n": 2, "m": [4]}), write(0, 2, 9)),
    )
    asked: dict[str, tuple[Any, ...]] = {}

    def settle(conflict: vz.Conflict) -> Any:
        assert conflict.field is not None
        name = conflict.field.rpartition(".")[2]
        asked[name] = (conflict.base, conflict.ours, conflict.theirs)
        return vz.FieldValue(conflict.ours + conflict.theirs)

    repository.merge("dev", resolve=settle)
    assert asked == {"n": (0, 1, 2), "m": ([1, 2], [3], [4])}
    array = zarr.open_array(repository.checkout().store, path="x", mode="r")
    assert array.attrs["a"] == {"n": 3, "m": [3, 4]}
    assert array[0] == 9


@pytest.mark.parametrize("value", ["ours", "theirs", None, 0, False, {}, [], (1, 2), "é\n", 1e300])
def test_any_json_value_is_taken_as_it_is(value: Any) -> None:
    repository = forked(base(3), attributes(b=1), attributes(b=2))
    repository.merge("dev", resolve=lambda conflict: vz.FieldValue(value))
    found = zarr.open_array(repository.checkout().store, path="x", mode="r").attrs["b"]
    wanted = list(value) if isinstance(value, tuple) else value
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize("value", [object(), b"1", {1, 2}, 1j])
def test_what_json_cannot_say_is_no_value(value: Any) -> None:
    with pytest.raises(vz.InvalidInputError, match="JSON"):
        vz.FieldValue(value)


def test_what_is_nested_too_deeply_is_no_value() -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    with pytest.raises(vz.InvalidInputError, match="deeply"):
        vz.FieldValue(value)


def test_a_value_of_a_field_settles_no_key(version: int) -> None:
    repository = forked(base(version), write(0, 2, 7), write(0, 2, 9))
    with pytest.raises(vz.InvalidInputError, match="FieldValue"):
        repository.merge("dev", resolve=lambda conflict: vz.FieldValue(1))
    repository = forked(
        base(version),
        lambda store: store._view.mapping.__setitem__("k", b"1"),
        lambda store: store._view.mapping.__setitem__("k", b"2"),
    )
    with pytest.raises(vz.InvalidInputError, match="FieldValue"):
        repository.merge("dev", resolve=lambda conflict: vz.FieldValue(1))


def test_null_and_what_is_not_there_are_told_apart() -> None:
    repository = forked(
        both(base(3), attributes(b=1)),
        attributes(b=None),
        lambda store: zarr.open_array(store, path="x").attrs.put({"a": {"n": 0, "m": [1, 2]}}),
    )
    (conflict,) = conflicts(repository)
    assert (conflict.ours, conflict.theirs, conflict.missing) == (None, None, ("theirs",))
    assert "(base 1, ours null, theirs nothing)" in str(conflict)


def test_every_kind_is_text_and_plain_json() -> None:
    for kind in vz.ConflictKind:
        conflict = vz.Conflict("x", str(kind), None, "1", "2")
        assert conflict.kind is kind
        assert type(conflict.to_dict()["kind"]) is str
        assert json.dumps(conflict.to_dict())
        assert pickle.loads(pickle.dumps(conflict)).kind is kind


# Sessions that wrote the same


def test_equal_values_that_must_conflict_say_how_to_settle_it() -> None:
    repository = forked(base(3), write(2, 4, 3), write(4, 6, 3))
    one, two = repository.session(), repository.session()
    for session in (one, two):
        array = zarr.open_array(session.store, path="x")
        array[:2] = array[:2] + 1
    one.commit("one")
    three = repository.session()
    zarr.open_array(three.store, path="x")[2:4] = 4
    three.commit("three")
    with pytest.raises(vz.ConflictError, match=r"resolve=\{'x': 'ours'\}") as caught:
        two.commit("two")
    (conflict,) = caught.value.conflicts
    assert conflict.kind is vz.ConflictKind.ALIKE
    array = zarr.open_array(two.store, path="x")
    array[2:4] = 8
    with pytest.raises(vz.ConflictError, match=r"\(1 of them\).*resolve=\{'x/c/0': 'ours'\}"):
        two.commit("two")
    array[2:4] = 1
    two.write("more", b"1")
    two.commit("two", resolve={"x": "ours"})
    assert values(repository)[0] == 2
