"""What a commit's blocks say: of what they link to, and of what can be said in one."""

from __future__ import annotations

import uuid

import pytest

import versioned_zarr as vz
from tests.repository.moving import commit
from versioned_zarr.history.commit_object import (
    MESSAGE_LIMIT_BYTES,
    TSIZE_LIMIT,
    cumulative_size,
    link_to,
)
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.cid import from_text, hash_function, is_raw
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def repository() -> Repository:
    return vz.create(f"memory://{uuid.uuid4()}")


def test_links_in_a_commit_say_how_much_lies_below(repository: Repository) -> None:
    repository.branches.create("dev")
    commit(repository, {"a": b"1", "b/c": b"22"})
    commit(repository, {"d": b"333"}, "dev")
    repository.merge("dev")
    blocks = repository._stores.blocks
    for made in repository.log():
        cid = from_text(made.cid)
        links = {link.name: link for link in dag_pb.decode(blocks.get(cid))[0]}
        assert links["commit.json"].tsize == len(blocks.get(links["commit.json"].cid))
        tree, below = links["tree"], 0
        waiting, seen = [tree.cid], []
        while waiting:
            at = waiting.pop()
            seen.append(at)
            below += len(blocks.get(at))
            if not is_raw(at):
                waiting += [link.cid for link in dag_pb.decode(blocks.get(at))[0]]
        assert tree.tsize == below == link_to(tree.cid, blocks).tsize
        told = len(blocks.get(cid)) + sum(link.tsize for link in links.values())
        assert link_to(cid, blocks).tsize == told < TSIZE_LIMIT


def test_what_lies_below_is_cut_off_where_no_number_can_say_it() -> None:
    cid = hash_function("sha2-256").raw(b"")
    for sizes in ([TSIZE_LIMIT - 1], [TSIZE_LIMIT], [TSIZE_LIMIT, TSIZE_LIMIT]):
        links = [Link(str(size), cid, size) for size in sizes]
        assert cumulative_size(b"x", links) == TSIZE_LIMIT
    assert cumulative_size(b"x", [Link("", cid, TSIZE_LIMIT - 2)]) == TSIZE_LIMIT - 1


def test_a_message_has_a_limit(repository: Repository) -> None:
    longest = "é" * (MESSAGE_LIMIT_BYTES // 2)
    assert commit(repository, {"a": b"1"}, message=longest).message == longest
    session = repository.session()
    session.write("a", b"2")
    for text in (longest + "x", "\ud800"):
        with pytest.raises(vz.InvalidInputError, match="message"):
            session.commit(text)
        with pytest.raises(vz.InvalidInputError, match="author"):
            session.commit("x", author=text)
    assert session.commit("x").message == "x"
