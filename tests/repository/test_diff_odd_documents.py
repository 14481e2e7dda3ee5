"""A diff never dies of what documents say, and shows itself whatever they say."""

from __future__ import annotations

import json
import uuid
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import versioned_zarr as vz

pytest.importorskip("click")
from versioned_zarr.cli.app import run

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.integers(-2, 40)
    | st.floats()
    | st.text(max_size=5)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
SOUND: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 4],
    "data_type": "int8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [1, 1],
                "codecs": [{"name": "bytes"}],
                "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
                "index_location": "end",
            },
        }
    ],
    "fill_value": 0,
    "dimension_names": ["x", "y"],
    "attributes": {"units": "K"},
}
SOUND_2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [4, 4],
    "chunks": [2, 2],
    "dtype": "|i1",
    "compressor": None,
    "filters": None,
    "order": "C",
    "fill_value": 0,
    "dimension_separator": "/",
}


@st.composite
def twisted(draw: st.DrawFn, sound: dict[str, Any]) -> dict[str, Any]:
    """A sound document of which some parts, at any depth, say something else or are gone."""
    document: dict[str, Any] = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if isinstance(place, dict) and draw(st.booleans()):
                del place[key]
            else:
                place[key] = draw(JSON)
            break
    return document


TEXTS = st.sampled_from(
    [
        b"", b"[", b"\xff\xfe", b"null", b"7", b'"x"', b"[1, 2]", b"NaN", b"{}", b"[" * 5000,
        b"[" * 300 + b"]" * 300, b'{"a":' * 300 + b"1" + b"}" * 300, b"1" * 5000, b"1e999",
        b'{"shape": ' + b"9" * 5000 + b"}", b'{"zarr_format": 3, "node_type": "array"}',
        b'{"a": 1, "a": 2}', '{"zarr_format": 3}'.encode("utf-16"), b'{"\\ud800": "\\ud800"}',
        b'{"zarr_format": 3, "node_type": "array", "attributes": [1]}',
        b'{"zarr_format": 3, "node_type": ["array"], "attributes": null}',
    ]
)  # fmt: skip


def documents(sound: dict[str, Any]) -> st.SearchStrategy[bytes]:
    return (
        TEXTS
        | (JSON | twisted(sound)).map(lambda document: json.dumps(document).encode())
        | st.just(json.dumps(sound).encode())
    )


def values() -> st.SearchStrategy[dict[str, bytes]]:
    """What lies under the keys of a hierarchy: documents of both formats, and chunks."""
    chunks = st.binary(max_size=100)
    return st.fixed_dictionaries(
        {},
        optional={
            "zarr.json": documents({"zarr_format": 3, "node_type": "group", "attributes": {}}),
            "a/zarr.json": documents(SOUND),
            "a/.zarray": documents(SOUND_2),
            "a/.zattrs": documents({"units": "K"}),
            "b/.zgroup": documents({"zarr_format": 2}),
            "b/.zattrs": documents({"units": "K"}),
            ".zmetadata": documents({"metadata": {"a/.zarray": SOUND_2}}),
            "a/c/0/0": chunks,
            "a/c/1/1": chunks,
            "a/c/99/" + "9" * 250: chunks,
            "a/0/0": chunks,
            "a/0.1": chunks,
            "note": chunks,
        },
    )


def wrap(**document: Any) -> dict[str, bytes]:
    return {
        "a/zarr.json": json.dumps({**SOUND, **document}).encode(), "a/c/0/0": b"1", "a/c/1/1": b"1"
    }  # fmt: skip


HERE = {"a/zarr.json": json.dumps(SOUND).encode(), "a/c/0/0": b"2", "a/c/1/1": b"22"}


@given(values(), values())
@example(HERE, wrap(shape="ab"))
@example(HERE, wrap(shape=[10**400, 10**400]))
@example(HERE, wrap(shape=[float("nan"), float("inf")]))
@example(HERE, wrap(shape=[-4, -4]))
@example(HERE, wrap(shape=[True, "4"]))
@example(HERE, wrap(shape=[[4], {}]))
@example(HERE, wrap(shape=[1.5, 2.5]))
@example(HERE, wrap(shape=[0, 0]))
@example(HERE, wrap(chunk_grid=None))
@example(HERE, wrap(chunk_grid={"configuration": {"chunk_shape": [0, -1]}}))
@example(HERE, wrap(chunk_grid={"configuration": {"chunk_shape": "xy"}}))
@example(HERE, wrap(codecs={"a": 1}))
@example(HERE, wrap(codecs=[[], None, 7]))
@example(HERE, wrap(codecs=[{"name": "sharding_indexed", "configuration": 7}]))
@example(HERE, wrap(chunk_key_encoding={"name": "v2", "configuration": {"separator": ""}}))
@example(HERE, wrap(chunk_key_encoding={"name": "v2", "configuration": {"separator": 7}}))
@example(HERE, wrap(chunk_key_encoding=[1]))
@example(HERE, wrap(attributes=[1, 2]))
@example(HERE, wrap(dimension_names="xy"))
@example(HERE, wrap(node_type=["array"]))
@example({"a/.zarray": json.dumps({**SOUND_2, "dimension_separator": ""}).encode()}, HERE)
@example(
    {"a/.zarray": json.dumps({**SOUND_2, "dimension_separator": 1}).encode(), "a/0/0": b""}, {}
)
def test_a_diff_of_any_documents_says_what_differs(
    old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    repository = vz.create(f"memory://odd-{uuid.uuid4().hex}")
    refs = []
    for side in (old, new):
        with repository.session() as session:
            session.clear()
            for key, value in side.items():
                session.write(key, value)
            refs.append(session.commit("odd", allow_empty=True).cid)
    session = repository.session()
    session.write("zarr.json", b"[]")
    differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    for diff in (repository.diff(refs[0], refs[1]), session.status()):
        assert isinstance(str(diff), str)
        json.dumps(diff.to_dict())
        ET.fromstring(diff._repr_html_())
        for node in diff.nodes.values():
            assert isinstance(node.summary(), str)
    assert {change.key for change in repository.diff(refs[0], refs[1])} == differing
    for each in (repository.checkout(refs[1]), session, repository):
        assert isinstance(str(each), str)
        ET.fromstring(each._repr_html_())
    session.discard()
    for words in (["diff", *refs], ["diff", "--stat", *refs], ["show", refs[1]], ["log"]):
        for more in ([], ["--json"]):
            run(["-C", repository.url, *words, *more])
