"""What gateways give keeps the part of each contract that is about reading."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.interfaces.web.served import serving
from tests.servers.daemon import Daemon
from versioned_zarr.backends.gateway.gateway_blocks import GatewayBlocks
from versioned_zarr.backends.gateway.hedging import Gateways
from versioned_zarr.backends.kubo import KuboBlocks, KuboClient
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.ipld.cid import hash_function, to_text
from versioned_zarr.testing import ReadingContract, ReadOnlyBlocksContract
from versioned_zarr.testing.block_store_contract import sample_blocks, sample_values
from versioned_zarr.testing.history_contract import commit_values
from versioned_zarr.testing.reading_contract import VALUES


@pytest.fixture(scope="module", params=["sha2-256", "blake3"])
def hash_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def our_gateway(hash_name: str) -> Iterator[str]:
    """The URL of one that shows a repository."""
    repository = vz.create(f"memory://samples-{hash_name}", hash=hash_name)
    with repository.session(message="samples") as session:
        for key, value in sample_values(hash_name).items():
            session.write(key, value)
    with serving(repository) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def kubos_gateway(node: Daemon, hash_name: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of that of a node which has the blocks."""
    storage = LocalStorage(tmp_path_factory.mktemp("cache"))
    blocks = KuboBlocks(KuboClient(node.rpc), BlockCache(storage, hash_function(hash_name)))
    samples = sample_blocks(blocks.hash)
    blocks.put(samples, samples[-1][0])
    return node.gateway


def blocks_from(gateway: str, hash_name: str, folder: Path) -> BlockStore:
    """Those that a gateway gives, on a machine that has none of them."""
    cache = BlockCache(LocalStorage(folder / "kept"), hash_function(hash_name))
    return GatewayBlocks(Gateways([gateway], timeout_s=60), cache)


class TestGateway(ReadingContract):
    """A repository as its web gateway shows it."""

    @pytest.fixture(params=["tree", "commit"])
    def served(self, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
        """A URL on IPFS, and a gateway that has it."""
        repository = vz.create(f"memory://{uuid.uuid4()}")
        commit = commit_values(repository, dict(VALUES))
        with serving(repository) as port:
            cid = commit.tree if request.param == "tree" else commit.cid
            yield f"ipfs://{cid}", f"http://127.0.0.1:{port}"

    @pytest.fixture
    def shown(self, served: tuple[str, str]) -> str:
        return served[0]

    @pytest.fixture
    def absent(self) -> str:
        return f"ipfs://{to_text(hash_function('sha2-256').dag_pb(b'never stored'))}"

    @pytest.fixture
    def open_at(self, served: tuple[str, str]) -> Callable[[str], vz.Snapshot]:
        return lambda url: vz.open_snapshot(url, gateways=[served[1]])


class TestBlocksFromOurGateway(ReadOnlyBlocksContract):
    has_them_near = False

    @pytest.fixture
    def stored(self, our_gateway: str, hash_name: str, tmp_path: Path) -> BlockStore:
        return blocks_from(our_gateway, hash_name, tmp_path)


@pytest.mark.compat
class TestBlocksFromKubosGateway(ReadOnlyBlocksContract):
    has_them_near = False

    @pytest.fixture
    def stored(self, kubos_gateway: str, hash_name: str, tmp_path: Path) -> BlockStore:
        return blocks_from(kubos_gateway, hash_name, tmp_path)
