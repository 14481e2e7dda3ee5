"""A directory of a tree after its block is read: a plain one, or a HAMT that reads its shards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import ClassVar, Final, Protocol

from versioned_zarr.errors import CorruptBlockError
from versioned_zarr.ipld import dag_pb, hamt, unixfs
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.hamt import SLOTS, Shard
from versioned_zarr.ipld.unixfs import UnixFsNode, UnixFsType
from versioned_zarr.tree.dag_nodes import slot_digits

_DOTS: Final = frozenset([".", "..", *(slot + dots for slot in SLOTS for dots in (".", ".."))])
_LARGE_BLOCK_BYTES: Final = 8192
_name_of: Final = itemgetter(0)


class Directory(ABC):
    """A directory of a tree, immutable; obtained from `Trees.directory`.

    Attributes:
        cid: its CID.
        is_sharded: whether it is a HAMT.
    """

    __slots__ = ("cid",)
    is_sharded: ClassVar[bool]

    def __init__(self, cid: Cid) -> None:
        self.cid = cid

    @property
    @abstractmethod
    def tsize(self) -> int:
        """The total size of its blocks and all below, as in a link to it."""

    @abstractmethod
    def get(self, name: str) -> Link | None:
        """Return the link called `name`, or None. In a HAMT, reads the shards on the way."""

    @abstractmethod
    def __iter__(self) -> Iterator[Link]:
        """Yield the links in the order of storage. In a HAMT, reads shards on demand."""

    @abstractmethod
    def links(self) -> list[Link]:
        """Return all links, sorted by name. In a HAMT, reads all shards."""


class PlainDirectory(Directory):
    """A directory in one block.

    To find one name among thousands, the encoded block is searched, which takes a tenth of the time
    of decoding it. It is decoded when all links are requested, or after repeated lookups.
    """

    __slots__ = ("_block", "_by_name", "_searches", "_starts")
    is_sharded = False

    def __init__(
        self,
        cid: Cid,
        block: bytes,
        starts: Sequence[int] = (),
        by_name: dict[str, Link] | None = None,
    ) -> None:
        super().__init__(cid)
        self._block = block
        self._starts = starts
        self._searches = len(starts) // 8
        self._by_name = by_name

    @property
    def tsize(self) -> int:
        """The size of its block and all below, as in a link to it."""
        return len(self._block) + sum([link.tsize for link in self])

    def get(self, name: str) -> Link | None:
        """Return the link called `name`, or None."""
        if self._by_name is not None:
            return self._by_name.get(name)
        if self._searches > 0:
            self._searches -= 1
            with _naming(self.cid):
                return dag_pb.find(self._block, self._starts, name)
        return self.decode().get(name)

    def __iter__(self) -> Iterator[Link]:
        return iter(self.decode().values())

    def links(self) -> list[Link]:
        """Return all links, sorted by name."""
        return list(self.decode().values())

    def decode(self) -> dict[str, Link]:
        """Return the links by name, sorted."""
        by_name = self._by_name
        if by_name is None:
            with _naming(self.cid):
                by_name = self._by_name = _by_name(unixfs.decode(self._block).links)
        return by_name


class Shards(Protocol):
    """Reads the shards of a HAMT."""

    def shard(self, cid: Cid, depth: int) -> Shard:
        """Return the shard with this CID, `depth` shards below the root of a HAMT."""
        ...

    def other_shard(self, cid: Cid) -> OtherShard:
        """Return the shard with this CID, of a HAMT with another width than the profile's."""
        ...


class ShardedDirectory(Directory):
    """A directory that is a HAMT; also used for its shards, in the cache of `Trees`.

    Attributes:
        shard: the links of the root shard by slot.
    """

    __slots__ = ("_shards", "_tsize", "shard")
    is_sharded = True

    def __init__(self, cid: Cid, tsize: int, shard: Shard, shards: Shards) -> None:
        super().__init__(cid)
        self.shard = shard
        self._tsize = tsize
        self._shards = shards

    @property
    def tsize(self) -> int:
        """The total size of its shards and all below, as in a link to it."""
        return self._tsize

    def get(self, name: str) -> Link | None:
        """Return the link called `name`, or None; reads the shards on the way to it."""
        try:
            digest = hamt.hash_name(name)
        except UnicodeEncodeError:
            return None  # a lone surrogate, which no name has
        shard = self.shard
        depth = 0
        while True:
            link = shard.get(SLOTS[digest[depth]])
            if link is None:
                return None
            if not hamt.is_shard(link):
                return hamt.named(link) if link.name[2:] == name else None
            depth += 1
            shard = self._shards.shard(link.cid, depth)  # cannot go below the end of the digest

    def __iter__(self) -> Iterator[Link]:
        return links_below(self._shards, self.shard, 0)

    def links(self) -> list[Link]:
        """Return all links, sorted by name; reads all shards."""
        return sorted(self, key=_name_of)


class OtherShard(Directory):
    """A directory that is a HAMT with another width than the profile's; also used for its shards.

    It is only read: updates create a HAMT with the profile's width. Therefore, it is compared with
    other directories name by name, never shard by shard.
    """

    __slots__ = ("_by_slot", "_digits", "_shards", "_tsize", "_width")
    is_sharded = True

    def __init__(self, cid: Cid, tsize: int, node: UnixFsNode, shards: Shards) -> None:
        super().__init__(cid)
        self._digits = slot_digits(node)
        self._width = node.fanout.bit_length() - 1
        self._by_slot = {link.name[: self._digits]: link for link in node.links}
        self._tsize = tsize
        self._shards = shards
        bitfield = 0
        for slot in self._by_slot:
            number = _slot_number(slot, self._digits)
            if number >= node.fanout:
                raise CorruptBlockError(f"a HAMT shard has no slot {slot!r}")
            bitfield |= 1 << number
        if bitfield != node.bitfield or len(self._by_slot) != len(node.links):
            raise CorruptBlockError("the links of a HAMT shard do not match its bitfield")
        _check_names([link.name[self._digits :] for link in node.links])

    @property
    def tsize(self) -> int:
        """The total size of its shards and all below, as in a link to it."""
        return self._tsize

    def get(self, name: str) -> Link | None:
        """Return the link called `name`, or None; reads the shards on the way to it."""
        try:
            digest = int.from_bytes(hamt.hash_name(name), "big")
        except UnicodeEncodeError:
            return None  # a lone surrogate, which no name has
        shard, left = self, _HASH_BITS
        while left >= self._width:
            left -= self._width
            number = digest >> left & ((1 << self._width) - 1)
            link = shard._by_slot.get(f"{number:0{self._digits}X}")
            if link is None:
                return None
            if len(link.name) > self._digits:
                is_it = link.name[self._digits :] == name
                return Link(name, link.cid, link.tsize) if is_it else None
            shard = self._below(link.cid)
        return None

    def _below(self, cid: Cid) -> OtherShard:
        shard = self._shards.other_shard(cid)
        if shard._width != self._width:
            text = to_text(cid)
            raise CorruptBlockError(f"block {text} is a shard of another width", cid=text)
        return shard

    def __iter__(self) -> Iterator[Link]:
        way = [iter(self._by_slot.values())]
        met: set[Cid] = set()
        while way:
            if len(way) * self._width > _HASH_BITS:
                text = to_text(self.cid)
                raise CorruptBlockError(f"the HAMT {text} is too deep", cid=text)
            for name, cid, tsize in way[-1]:
                if len(name) == self._digits:
                    _check_once(cid, met)
                    way.append(iter(self._below(cid)._by_slot.values()))
                    break
                yield Link(name[self._digits :], cid, tsize)
            else:
                way.pop()

    def links(self) -> list[Link]:
        """Return all links, sorted by name; reads all shards."""
        return sorted(self, key=_name_of)


_HASH_BITS: Final = 64


def _slot_number(slot: str, digits: int) -> int:
    """The number of a slot, or an impossible number if it has another format."""
    is_written_so = len(slot) == digits and not set(slot) - set("0123456789ABCDEF")
    return int(slot, 16) if is_written_so else 1 << 20


def links_below(shards: Shards, shard: Shard, depth: int) -> Iterator[Link]:
    """Yield the links of all names in and below a shard, in the order of their hashes."""
    way = [iter(shard.values())]
    met: set[Cid] = set()
    while way:
        for link in way[-1]:
            if hamt.is_shard(link):
                _check_once(link.cid, met)
                way.append(iter(shards.shard(link.cid, depth + len(way)).values()))
                break
            yield hamt.named(link)
        else:
            way.pop()


def _check_once(shard: Cid, met: set[Cid]) -> None:
    """Make sure that a shard is reached only once: a few shards could be linked endlessly.

    The names in a shard have the hashes of its position, so none has two positions in a HAMT.
    """
    if shard in met:
        text = to_text(shard)
        raise CorruptBlockError(f"the shard {text} appears twice in one HAMT", cid=text)
    met.add(shard)


def read(cid: Cid, block: bytes, shards: Shards) -> tuple[Directory | int, int]:
    """Read a dag-pb block of a tree.

    Returns:
        The directory, or the size in bytes of the value with this root; and the number of its
            links.

    Raises:
        CorruptBlockError: it is not a UnixFS node, or not one that a tree can contain.
    """
    if len(block) >= _LARGE_BLOCK_BYTES:
        starts = dag_pb.scan(block, unixfs.DIRECTORY_DATA)
        if starts is not None:
            return PlainDirectory(cid, block, starts), len(starts)
    with _naming(cid):
        node = unixfs.decode(block)
        if node.kind in unixfs.VALUES:
            return node.size, len(node.links)
        if node.kind is UnixFsType.DIRECTORY:
            by_name = _by_name(node.links)
            return PlainDirectory(cid, block, by_name=by_name), len(by_name)
        tsize = len(block) + sum([link.tsize for link in node.links])
        if node.kind is UnixFsType.HAMT and node.fanout != unixfs.HAMT_FANOUT:
            return OtherShard(cid, tsize, node, shards), len(node.links)
        _names_of(node.links)
        return ShardedDirectory(cid, tsize, hamt.read_shard(node), shards), len(node.links)


def _by_name(links: list[Link]) -> dict[str, Link]:
    names = _names_of(links)
    if names != sorted(names):
        links.sort(key=_name_of)
    by_name = {link.name: link for link in links}
    if len(by_name) != len(links) or "" in by_name:
        raise CorruptBlockError("a directory with an empty or repeated name")
    return by_name


def _names_of(links: list[Link]) -> list[str]:
    """Return the links' names; rejects names that lead out of a folder or below a value."""
    names = [link.name for link in links]
    _check_names(names)
    return names


def _check_names(names: list[str]) -> None:
    joined = "".join(names)
    if "/" in joined or "\0" in joined or not _DOTS.isdisjoint(names):
        raise CorruptBlockError(
            "a directory with a name that a key cannot have: '.', '..', '/', NUL"
        )


@contextmanager
def _naming(cid: Cid) -> Iterator[None]:
    """Add the CID of a block to an error about it."""
    try:
        yield
    except CorruptBlockError as error:
        text = to_text(cid)
        raise CorruptBlockError(f"block {text}: {error}", cid=text) from error
