"""Value commands: create repositories, and read values."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    gateway_option,
    print_json,
    progress_bar,
    with_repository,
)
from versioned_zarr.cli.shell.completion import complete_folder, complete_path, complete_ref
from versioned_zarr.cli.store_options import shared_option, with_shared
from versioned_zarr.interfaces.files.folder_cid import cid_of_folder
from versioned_zarr.interfaces.files.zarr_export import MAX_KEYS, check_count
from versioned_zarr.terminal_text import escaped_line

_READ_AT_ONCE = 64 << 20


@click.command()
@click.argument("location", required=False, shell_complete=complete_folder)
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(["sha2-256", "blake3"]),
    default="sha2-256",
    show_default=True,
    help="Hash function that names blocks; it cannot be changed later.",
)
@shared_option
@as_json
@with_repository
def init(
    context: Context, location: str | None, hash_name: str, is_shared: bool, as_json: bool
) -> None:
    """Create a repository at LOCATION, a path or URL."""
    place = location or context.location or os.curdir
    repository = vz.create(place, hash=hash_name, **with_shared(context.options, is_shared))
    if as_json:
        print_json({"url": repository.url, "hash": hash_name})
        return
    console().print(f"new repository at {repository.url}", markup=False)


@click.command()
@click.argument("ref", default="main", shell_complete=complete_ref)
@click.argument("path", default="", shell_complete=complete_path)
@click.option("-r", "--recursive", is_flag=True, help="List all keys below PATH.")
@click.option("-l", "--long", is_flag=True, help="Show sizes in bytes.")
@gateway_option
@as_json
@with_repository
def ls(
    context: Context,
    ref: str,
    path: str,
    recursive: bool,
    long: bool,
    gateways: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the contents of PATH in REF.

    REF may be an IPFS address such as ipfs://CID. It needs no repository, and every block is
    verified.
    """
    snapshot = context.snapshot(ref, gateways).path(path)
    sizes: Iterable[tuple[str, int | None]]
    if recursive:
        sizes = snapshot.sizes()
    else:
        sizes = ((name, snapshot.size(name)) for name in snapshot.list_dir())
    if as_json:
        if recursive:
            check_count(snapshot, MAX_KEYS)  # the path is assembled in memory
        print_json([{"name": name, "size": size} for name, size in sizes])
        return
    for name, size in sizes:
        shown = escaped_line(name if size is not None else f"{name}/")
        text = f"{'-' if size is None else size:>12}  {shown}" if long else shown
        console().print(text, markup=False)


@click.command()
@click.argument("ref", shell_complete=complete_ref)
@click.argument("key", shell_complete=complete_path)
@gateway_option
@with_repository
def cat(context: Context, ref: str, key: str, gateways: tuple[str, ...]) -> None:
    """Write the raw value of KEY in REF to standard output.

    REF may be an IPFS address, as for `vz ls`.
    """
    if sys.stdout is None:
        raise click.ClickException("standard output is closed; redirect it to a file or a pipe")
    snapshot = context.snapshot(ref, gateways)
    size = snapshot.size(key) or 0
    sys.stdout.buffer.write(snapshot.read(key, 0, _READ_AT_ONCE))
    for start in range(_READ_AT_ONCE, size, _READ_AT_ONCE):
        sys.stdout.buffer.write(snapshot.read(key, start, start + _READ_AT_ONCE))
    sys.stdout.buffer.flush()


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(["sha2-256", "blake3"]),
    default="sha2-256",
    show_default=True,
    help="Hash function.",
)
@as_json
def cid(path: Path, hash_name: str, as_json: bool) -> None:
    """Print the CID of a plain folder or file.

    A snapshot with the same keys and values has the same CID. So does `ipfs add -r -Q --hidden
    --only-hash` with the profile unixfs-v1-2025. No repository is needed.
    """
    with progress_bar("hashing") as progress:
        found = cid_of_folder(path, hash_name, progress=progress)
    if as_json:
        print_json({"cid": found, "path": str(path)})
        return
    click.echo(found)


COMMANDS = [init, ls, cat, cid]
