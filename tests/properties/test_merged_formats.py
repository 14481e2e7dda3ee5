"""Documents of two formats that agree on both sides of a merge agree in what it makes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

import versioned_zarr as vz

Values = dict[str, bytes]
PATHS = ("", "g", "g/x", "g/y")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "add 3",
                "add 3",
                "drop 2",
                "drop 3",
                "make",
                "remove",
                "set",
                "set",
                "unset",
                "resize",
            ]
        ),
        st.sampled_from(PATHS[1:]),
        st.integers(0, 2),
    ),
    max_size=5,
)


class Node:
    """What a hierarchy's writer knows of a node: it keeps the documents of all formats alike."""

    def __init__(self, values: Values, path: str) -> None:
        self.values, self.start = values, f"{path}/" if path else ""
        self.is_array = path.endswith(("x", "y"))

    @property
    def formats(self) -> set[int]:
        found = {3} if f"{self.start}zarr.json" in self.values else set()
        is_v2 = any(f"{self.start}{name}" in self.values for name in (".zarray", ".zgroup"))
        return found | {2} if is_v2 else found

    def read(self) -> tuple[Any, Any]:
        """The shape and the attributes."""
        if 3 in self.formats:
            document = json.loads(self.values[f"{self.start}zarr.json"])
            return document.get("shape"), document["attributes"]
        return self.read_v2()

    def read_v2(self) -> tuple[Any, Any]:
        shape = None
        if self.is_array:
            shape = json.loads(self.values[f"{self.start}.zarray"])["shape"]
        return shape, json.loads(self.values.get(f"{self.start}.zattrs", b"{}"))

    def write(self, formats: set[int], shape: Any, attributes: Any) -> None:
        array = {"shape": shape, "fill_value": 0} if self.is_array else {}
        for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"):
            self.values.pop(f"{self.start}{name}", None)
        if 3 in formats:
            kind = "array" if self.is_array else "group"
            document = {"zarr_format": 3, "node_type": kind, "attributes": attributes, **array}
            self.values[f"{self.start}zarr.json"] = json.dumps(document).encode()
        if 2 in formats:
            name = ".zarray" if self.is_array else ".zgroup"
            self.values[self.start + name] = json.dumps({"zarr_format": 2, **array}).encode()
            self.values[f"{self.start}.zattrs"] = json.dumps(attributes).encode()


def apply(values: Values, step: tuple[str, str, int]) -> None:
    what, path, number = step
    node = Node(values, path)
    formats = node.formats
    if what == "make":
        group = Node(values, path.rpartition("/")[0])
        if not formats and group.formats:
            node.write(group.formats, [4], {"n0": 0})
        return
    if not formats or (what == "remove" and not path):
        return
    if what == "remove":
        for key in [key for key in values if key.startswith(node.start)]:
            del values[key]
        return
    shape, attributes = node.read()
    if what.startswith("add"):
        formats |= {int(what[-1])}
    elif what.startswith("drop") and len(formats) == 2:
        formats -= {int(what[-1])}
    elif what == "set":
        attributes[f"n{number}"] = number
    elif what == "unset":
        attributes.pop(f"n{number}", None)
    elif what == "resize":
        shape = [4 + number]
    node.write(formats, shape, attributes)


@given(
    base=STEPS, ours=STEPS, theirs=STEPS, formats=st.sampled_from([{2}, {2, 3}]),
    side=st.sampled_from(["ours", "theirs"]),
)  # fmt: skip
def test_documents_that_agreed_agree(
    base: Any, ours: Any, theirs: Any, formats: set[int], side: Any
) -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    first: Values = {}
    Node(first, "").write(formats, None, {})
    for path in ("g", "g/x"):
        Node(first, path).write(formats, [4], {"n0": 0})
    states: list[Values] = []
    for branch, steps in (("main", base), ("main", ours), ("dev", theirs)):
        values = dict(states[0] if states else first)
        for step in steps:
            apply(values, step)
        values[f"of {len(states)}"] = b""
        with repository.session(branch, message=str(len(states))) as session:
            session.clear()
            for key, value in values.items():
                session.write(key, value)
        if not states:
            repository.branches.create("dev")
        states.append(values)
    repository.merge("dev", resolve=side)
    merged = {key: bytes(value) for key, value in repository.checkout().mapping.items()}
    for path in PATHS:
        node = Node(merged, path)
        if node.formats == {2, 3}:
            assert node.read() == node.read_v2(), path
    # A diff names each node once, and nothing that is none.
    for pair in (("main~1", "main"), ("dev", "main")):
        diff = repository.diff(*pair)
        assert {change.key for change in diff.other_keys} <= {"of 0", "of 1", "of 2"}
        assert set(diff.nodes) <= set(PATHS)
        assert str(diff)
