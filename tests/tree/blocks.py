"""Trees in memory for tests: a source that counts what is read and stored, and short ways to it."""

from __future__ import annotations

from collections.abc import Mapping

from versioned_zarr.errors import BlockNotFoundError
from versioned_zarr.ipld import Cid, Link, hash_function
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.tree import TreeBuilder, Trees

SHA2 = hash_function("sha2-256")


class Blocks:
    """Blocks in a dict; counts the reads and the stores."""

    def __init__(self) -> None:
        self.by_cid: dict[Cid, bytes] = {}
        self.gets: list[Cid] = []
        self.puts: list[Cid] = []

    def get(self, cid: Cid) -> bytes:
        self.gets.append(cid)
        if cid not in self.by_cid:
            raise BlockNotFoundError(f"no block {to_text(cid)}", cid=to_text(cid))
        return self.by_cid[cid]

    def put(self, cid: Cid, block: bytes) -> None:
        assert SHA2.dag_pb(block) == cid
        self.puts.append(cid)
        self.by_cid[cid] = block

    def forget_counts(self) -> None:
        self.gets.clear()
        self.puts.clear()


def leaf(content: object) -> Link:
    """A value of one leaf; only its CID and size are needed, so it is stored nowhere."""
    data = str(content).encode()
    return Link("", SHA2.raw(data), len(data))


def build(blocks: Blocks, model: Mapping[str, Link]) -> Link:
    """Build the tree of a model at once."""
    tree: TreeBuilder[Link] = TreeBuilder(Trees(blocks, SHA2))
    for key, link in model.items():
        tree.set(key, link)
    return tree.flush(blocks.put)


def contents(trees: Trees, root: Cid, prefix: str = "") -> dict[str, Cid]:
    """Read a whole tree; its keys come sorted."""
    found = {key: link.cid for key, link in trees.walk(root, prefix)}
    assert list(found) == sorted(found)
    return found


def cids(model: Mapping[str, Link]) -> dict[str, Cid]:
    return {key: link.cid for key, link in model.items()}
