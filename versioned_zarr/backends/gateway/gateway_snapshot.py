"""Snapshots from gateways: opens the tree that an IPFS address names.

The gateways' own modules, which need the extra `ipfs`, are imported when a snapshot is opened.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from versioned_zarr.backends.gateway.defaults import GATEWAYS_VARIABLE, LOCAL_GATEWAY, TIMEOUT_S
from versioned_zarr.backends.local.cache_storage import CacheStorage
from versioned_zarr.backends.local.state_dir import home
from versioned_zarr.blocks.cache.block_cache import LIMIT_BYTES, BlockCache
from versioned_zarr.blocks.packs.pack_registry import INDEX, PACKS
from versioned_zarr.errors import CorruptError, InvalidCidError, InvalidInputError, KeyNotFoundError
from versioned_zarr.fork_local import ForkLocal
from versioned_zarr.history import commit_object as commits
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.address.ipfs_address import (
    IpfsAddress,
    IpnsAddress,
    read_any_cid,
    read_name,
    read_pasted,
)
from versioned_zarr.ipld.address.multiaddr import base_url
from versioned_zarr.ipld.cid import Cid, HashFunction, hash_function, hash_of
from versioned_zarr.ipld.identity import inline
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.tree.lookup import Trees

if TYPE_CHECKING:
    from versioned_zarr.backends.gateway.gateway_blocks import GatewayBlocks

_OPEN: ForkLocal[weakref.WeakValueDictionary[tuple[Any, ...], GatewayContext]] = ForkLocal(
    weakref.WeakValueDictionary
)
_FOLDER = "gateway"


def open_snapshot(
    url: str,
    *,
    gateways: Sequence[str] | None = None,
    cache_bytes: int = LIMIT_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> Snapshot:
    """Open a folder on IPFS by its CID, from trustless gateways; no repository is needed.

    Every block is verified against its CID, so you need not trust the gateways: a gateway that
    sends wrong data, breaks off, or is slow, busy or dead costs time but never returns wrong data.
    Any tool that writes UnixFS may have written the Zarr hierarchy.

    The cost is one request per directory on the way to the data, whatever its size, and one per
    value. A directory of up to 1 MiB in total arrives with its values in one request. So a
    hierarchy of 20,000 chunks with consolidated metadata opens with two requests. A variable of N
    chunks takes at most one request per directory and N more; far fewer if chunks are small and
    neighbors are read, because they arrive together. Cached data costs no requests.

    An IPNS name first costs one request to each gateway. The signature of its own key is verified,
    so gateways are not trusted; but a gateway may withhold the newest record, so all are asked, and
    the newest record wins. The snapshot does not change after it is opened, even when pickled.

    Args:
        url: `ipfs://CID/path`, `/ipfs/CID/path`, a bare CID, or the URL of a gateway page. The CID
            of a commit opens its tree. Also `ipns://NAME/path` and equivalent forms, where NAME is
            an Ed25519 key, as returned by `publish`.
        gateways: base URLs such as `https://ipfs.example`, or multiaddrs such as
            `/ip4/127.0.0.1/tcp/8080`, in order of preference. By default, the gateway in `url`,
            then those of $VERSIONED_ZARR_GATEWAYS (separated by commas); without these,
            http://127.0.0.1:8080, the default of a Kubo node.
        cache_bytes: the size of the cache on this machine, for all processes; 0 turns it off.
        timeout_s: the time in seconds that a gateway may be silent.

    Raises:
        InvalidUrlError: `url` or the URL of a gateway is not valid, or is an IPNS name that cannot
            be verified: a domain, or a key of another kind.
        RefNotFoundError: no gateway has a valid record of the IPNS name.
        InvalidCidError: the CID is not valid, or names a value.
        KeyNotFoundError: nothing is at the path.
        BlockNotFoundError: no gateway has the data.
        StorageError: no gateway returned the data; the message reports what each one did.
        MissingDependencyError: the extra `ipfs` is not installed.

    Example:
        Through the gateway of a node of this machine:

            vz.open_snapshot("ipfs://bafybei…/model-a").to_xarray()
    """
    if not isinstance(url, str):
        raise InvalidInputError(f"open_snapshot takes a URL or a CID, not {type(url).__name__}")
    address = read_name(url) or read_pasted(url)
    asked = _gateways(gateways, address.gateway)
    pasted = _resolve(address, asked, timeout_s) if isinstance(address, IpnsAddress) else address
    origin = GatewayOrigin(pasted.url, asked, cids.to_text(pasted.cid), cache_bytes, timeout_s)
    tree, commit = pasted.cid, None
    trees, blocks = origin._stores.trees, origin._stores.blocks
    if pasted.path:
        link = trees.subtree(tree, pasted.path)
        if link is None:
            raise KeyNotFoundError(f"nothing at {pasted.url!r}", key=pasted.path)
        tree = link.cid
    elif commits.is_commit(tree, blocks):
        commit = commits.read(tree, blocks)
        tree = read_any_cid(commit.tree)
    try:
        trees.directory(tree)
    except InvalidCidError as error:
        raise InvalidCidError(
            f"{pasted.url!r} is a value, not a folder; open the folder that contains it",
            text=error.text,
        ) from None
    return Snapshot(origin, tree, commit)


def _resolve(named: IpnsAddress, gateways: Sequence[str], timeout_s: float) -> IpfsAddress:
    # An extra, needed here only.
    from versioned_zarr.backends.gateway.ipns_resolver import resolve  # noqa: PLC0415

    return resolve(named, gateways, timeout_s)


def _gateways(given: Sequence[str] | None, in_url: str | None) -> tuple[str, ...]:
    if isinstance(given, str):
        raise InvalidInputError("gateways takes a list of base URLs, not a string; put it in [ ]")
    if given is None:
        named = os.environ.get(GATEWAYS_VARIABLE, "").split(",")
        given = [in_url or "", *named]
    found_in: object = given
    for each in [found_in] if not isinstance(found_in, Iterable) else found_in:
        if not isinstance(each, str):
            raise InvalidInputError(
                "gateways takes a list of base URLs such as http://127.0.0.1:8080, not values of "
                f"type {type(each).__name__}"
            )
    addresses = filter(None, (each.strip().rstrip("/") for each in given))
    found = dict.fromkeys(base_url(each) if each[0] == "/" else each for each in addresses)
    return tuple(found) or (LOCAL_GATEWAY,)


@dataclass(frozen=True)
class GatewayOrigin:
    """A gateway as the origin of a snapshot; see `snapshot.SnapshotOrigin`. Pickles.

    Attributes:
        url: the opened URL, as `ipfs://CID/path`.
        gateways: the base URLs.
        root: the CID in `url`.
        cache_bytes: see `open_snapshot`.
        timeout_s: see `open_snapshot`.
    """

    url: str
    gateways: tuple[str, ...]
    root: str
    cache_bytes: int
    timeout_s: float
    _stores: GatewayContext = field(init=False, compare=False)
    """The blocks and trees, shared by all snapshots from the same gateways."""

    def __repr__(self) -> str:
        return f"GatewayOrigin({self.url!r})"  # gateway URLs may contain credentials

    def __reduce__(self) -> tuple[Any, ...]:
        return GatewayOrigin, (
            self.url,
            self.gateways,
            self.root,
            self.cache_bytes,
            self.timeout_s,
        )

    def __post_init__(self) -> None:
        function = _function_of(read_any_cid(self.root))
        key = (self.gateways, self.cache_bytes, self.timeout_s, function.name, home())
        opened = _OPEN()
        found = opened.get(key)
        if found is None:
            found = opened.setdefault(key, self._connect(function))
        object.__setattr__(self, "_stores", found)

    def _connect(self, function: HashFunction) -> GatewayContext:
        # An extra, needed here only.
        from versioned_zarr.backends.gateway.gateway_blocks import GatewayBlocks  # noqa: PLC0415
        from versioned_zarr.backends.gateway.hedging import Gateways  # noqa: PLC0415

        cache = _cache(function, self.cache_bytes)
        blocks = GatewayBlocks(Gateways(self.gateways, self.timeout_s), cache)
        return GatewayContext(blocks, Trees(blocks, function))


class GatewayContext:
    """Blocks from gateways, and a reader of their trees.

    Attributes:
        blocks: the block store.
        trees: reads trees, with a cache.
    """

    def __init__(self, blocks: GatewayBlocks, trees: Trees) -> None:
        self.blocks, self.trees = blocks, trees


def caches() -> list[BlockCache]:
    """The caches of snapshots from gateways, of all processes of this user, by hash function."""
    folder = home() / _FOLDER
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    return [_cache(hash_function(name), LIMIT_BYTES) for name in names]


def _cache(function: HashFunction, limit_bytes: int) -> BlockCache:
    """The cache of all processes; recreated if it is too damaged to be read."""
    storage = CacheStorage(home() / _FOLDER / function.name)
    try:
        return BlockCache(storage, function, limit_bytes=limit_bytes, verify=True)
    except CorruptError:
        for folder in (PACKS, INDEX):
            for stored in list(storage.list(folder)):
                storage.delete(stored.path)
        return BlockCache(storage, function, limit_bytes=limit_bytes, verify=True)


def _function_of(cid: Cid) -> HashFunction:
    """The hash function whose blocks are cached on disk."""
    try:
        if inline(cid) is None:
            return hash_of(cid)
    except InvalidCidError:
        pass
    return hash_function("sha2-256")
