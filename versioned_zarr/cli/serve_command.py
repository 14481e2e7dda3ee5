"""The serve command: serves a repository over HTTP."""

from __future__ import annotations

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import EXIT_INTERRUPTED, Context, console, with_repository
from versioned_zarr.interfaces.web import serve as serve_repository


@click.command()
@click.argument("repo", required=False)
@click.option(
    "--ref",
    "refs",
    metavar="REF",
    multiple=True,
    help="Only this branch, tag or CID and what it reaches; may be given again.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 for any that is free.",
)
@click.option(
    "--cors",
    metavar="ORIGIN",
    multiple=True,
    help="Let pages of this origin read, or '*' for any; may be given again.",
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
    """Serve REPO over HTTP, read-only: /REF/key as plain Zarr, /ipfs/CID as an IPFS gateway.

    Without --ref, all that is stored can be read by who knows its CID. Whoever reaches the
    address can read: there are no passwords, so only this machine can unless --host says more.
    """
    repository = vz.open(context.repository.url if repo is None else repo)

    def say(url: str) -> None:
        console().print(f"serving {repository.url} at {url}", markup=False)

    try:
        serve_repository(
            repository, refs=refs or None, cors=cors, host=host, port=port, on_ready=say
        )
    except KeyboardInterrupt:  # how serving ends
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


COMMANDS = [serve]
