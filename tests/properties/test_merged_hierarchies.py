"""Whatever two branches did to a hierarchy: what a merge makes of it is read right by Zarr."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any, Literal

import hypothesis.strategies as st
from hypothesis import given

import versioned_zarr as vz

Documents = dict[str, dict[str, Any]]
Values = dict[str, bytes]
Step = tuple[str, str, int]

PATHS = ["a", "a/b", "a/b/c", "x", "x/y"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["array", "group", "remove", "resize", "attribute", "chunk", "chunk"]),
        st.sampled_from(PATHS),
        st.integers(0, 3),
    ),
    max_size=5,
)
SIDES = st.lists(st.sampled_from(["ours", "theirs"]), min_size=1, max_size=4)
GROUPS = st.sets(st.sampled_from(["", "a", "a/b"]))


def dumped(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def documents(values: Values) -> Documents:
    """The documents of the nodes, by the nodes' paths."""
    return {
        key[: -len("zarr.json")].rstrip("/"): json.loads(value)
        for key, value in values.items()
        if key.endswith("zarr.json")
    }


def below(values: Values, path: str) -> list[str]:
    return [key for key in values if key.startswith(f"{path}/" if path else "")]


def above(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path


def apply(values: Values, step: Step) -> None:
    """Do one thing as a writer of Zarr would, who leaves a hierarchy that is right."""
    what, path, number = step
    node = documents(values).get(path)
    if what in ("array", "group"):
        for parent in above(path):
            if documents(values).get(parent, {}).get("node_type") != "group":
                apply(values, ("group", parent, 0))
        for key in below(values, path):
            if path:
                del values[key]
        document: dict[str, Any] = {"zarr_format": 3, "node_type": what, "attributes": {}}
        if what == "array":
            grid = {"name": "regular", "configuration": {"chunk_shape": [2]}}
            document |= {
                "shape": [6], "data_type": ["int8", "uint8"][number % 2], "chunk_grid": grid,
            }  # fmt: skip
        values[f"{path}/zarr.json".strip("/")] = dumped(document)
    elif what == "remove":
        for key in below(values, path):
            del values[key]
    elif node is not None and what == "attribute":
        node["attributes"][f"n{number % 2}"] = [1, True, None, 1.0][number]
        node["attributes"].setdefault("deep", {})[f"n{number % 3}"] = {"n": number}
        values[f"{path}/zarr.json"] = dumped(node)
    elif node is not None and node["node_type"] == "array":
        if what == "resize":
            values[f"{path}/zarr.json"] = dumped({**node, "shape": [6 + number]})
        else:
            # Which data type its writer meant shows in it.
            values[f"{path}/c/{number}"] = f"{node['data_type']} {step}".encode()


def consolidate(values: Values, groups: set[str]) -> None:
    for group in groups:
        found = documents(values)
        if found.get(group, {}).get("node_type") == "group":
            start = f"{group}/" if group else ""
            copies = {
                path[len(start) :]: without_copies(document)
                for path, document in found.items()
                if path.startswith(start) and path != group
            }
            document = {**found[group], "consolidated_metadata": {"metadata": copies}}
            values[f"{start}zarr.json"] = dumped(document)


def without_copies(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "consolidated_metadata"}


@given(base=STEPS, ours=STEPS, theirs=STEPS, sides=SIDES, groups=st.tuples(GROUPS, GROUPS, GROUPS))
def test_a_merged_hierarchy_is_right(
    base: list[Step],
    ours: list[Step],
    theirs: list[Step],
    sides: list[Literal["ours", "theirs"]],
    groups: tuple[set[str], set[str], set[str]],
) -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    states: list[Values] = []
    for branch, steps, consolidated in zip(
        ("main", "main", "dev"), (base, ours, theirs), groups, strict=True
    ):
        values = dict(states[0]) if states else {}
        if not states:
            apply(values, ("group", "", 0))
        for step in steps:
            apply(values, step)
        # What was consolidated stays so, and is right when a branch is done with it.
        before = {
            path
            for path, each in documents(values).items()
            if len(each) > len(without_copies(each))
        }
        consolidate(values, consolidated | before)
        values[f"of {len(states)}"] = b""
        with repository.session(branch, message=str(len(states))) as session:
            session.clear()
            for key, value in values.items():
                session.write(key, value)
        if not states:
            repository.branches.create("dev")
        states.append(values)

    asked: list[vz.Conflict] = []

    def decide(conflict: vz.Conflict) -> Literal["ours", "theirs"]:
        asked.append(conflict)
        return sides[len(asked) % len(sides)]

    repository.merge("dev", resolve=decide)
    result = {key: bytes(value) for key, value in repository.checkout().mapping.items()}
    found = documents(result)
    for path, document in found.items():
        for parent in above(path):
            assert found.get(parent, {}).get("node_type") != "array", (parent, path)
        start = f"{path}/" if path else ""
        for name, copy in document.get("consolidated_metadata", {}).get("metadata", {}).items():
            own = found.get(start + name)
            assert own is not None, f"{start}{name} has a copy and is gone"
            assert dumped(without_copies(own)) == dumped(without_copies(copy))
        if document["node_type"] == "array":
            chunks = [result[key] for key in below(result, path) if not key.endswith(".json")]
            meant = {chunk.split()[0].decode() for chunk in chunks}
            assert meant <= {document["data_type"]}, path
    if not asked:
        check_nothing_is_lost(states, result)


def check_nothing_is_lost(states: list[Values], result: Values) -> None:
    """Check that every value that one side alone changed is as it made it."""
    base, ours, theirs = states
    for key in {*base, *ours, *theirs}:
        if not key.endswith("zarr.json"):
            mine = ours.get(key) != base.get(key)
            assert result.get(key) == (ours if mine else theirs).get(key), key
    for path, document in documents(result).items():
        sides = [documents(state).get(path) for state in (base, ours, theirs)]
        if None not in sides and document["node_type"] == "array":
            shapes = [side.get("shape") for side in sides if side is not None]
            assert document["shape"] == (shapes[1] if shapes[1] != shapes[0] else shapes[2]), path
