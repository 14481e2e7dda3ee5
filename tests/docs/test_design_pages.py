"""The bytes and names shown in docs/design are those that the code writes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from versioned_zarr.blocks.packs.index import merge_runs, run_of_pack
from versioned_zarr.blocks.packs.pack import pack_of
from versioned_zarr.blocks.packs.pack_format import decode_tail
from versioned_zarr.engine.marker import encode_marker
from versioned_zarr.engine.sessions.journal import (
    JournalRecord,
    RecordKind,
    SessionHead,
    encode_record,
    encode_writer,
)
from versioned_zarr.engine.sessions.reused_leaves import ReusedLeaves
from versioned_zarr.engine.stored_sessions.batch import Batch, encode_batch
from versioned_zarr.engine.stored_sessions.session_log import BatchName
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history import log_refs
from versioned_zarr.history.refs import RefEntry
from versioned_zarr.ipld import hamt, unixfs
from versioned_zarr.ipld.cid import Cid, from_text, hash_function, to_text
from versioned_zarr.ipld.dag_pb import Link

DESIGN = Path(__file__).parents[2] / "docs" / "design"
FENCE = re.compile(r"^```(hex|text) ([a-z-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEX_LINE = re.compile(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  .*)?")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")

HASH = hash_function("sha2-256")
TIME = datetime(2026, 1, 31, 12, 0, 0, 250000, tzinfo=UTC)
LATER = datetime(2026, 2, 1, 9, 30, tzinfo=UTC)
VALUE = b"hello"
LEAF = HASH.raw(VALUE)
TREE_BLOCK = unixfs.directory([("a", LEAF, len(VALUE))])
TREE = HASH.dag_pb(TREE_BLOCK)
TREE_LINK = Link("", TREE, len(TREE_BLOCK) + len(VALUE))
PACK_NAME = "00112233445566778899aabb"


def pack() -> bytes:
    return b"".join(pack_of([(TREE, TREE_BLOCK), (LEAF, VALUE)], TREE, HASH))


def index_file() -> bytes:
    tail = decode_tail(memoryview(pack()), HASH.code, PACK_NAME)
    run = run_of_pack(PACK_NAME, tail.entries, tail.data_end)
    return b"".join(merge_runs([run], {PACK_NAME}).to_bytes(HASH.code))


def commit_of(tree: Link, parents: list[Link], message: str) -> tuple[str, dict[Cid, bytes]]:
    commit, blocks = commits.encode(
        tree=tree,
        parents=parents,
        author="Ada <ada@example.org>",
        time=TIME,
        message=message,
        metadata={"run": 7},
        hash_function=HASH,
    )
    return commit.cid, {cid: bytes(data) for cid, data in blocks}


def root_commit() -> tuple[str, dict[Cid, bytes]]:
    empty = unixfs.EMPTY_DIRECTORY
    return commit_of(Link("", HASH.dag_pb(empty), len(empty)), [], "start")


def second_commit() -> tuple[str, dict[Cid, bytes]]:
    cid, blocks = root_commit()
    depth = sum(map(len, blocks.values()))
    return commit_of(TREE_LINK, [Link("", from_text(cid), depth)], "say hello")


def commit_json() -> bytes:
    return next(data for data in second_commit()[1].values() if data.startswith(b"{"))


def commit_block() -> bytes:
    cid, blocks = second_commit()
    return blocks[from_text(cid)]


def ref_log() -> bytes:
    first, second = from_text(root_commit()[0]), from_text(second_commit()[0])
    entries = [
        RefEntry(0, first, TIME, "create"),
        RefEntry(1, second, LATER, "commit: say hello"),
        RefEntry(2, None, LATER, "branch: deleted"),
    ]
    return b"".join(map(log_refs.encode_entry, entries))


def ref_record() -> bytes:
    pytest.importorskip("obstore")
    from versioned_zarr.backends.objectstore.ref_record import RefRecord, encode_record

    entry = RefEntry(1, from_text(second_commit()[0]), TIME, "commit: say hello")
    packs = {"index": [], "newest": [PACK_NAME], "packs": [PACK_NAME]}
    return encode_record(RefRecord(1, entry, "0011223344556677", packs))


def condemned_list() -> bytes:
    pytest.importorskip("obstore")
    from versioned_zarr.backends.objectstore.condemned_packs import encode_list

    return encode_list([PACK_NAME])


def session_head() -> bytes:
    head = SessionHead(
        id="20260131T120000-0a1b2c3d",
        branch="main",
        base=root_commit()[0],
        started=TIME,
        host="lab1",
        process=4711,
        author="ada@lab1",
    )
    return head.to_bytes()


def session_writers() -> bytes:
    return encode_writer(0x11223344, "process 4711 on lab1")


def batch_head() -> bytes:
    name = BatchName(0x11223344, 2)
    batch = Batch("20260131T120000-0a1b2c3d", name, {0x11223344: 1}, "lab1", 4711, ())
    return encode_batch(batch)


def record_set() -> bytes:
    record = JournalRecord(
        RecordKind.SET,
        "a",
        writer=0x11223344,
        seen=0,
        draft=0x01020304,
        offset=0,
        size=len(VALUE),
        tsize=len(VALUE),
        cid=LEAF,
    )
    return encode_record(record)


def record_of_reused_leaves() -> bytes:
    file = unixfs.build_file(bytes((1 << 20) + 1), HASH)
    leaf = struct.pack("<I36s", 0, file.blocks[1][0])
    record = JournalRecord(
        RecordKind.SET,
        "a",
        writer=0x11223344,
        seen=0,
        draft=0x01020304,
        size=file.size,
        tsize=file.tsize,
        cid=file.cid,
        reused=ReusedLeaves(leaf),
    )
    return encode_record(record)


def value_of_two_leaves() -> bytes:
    return bytes(unixfs.build_file(bytes((1 << 20) + 1), HASH).blocks[0][1])


def hamt_slots() -> bytes:
    names = ["0", "1", "c", "zarr.json"]
    return "".join(f"{hamt.hash_name(name).hex()}  {name}\n" for name in names).encode()


def names_of_the_example() -> bytes:
    lines = [
        f"{to_text(LEAF)}  the value {VALUE.decode()!r}\n",
        f"{to_text(TREE)}  the tree that holds it under the key 'a'\n",
        f"{to_text(HASH.dag_pb(unixfs.EMPTY_DIRECTORY))}  the empty tree\n",
    ]
    return "".join(lines).encode()


EXAMPLES: dict[str, Callable[[], bytes]] = {
    "pack": pack,
    "index-file": index_file,
    "ref-log": ref_log,
    "ref-record": ref_record,
    "condemned-list": condemned_list,
    "commit-json": lambda: commit_json() + b"\n",  # the page's line ends, the value does not
    "commit-block": commit_block,
    "session-head": session_head,
    "session-writers": session_writers,
    "batch-head": batch_head,
    "journal-record": record_set,
    "journal-record-of-reused-leaves": record_of_reused_leaves,
    "marker": lambda: encode_marker("sha2-256"),
    "tree-block": lambda: TREE_BLOCK,
    "value-of-two-leaves": value_of_two_leaves,
    "hamt-slots": hamt_slots,
    "names": names_of_the_example,
}


def shown() -> dict[str, bytes]:
    """The examples in all pages by their names."""
    found: dict[str, bytes] = {}
    for page in sorted(DESIGN.glob("*.md")):
        for kind, name, body in FENCE.findall(page.read_text(encoding="utf-8")):
            assert name not in found, f"{name} is shown twice"
            found[name] = body.encode() if kind == "text" else from_hex(name, body)
    return found


def from_hex(name: str, body: str) -> bytes:
    data = bytearray()
    for line in body.splitlines():
        match = HEX_LINE.fullmatch(line)
        assert match is not None, f"{name}: no offset, bytes and words: {line!r}"
        assert int(match[1], 16) == len(data), f"{name}: a wrong offset in {line!r}"
        data += bytes.fromhex(match[2])
    return bytes(data)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_code_writes(name: str) -> None:
    assert shown()[name].hex(" ") == EXAMPLES[name]().hex(" ")


def test_no_example_is_left_unchecked() -> None:
    assert shown().keys() == EXAMPLES.keys()


def test_links_between_pages_lead_somewhere() -> None:
    for page in DESIGN.rglob("*.md"):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_list_of_pages_names_every_page() -> None:
    listed = set(LINK.findall((DESIGN / "index.md").read_text(encoding="utf-8")))
    pages = {page.relative_to(DESIGN).as_posix() for page in DESIGN.rglob("*.md")}
    assert pages - {"index.md"} <= listed
