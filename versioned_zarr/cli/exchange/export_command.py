"""The command `vz export`: a snapshot as a folder or a zip file of plain Zarr."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    workers_option,
)
from versioned_zarr.cli.shell.completion import complete_path, complete_ref
from versioned_zarr.interfaces.files.zarr_export import MAX_KEYS, to_folder
from versioned_zarr.interfaces.files.zip_export import to_zip
from versioned_zarr.repository.citation import Citation


@click.command("export")
@click.argument("ref", shell_complete=complete_ref)
@click.argument("folder", required=False, type=click.Path(file_okay=False))
@click.option(
    "--zip",
    "zip_file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write a zip file instead of a folder.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Make an earlier export in FOLDER equal to REF: write what differs, delete the rest.",
)
@click.option("--crate", is_flag=True, help="Add an RO-Crate description of the data.")
@click.option(
    "-p",
    "--path",
    default="",
    help="Export only this group or array.",
    shell_complete=complete_path,
)
@workers_option
@click.option(
    "--max-keys",
    type=click.IntRange(min=0),
    default=MAX_KEYS,
    show_default=True,
    help="Refuse to write more than this many keys and folders.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    help="Refuse to write more than this many bytes.  [default: the free disk space]",
)
@gateway_option
@as_json
@with_repository
def export(
    context: Context,
    ref: str,
    folder: str | None,
    zip_file: str | None,
    update: bool,
    crate: bool,
    path: str,
    workers: int,
    max_keys: int,
    max_bytes: int | None,
    gateways: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export REF to a plain Zarr folder, or to a zip file.

    REF may be an IPFS address, as for `vz ls`. Every block is verified. If the export to a folder
    is interrupted, run the command again to resume. Equal snapshots give equal zip files.
    """
    if (folder is None) == (zip_file is None):
        raise click.UsageError("name a folder, or a file with --zip FILE")
    if zip_file is not None and update:
        raise click.UsageError("--update is for folders; a zip file is always replaced")
    whole = context.snapshot(ref, gateways)
    snapshot = whole.path(path)
    limits: dict[str, Any] = {"max_keys": max_keys, "max_bytes": max_bytes}
    described = _citation(whole, snapshot) if crate else False
    told: dict[str, Any] = {"cid": snapshot.cid}
    counts = ""
    with progress_bar("exporting") as progress:
        options = {"crate": described, "progress": progress, **limits}
        if zip_file is not None:
            to_zip(snapshot, zip_file, **options)
            told["file"] = zip_file
        else:
            assert folder is not None
            done = to_folder(snapshot, folder, update=update, workers=workers, **options)
            told["folder"] = folder
            if update:
                counts = f": {done}"
                told |= {name: getattr(done, name) for name in ("written", "unchanged", "deleted")}
    if as_json:
        print_json(told)
        return
    console().print(f"{snapshot.cid} written to {folder or zip_file}{counts}", markup=False)


def _citation(whole: vz.Snapshot, snapshot: vz.Snapshot) -> Citation:
    """The citation of a part of a snapshot, with the commit of the whole."""
    cited, above = snapshot.cite(), whole.cite()
    creators = cited.creators or above.creators
    return replace(cited, commit=above.commit, date=above.date, creators=creators)
