"""Value commands: create repositories, and read, write, import and export values."""

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
    into_option,
    print_commit_line,
    print_json,
    progress_bar,
    with_repository,
)
from versioned_zarr.interfaces.files.folder_cid import cid_of_folder
from versioned_zarr.interfaces.files.zarr_export import MAX_KEYS, check_count, to_folder
from versioned_zarr.interfaces.files.zarr_import import import_zarr
from versioned_zarr.terminal_text import escaped_line

_READ_AT_ONCE = 64 << 20


@click.command()
@click.argument("place", required=False)
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(["sha2-256", "blake3"]),
    default="sha2-256",
    show_default=True,
    help="What names blocks; for good.",
)
@as_json
@with_repository
def init(context: Context, place: str | None, hash_name: str, as_json: bool) -> None:
    """Make a repository at PLACE, a path or URL."""
    repository = vz.create(place or context.place or os.curdir, hash=hash_name)
    if as_json:
        print_json({"url": repository.url, "hash": hash_name})
        return
    console().print(f"new repository at {repository.url}", markup=False)


@click.command()
@click.argument("ref", default="main")
@click.argument("path", default="")
@click.option("-r", "--recursive", is_flag=True, help="All keys below, not just the names here.")
@click.option("-l", "--long", is_flag=True, help="With sizes in bytes.")
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
    """List what lies at PATH in REF.

    REF may be an address on IPFS, as ipfs://CID, which needs no repository; every block is
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
            check_count(snapshot, MAX_KEYS)  # it is put together in memory
        print_json([{"name": name, "size": size} for name, size in sizes])
        return
    for name, size in sizes:
        shown = escaped_line(name if size is not None else f"{name}/")
        text = f"{'-' if size is None else size:>12}  {shown}" if long else shown
        console().print(text, markup=False)


@click.command()
@click.argument("ref")
@click.argument("key")
@gateway_option
@with_repository
def cat(context: Context, ref: str, key: str, gateways: tuple[str, ...]) -> None:
    """Write the value under KEY in REF to standard output, as it is.

    REF may be an address on IPFS, as for `vz ls`.
    """
    if sys.stdout is None:
        raise click.ClickException("standard output is closed, and the value would go there")
    snapshot = context.snapshot(ref, gateways)
    size = snapshot.size(key) or 0
    sys.stdout.buffer.write(snapshot.read(key, 0, _READ_AT_ONCE))
    for start in range(_READ_AT_ONCE, size, _READ_AT_ONCE):
        sys.stdout.buffer.write(snapshot.read(key, start, start + _READ_AT_ONCE))
    sys.stdout.buffer.flush()


@click.command("import")
@click.argument("source")
@into_option
@click.option("-p", "--path", default="", help="The group it shall become.")
@click.option("-m", "--message", help="Why.")
@click.option("--overwrite", is_flag=True, help="Replace what lies there.")
@click.option("-j", "--workers", type=click.IntRange(min=1), default=8, show_default=True)
@as_json
@with_repository
def import_(
    context: Context,
    source: str,
    into: str,
    path: str,
    message: str | None,
    overwrite: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Commit a copy of the plain Zarr at SOURCE, a folder or URL.

    If it is interrupted, call it again to resume.
    """
    with progress_bar("importing", first="listing") as progress:
        commit = import_zarr(
            context.repository,
            source,
            into=into,
            path=path,
            message=message,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    print_commit_line(commit, as_json=as_json)


@click.command("export")
@click.argument("ref")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("-p", "--path", default="", help="Only this group or array.")
@click.option("-j", "--workers", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--max-keys",
    type=click.IntRange(min=0),
    default=MAX_KEYS,
    show_default=True,
    help="Refuse to write more keys and folders.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    help="Refuse to write more bytes.  [default: what is free on the disk]",
)
@gateway_option
@as_json
@with_repository
def export(
    context: Context,
    ref: str,
    folder: str,
    path: str,
    workers: int,
    max_keys: int,
    max_bytes: int | None,
    gateways: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write REF as a plain Zarr folder, every block verified.

    REF may be an address on IPFS, as for `vz ls`.

    If it is interrupted, call it again to resume.
    """
    snapshot = context.snapshot(ref, gateways).path(path)
    with progress_bar("exporting") as progress:
        to_folder(
            snapshot,
            folder,
            workers=workers,
            progress=progress,
            max_keys=max_keys,
            max_bytes=max_bytes,
        )
    if as_json:
        print_json({"cid": snapshot.cid, "folder": folder})
        return
    console().print(f"{snapshot.cid} written to {folder}", markup=False)


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(["sha2-256", "blake3"]),
    default="sha2-256",
    show_default=True,
)
@as_json
def cid(path: Path, hash_name: str, as_json: bool) -> None:
    """Print the CID of a plain folder or file, as a snapshot of it would have.

    Needs no repository. The same as `ipfs add -r -Q --hidden --only-hash` prints for it with the
    profile unixfs-v1-2025.
    """
    found = cid_of_folder(path, hash_name)
    if as_json:
        print_json({"cid": found, "path": str(path)})
        return
    click.echo(found)


COMMANDS = [init, ls, cat, import_, export, cid]
