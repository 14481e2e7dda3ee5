"""The block fetcher: gets each block from a node once, and small blocks in batches.

A request costs about a millisecond, whatever its size. So if leaves of one directory are read
repeatedly, like the chunks of an array, one request also fetches some of the following leaves: at
most twice as many as were requested before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from versioned_zarr.backends.kubo.client import KuboClient
from versioned_zarr.blocks.remote.singleflight import Flight, FlightOwner
from versioned_zarr.errors import CorruptBlockError, StorageError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link

SMALL_BYTES = 256 << 10
"""Leaves up to this size are fetched in batches."""
WINDOW_BLOCKS = 64
WINDOW_BYTES = 4 << 20
_REMEMBERED_LEAVES = 1 << 17


@dataclass
class _Family:
    """The small leaves of one node, in its order, and how many were requested."""

    leaves: list[Link]
    asked_for: int = 0


class _Coming(Flight):
    """A block that is being fetched.

    Attributes:
        block: its bytes; None if it did not arrive with the others.
    """

    block: memoryview | None = None


class BlockFetcher:
    """Fetches blocks from one node. Thread-safe.

    Args:
        client: the node.
        keep: receives each verified block.
        is_near: whether a block is cached, so that it need not be fetched.
    """

    def __init__(
        self,
        client: KuboClient,
        keep: Callable[[Cid, memoryview], None],
        is_near: Callable[[Cid], bool],
    ) -> None:
        self._client, self._keep, self._is_near = client, keep, is_near
        self._coming: dict[Cid, _Coming] = {}
        self._families: OrderedDict[Cid, _Family] = OrderedDict()
        self._positions: dict[Cid, tuple[_Family, int]] = {}

    def saw(self, cid: Cid, links: Sequence[Link]) -> None:
        """Record a node whose leaves may be requested soon."""
        leaves = [link for link in links if cids.is_raw(link.cid) and link.tsize <= SMALL_BYTES]
        if len(leaves) < 2:
            return
        family = _Family(leaves)
        if self._families.setdefault(cid, family) is not family:
            return
        for position, link in enumerate(leaves):
            self._positions[link.cid] = (family, position)
        while len(self._positions) > _REMEMBERED_LEAVES and len(self._families) > 1:
            with suppress(KeyError):
                for link in self._families.popitem(last=False)[1].leaves:
                    self._positions.pop(link.cid, None)

    def fetch(self, cid: Cid) -> memoryview:
        """A block from the node, verified.

        Raises:
            BlockNotFoundError: the node does not have it.
            CorruptBlockError: the node returned other bytes.
        """
        pilot = FlightOwner()
        mine: dict[Cid, _Coming] = {}
        try:
            mine[cid] = _Coming(pilot)
            theirs = self._coming.setdefault(cid, mine[cid])
            if theirs is mine[cid]:
                return self._bring(cid, self._window(cid, pilot, mine), mine)
        finally:
            self._end(mine)
        has_landed = theirs.wait()
        if has_landed and isinstance(theirs.error, Exception):
            raise theirs.error
        came = theirs.block
        if came is None:  # it did not arrive with the others, or the fetching thread was stopped
            self._end({cid: theirs})
            came = self._bring_one(cid)
            self._keep(cid, came)
        return came

    def _end(self, coming: dict[Cid, _Coming]) -> None:
        for cid, each in coming.items():
            each.is_left = True
            if self._coming.get(cid) is each:
                self._coming.pop(cid, None)

    def fetch_leaves(self, leaves: Sequence[Link]) -> dict[Cid, memoryview]:
        """Fetch raw blocks together; those that do not arrive are left out.

        Raises:
            StorageError: none arrived.
        """
        wanted = [link for link in leaves if not self._is_near(link.cid)]
        came = self._bring_all(wanted) if wanted else {}
        for cid, data in came.items():
            self._keep(cid, data)
        return came

    def _window(self, cid: Cid, pilot: FlightOwner, mine: dict[Cid, _Coming]) -> list[Link]:
        """The block and those that are fetched with it, which are in flight from now on."""
        found = self._positions.get(cid)
        if found is None:
            return [Link("", cid, 0)]
        family, position = found
        window, size = [family.leaves[position]], family.leaves[position].tsize
        wanted = min(WINDOW_BLOCKS, 1 + 2 * family.asked_for)
        family.asked_for += 1
        for link in (*family.leaves[position + 1 :], *family.leaves[:position]):
            if len(window) >= wanted or size + link.tsize > WINDOW_BYTES:
                break
            if link.cid in mine or self._is_near(link.cid):
                continue
            mine[link.cid] = _Coming(pilot)
            if self._coming.setdefault(link.cid, mine[link.cid]) is not mine[link.cid]:
                del mine[link.cid]  # another thread fetches it
                continue
            window.append(link)
            size += link.tsize
        return window

    def _bring(self, cid: Cid, window: list[Link], mine: dict[Cid, _Coming]) -> memoryview:
        blocks: dict[Cid, memoryview] = {}
        try:
            if len(window) > 1:
                try:
                    blocks = self._bring_all(window)
                except StorageError:
                    self._distrust(cid)
            if cid not in blocks:
                blocks[cid] = self._bring_one(cid)
        except BaseException as error:
            mine[cid].land(error)
            raise
        finally:
            for wanted, data in blocks.items():
                self._keep(wanted, data)
                mine[wanted].block = data
            for each in mine.values():
                each.land(each.error)  # threads that wait for a missing one fetch it themselves
        return blocks[cid]

    def _distrust(self, cid: Cid) -> None:
        """The node lacks some of the leaves around a block: fetch fewer with it next time."""
        found = self._positions.get(cid)
        if found is not None:
            found[0].asked_for = 0

    def _bring_one(self, cid: Cid) -> memoryview:
        data = memoryview(self._client.get_block(cid))
        cids.check(cid, data, self._client.base_url)
        return data

    def _bring_all(self, window: Sequence[Link]) -> dict[Cid, memoryview]:
        """The blocks of a window that arrived and are valid.

        Raises:
            StorageError: the node lacks one of them.
        """
        data = memoryview(self._client.concatenate([link.cid for link in window]))
        blocks: dict[Cid, memoryview] = {}
        at = 0
        for link in window:
            block = data[at : at + link.tsize]
            at += link.tsize
            try:
                cids.check(link.cid, block, self._client.base_url)
            except CorruptBlockError:
                return blocks
            blocks[link.cid] = block
        return blocks
