"""Commands for repositories on a server: names that others find, and the local cache."""

from __future__ import annotations

import click

from versioned_zarr.blocks.cache import BlockCache
from versioned_zarr.cli.output import Context, as_json, print_json, with_repository
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.repository.repository import BlockRepository


@click.command()
@click.argument("ref", default="main")
@click.option("--key", help="The node's key that signs; made if there is none.")
@as_json
@with_repository
def publish(context: Context, ref: str, key: str | None, as_json: bool) -> None:
    """Let an IPNS name stand for the snapshot of REF."""
    name = context.repository.publish(ref, key=key)
    cid = context.repository.resolve(name).cid
    if as_json:
        print_json({"name": name, "cid": cid})
    else:
        print(f"{name} -> {cid}")


@click.group()
def cache() -> None:
    """What is kept here of a repository on a server."""


@cache.command()
@as_json
@with_repository
def size(context: Context, as_json: bool) -> None:
    """Print how many bytes it has, and how many it may have."""
    found = _cache(context)
    if as_json:
        print_json({"size_bytes": found.size_bytes(), "limit_bytes": found.limit_bytes})
    else:
        print(f"{found.size_bytes():,} of at most {found.limit_bytes:,} bytes")


@cache.command()
@with_repository
def clear(context: Context) -> None:
    """Remove it; nothing is lost, the server has it all."""
    _cache(context).clear()


def _cache(context: Context) -> BlockCache:
    repository = context.repository
    stores = repository.stores if isinstance(repository, BlockRepository) else None
    found = getattr(stores and stores.blocks, "cache", None)
    if not isinstance(found, BlockCache):
        raise InvalidInputError(f"{context.repository.url!r} is on this machine and has no cache")
    return found


COMMANDS = [publish, cache]
