"""The serve command: serves a repository over HTTP."""

from __future__ import annotations

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import EXIT_INTERRUPTED, Context, console, with_repository
from versioned_zarr.cli.shell.completion import complete_folder, complete_ref
from versioned_zarr.interfaces.web import serve as serve_repository


@click.command()
@click.argument("repo", required=False, shell_complete=complete_folder)
@click.option(
    "--ref",
    "refs",
    metavar="REF",
    multiple=True,
    shell_complete=complete_ref,
    help="Serve only this branch, tag or CID and what it reaches; repeatable.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--cors",
    metavar="ORIGIN",
    multiple=True,
    help="Allow web pages of this origin to read, or '*' for any origin; repeatable.",
)
@with_repository
def serve(
    context: Context,
    repo: str | None,
    refs: tuple[str, ...],
    host: str,
    port: int,
    cors: tuple[str, ...],
) -> None:
    """Serve a repository over HTTP, read-only.

    /REF/key serves plain Zarr, and /ipfs/CID works as an IPFS gateway. REPO is a path or URL.

    There are no passwords: anyone who can reach the address can read. By default only this machine
    can; to allow others, set --host. Without --ref, anyone who knows the CID of stored data can
    read it.
    """
    repository = vz.open(context.repository.url if repo is None else repo, **context.options)

    def say(url: str) -> None:
        console().print(f"serving {repository.url} at {url}", markup=False)

    try:
        serve_repository(
            repository, refs=refs or None, cors=cors, host=host, port=port, on_ready=say
        )
    except KeyboardInterrupt:  # how serving ends
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


COMMANDS = [serve]
