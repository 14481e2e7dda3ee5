"""Network commands: names that others resolve, and the local cache."""

from __future__ import annotations

from collections.abc import Sequence

import click

from versioned_zarr.blocks.protocol import BoundedCache, CachedBlocks
from versioned_zarr.cli.output import Context, as_json, console, print_json, with_repository
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.location import gateway_caches


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
        console().print(f"{name} -> {cid}", markup=False)


@click.group()
def cache() -> None:
    """What is kept here of a repository on a server, or of snapshots from gateways."""


_of_gateways = click.option(
    "--gateways",
    "is_of_gateways",
    is_flag=True,
    help="Of snapshots that were read from gateways; needs no repository.",
)


@cache.command()
@_of_gateways
@as_json
@with_repository
def size(context: Context, is_of_gateways: bool, as_json: bool) -> None:
    """Print how many bytes it has, and how many it may have."""
    found = _caches(context, is_of_gateways)
    size_bytes = sum(each.size_bytes() for each in found)
    limit_bytes = sum(each.limit_bytes for each in found)
    if as_json:
        print_json({"size_bytes": size_bytes, "limit_bytes": limit_bytes})
    else:
        console().print(f"{size_bytes:,} of at most {limit_bytes:,} bytes")


@cache.command()
@_of_gateways
@with_repository
def clear(context: Context, is_of_gateways: bool) -> None:
    """Remove it; nothing is lost, the servers have it all."""
    for each in _caches(context, is_of_gateways):
        each.clear()


def _caches(context: Context, is_of_gateways: bool) -> Sequence[BoundedCache]:
    if is_of_gateways:
        return gateway_caches()
    blocks = context.repository._stores.blocks
    if not isinstance(blocks, CachedBlocks):
        raise InvalidInputError(
            f"{context.repository.url!r} is on this machine and has no cache; that of snapshots "
            "from gateways is found with --gateways"
        )
    return [blocks.cache]


COMMANDS = [publish, cache]
