"""Network commands: publish to IPNS, and manage the local cache."""

from __future__ import annotations

from collections.abc import Sequence

import click

from versioned_zarr.blocks.protocol import BoundedCache, CachedBlocks
from versioned_zarr.cli.output import Context, as_json, console, print_json, with_repository
from versioned_zarr.cli.shell.completion import complete_ref
from versioned_zarr.cli.shell.other_tools import Subcommands
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.location import gateway_caches


@click.command()
@click.argument("ref", default="main", shell_complete=complete_ref)
@click.option("--key", help="The node's signing key; created if it does not exist.")
@as_json
@with_repository
def publish(context: Context, ref: str, key: str | None, as_json: bool) -> None:
    """Publish the snapshot of REF under an IPNS name."""
    name = context.repository.publish(ref, key=key)
    cid = context.repository.resolve(name).cid
    if as_json:
        print_json({"name": name, "cid": cid})
    else:
        console().print(f"{name} -> {cid}", markup=False)


@click.group(cls=Subcommands)
def cache() -> None:
    """Show or clear the local cache of remote repositories."""


_of_gateways = click.option(
    "--gateways",
    "is_of_gateways",
    is_flag=True,
    help="Use the cache of snapshots read from gateways; needs no repository.",
)


@cache.command()
@_of_gateways
@as_json
@with_repository
def size(context: Context, is_of_gateways: bool, as_json: bool) -> None:
    """Show the size and the limit of the cache, in bytes."""
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
    """Clear the cache. The servers still have all the data."""
    for each in _caches(context, is_of_gateways):
        each.clear()


def _caches(context: Context, is_of_gateways: bool) -> Sequence[BoundedCache]:
    if is_of_gateways:
        return gateway_caches()
    blocks = context.repository._stores.blocks
    if not isinstance(blocks, CachedBlocks):
        raise InvalidInputError(
            f"{context.repository.url!r} is on this machine and has no cache; for the cache of "
            "snapshots read from gateways, use --gateways"
        )
    return [blocks.cache]


COMMANDS = [publish, cache]
