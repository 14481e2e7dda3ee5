"""The command `vz import`: data of any supported format."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import click

from versioned_zarr.cli.output import (
    Context,
    as_json,
    print_commit_line,
    progress_bar,
    with_repository,
    workers_option,
)
from versioned_zarr.cli.shell.completion import complete_branch, complete_folder, complete_path
from versioned_zarr.interfaces.files.source_formats import FORMATS, format_of
from versioned_zarr.interfaces.files.zarr_import import import_zarr
from versioned_zarr.interfaces.imports.any_format import import_from


@click.command("import")
@click.argument("source", shell_complete=complete_folder)
@click.option(
    "-b",
    "--into",
    default="main",
    show_default=True,
    help="Branch to commit to.",
    shell_complete=complete_branch,
)
@click.option(
    "-p",
    "--path",
    default="",
    help="Group to import into; the root by default.",
    shell_complete=complete_path,
)
@click.option("-m", "--message", help="Commit message.")
@click.option("--overwrite", is_flag=True, help="Replace existing data at this path.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    help="Format of SOURCE.  [default: found from its content and name]",
)
@click.option(
    "--history",
    is_flag=True,
    help="Import the history that git or DVC has of the Zarr folder SOURCE.",
)
@workers_option
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Copy Zarr in this many processes, each with --workers parallel workers.",
)
@as_json
@with_repository
def import_(
    context: Context,
    source: str,
    into: str,
    path: str,
    message: str | None,
    overwrite: bool,
    format_name: str | None,
    history: bool,
    workers: int,
    processes: int | None,
    as_json: bool,
) -> None:
    """Import data from SOURCE and commit it.

    SOURCE is a path or URL of Zarr (also in a zip file), netCDF, HDF5, GRIB, N5 or an Icechunk
    repository. A history of git, DVC or Icechunk becomes one commit per revision. If the import is
    interrupted, run the command again to resume.
    """
    is_zarr = (format_name or format_of(source) or "zarr") == "zarr" and not history
    if processes is not None and not is_zarr:
        raise click.UsageError("--processes is for Zarr; leave it out")
    os.environ.setdefault("ICECHUNK_LOG", "error")  # its warnings are about writing
    options = {
        "into": into,
        "path": path,
        "message": message,
        "overwrite": overwrite,
        "workers": workers,
    }
    with _pool_of(processes) as executor, progress_bar("importing", first="listing") as progress:
        if executor is None:
            commit = import_from(
                context.repository,
                source,
                format=format_name,
                history=history,
                progress=progress,
                **options,  # type: ignore[arg-type]
            )
        else:
            commit = import_zarr(
                context.repository,
                source,
                executor=executor,
                progress=progress,
                **options,  # type: ignore[arg-type]
            )
    print_commit_line(commit, as_json=as_json)


def _pool_of(processes: int | None) -> AbstractContextManager[ProcessPoolExecutor | None]:
    """Processes that share no locks with this one; None without a number."""
    if processes is None:
        return nullcontext()
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """In a worker: end when the command was killed; the pool would wait for tasks forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
