"""Transfer commands: push, fetch, clone and CAR files."""

from __future__ import annotations

import os
from typing import Literal

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    print_json,
    print_names,
    progress_bar,
    resolve_option,
    with_repository,
)
from versioned_zarr.cli.shell.completion import (
    complete_folder,
    complete_name,
    complete_name_of_source,
    complete_path_of_source,
    complete_ref,
    complete_remote,
)
from versioned_zarr.cli.shell.other_tools import Subcommands
from versioned_zarr.cli.store_options import remote_option, shared_option, with_shared
from versioned_zarr.engine.open_options import ServerOptions
from versioned_zarr.urls import without_user


@click.command()
@click.argument("source", shell_complete=complete_folder)
@click.argument("destination", shell_complete=complete_folder)
@click.option(
    "-r",
    "--ref",
    "refs",
    multiple=True,
    help="Only this branch or tag; repeatable.",
    shell_complete=complete_name_of_source,
)
@click.option("--depth", type=click.IntRange(min=1), help="Only this many commits per branch.")
@click.option(
    "-p",
    "--path",
    "paths",
    multiple=True,
    help="Only this group or array; repeatable.",
    shell_complete=complete_path_of_source,
)
@shared_option
@remote_option
@as_json
@with_repository
def clone(
    context: Context,
    source: str,
    destination: str,
    refs: tuple[str, ...],
    depth: int | None,
    paths: tuple[str, ...],
    is_shared: bool,
    remote_options: ServerOptions,
    as_json: bool,
) -> None:
    """Clone the repository SOURCE into DESTINATION.

    Both are paths or URLs. Options of the object store with SOURCE are --remote-option, and of that
    with DESTINATION vz --storage-option. If the clone is interrupted, run the command again to
    resume. Data that --depth and --path leave out is fetched from SOURCE when it is read.
    """
    with progress_bar("cloning") as progress:
        copy = vz.clone(
            source,
            destination,
            refs=list(refs) or None,
            depth=depth,
            paths=paths,
            progress=progress,
            src_options=remote_options,
            **with_shared(context.options, is_shared),
        )
    if as_json:
        branches = {name: commit.cid for name, commit in copy.branches.items()}
        tags = {name: commit.cid for name, commit in copy.tags.items()}
        print_json({"url": copy.url, "branches": branches, "tags": tags})
        return
    shown = source if os.path.exists(source) else without_user(source)
    console().print(f"new repository at {copy.url}, a clone of {shown}", markup=False)


@click.command()
@click.argument("to", default="origin", shell_complete=complete_remote)
@click.argument("refs", nargs=-1, shell_complete=complete_name)
@click.option(
    "--force-with-lease",
    "is_forced",
    is_flag=True,
    help="Overwrite a diverged branch if it is still where it was last seen.",
)
@click.option(
    "--lease",
    metavar="COMMIT",
    help="Overwrite a diverged branch if it is at COMMIT.",
    shell_complete=complete_ref,
)
@remote_option
@as_json
@with_repository
def push(
    context: Context,
    to: str,
    refs: tuple[str, ...],
    is_forced: bool,
    lease: str | None,
    remote_options: ServerOptions,
    as_json: bool,
) -> None:
    """Send REFS and their history to TO.

    TO is a remote or URL, origin by default. REFS are branches and tags, as REF or REF:NAME to use
    another name there; all by default.
    """
    with progress_bar("pushing") as progress:
        done = context.repository.push(
            to,
            list(refs) or None,
            force_with_lease=lease or is_forced,
            progress=progress,
            **remote_options,
        )
    _show(done, as_json)


@click.command()
@click.argument("source", default="origin", shell_complete=complete_remote)
@click.argument("refs", nargs=-1, shell_complete=complete_name)
@remote_option
@as_json
@with_repository
def fetch(
    context: Context,
    source: str,
    refs: tuple[str, ...],
    remote_options: ServerOptions,
    as_json: bool,
) -> None:
    """Fetch REFS and their history from SOURCE.

    SOURCE is a remote or URL, origin by default. REFS are branches and tags; all by default.
    Fetched branches are recorded as SOURCE/BRANCH.
    """
    with progress_bar("fetching") as progress:
        done = context.repository.fetch(
            source, list(refs) or None, progress=progress, **remote_options
        )
    _show(done, as_json)


@click.command()
@click.argument("source", default="origin", shell_complete=complete_remote)
@click.argument("refs", nargs=-1, shell_complete=complete_name)
@resolve_option
@remote_option
@as_json
@with_repository
def pull(
    context: Context,
    source: str,
    refs: tuple[str, ...],
    resolve: Literal["ours", "theirs"] | None,
    remote_options: ServerOptions,
    as_json: bool,
) -> None:
    """Fetch branches from SOURCE and merge them.

    SOURCE is a remote or URL, origin by default. REFS are branches, as BRANCH to merge into the
    branch of the same name, or as BRANCH:INTO; main by default.
    """
    with progress_bar("pulling") as progress:
        done = context.repository.pull(
            source,
            list(refs) or None,
            resolve=resolve,
            progress=progress,
            **remote_options,
        )
    _show(done, as_json)


def _show(done: vz.Transfer, as_json: bool) -> None:
    if as_json:
        print_json(done.to_dict())
    else:
        console().print(str(done), markup=False)


@click.group(cls=Subcommands)
def remote() -> None:
    """Manage remotes: named repositories to push to and fetch from."""


@remote.command("list")
@as_json
@with_repository
def remote_list(context: Context, as_json: bool) -> None:
    """List remotes and their URLs."""
    urls = dict(context.repository.remotes)
    if as_json:
        print_json(urls)
        return
    print_names(urls)


@remote.command("add")
@click.argument("name")
@click.argument("url", shell_complete=complete_folder)
@with_repository
def remote_add(context: Context, name: str, url: str) -> None:
    """Add a remote NAME for the repository at URL."""
    context.repository.remotes.add(name, url)


@remote.command("delete")
@click.argument("name", shell_complete=complete_remote)
@with_repository
def remote_delete(context: Context, name: str) -> None:
    """Delete the remote NAME and its remote branches."""
    context.repository.remotes.delete(name)


@click.group(cls=Subcommands)
def bundle() -> None:
    """Export to and import from CAR files, a format of IPFS."""


@bundle.command("export")
@click.argument("ref", shell_complete=complete_ref)
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--history", is_flag=True, help="Include the commit and its history, not just its tree."
)
@click.option(
    "--since", metavar="REF", help="Leave out what REF reaches.", shell_complete=complete_ref
)
@click.option(
    "--car-version",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="Version of the CAR format.",
)
@as_json
@with_repository
def bundle_export(
    context: Context,
    ref: str,
    file: str,
    history: bool,
    since: str | None,
    car_version: int,
    as_json: bool,
) -> None:
    """Write REF to a CAR file; print the CID of its root.

    Every block is verified.
    """
    with progress_bar("exporting") as progress:
        root = context.repository.export_car(
            ref, file, history=history, since=since, version=car_version, progress=progress
        )
    if as_json:
        print_json({"root": root, "file": file})
    else:
        console().print(f"{root} written to {file}", markup=False)


@bundle.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("-b", "--branch", help="Create this branch at the root, which must be a commit.")
@as_json
@with_repository
def bundle_import(context: Context, file: str, branch: str | None, as_json: bool) -> None:
    """Store the blocks of a CAR file; print the CIDs of its roots.

    Every block is verified. A root that no branch names can be read by its CID until gc removes it.
    """
    with progress_bar("importing") as progress:
        roots = context.repository.import_car(file, as_branch=branch, progress=progress)
    if as_json:
        print_json({"roots": roots})
    else:
        console().print("\n".join(roots), markup=False)


COMMANDS = [clone, push, pull, fetch, remote, bundle]
