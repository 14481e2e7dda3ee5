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
from versioned_zarr.urls import without_user


@click.command()
@click.argument("source")
@click.argument("place")
@click.option("-r", "--ref", "refs", multiple=True, help="Only this branch or tag; repeatable.")
@click.option("--depth", type=click.IntRange(min=1), help="Only so many commits of each branch.")
@click.option("-p", "--path", "paths", multiple=True, help="Only this group or array; repeatable.")
@as_json
def clone(
    source: str,
    place: str,
    refs: tuple[str, ...],
    depth: int | None,
    paths: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a new repository at PLACE as a copy of SOURCE, both paths or URLs.

    If it is interrupted, call it again to resume. What --depth and --path
    leave out is fetched from SOURCE when it is read.
    """
    with progress_bar("cloning") as progress:
        copy = vz.clone(
            source, place, refs=list(refs) or None, depth=depth, paths=paths, progress=progress
        )
    if as_json:
        branches = {name: commit.cid for name, commit in copy.branches.items()}
        tags = {name: commit.cid for name, commit in copy.tags.items()}
        print_json({"url": copy.url, "branches": branches, "tags": tags})
        return
    shown = source if os.path.exists(source) else without_user(source)
    console().print(f"new repository at {copy.url}, a clone of {shown}", markup=False)


@click.command()
@click.argument("to", default="origin")
@click.argument("refs", nargs=-1)
@click.option(
    "--force-with-lease",
    "is_forced",
    is_flag=True,
    help="Replace a branch too, if it stands where it was seen last.",
)
@click.option("--lease", metavar="COMMIT", help="Replace a branch too, if it stands at COMMIT.")
@as_json
@with_repository
def push(
    context: Context,
    to: str,
    refs: tuple[str, ...],
    is_forced: bool,
    lease: str | None,
    as_json: bool,
) -> None:
    """Bring the repository TO, a remote or URL, what REFS reach, and move them there.

    REFS are branches and tags, as REF or REF:NAME; all by default.
    """
    with progress_bar("pushing") as progress:
        done = context.repository.push(
            to, list(refs) or None, force_with_lease=lease or is_forced, progress=progress
        )
    _show(done, as_json)


@click.command()
@click.argument("source", default="origin")
@click.argument("refs", nargs=-1)
@as_json
@with_repository
def fetch(context: Context, source: str, refs: tuple[str, ...], as_json: bool) -> None:
    """Bring what REFS of SOURCE reach, and note where they stand, as SOURCE/REF.

    SOURCE is a remote or a URL. All branches and tags by default.
    """
    with progress_bar("fetching") as progress:
        done = context.repository.fetch(source, list(refs) or None, progress=progress)
    _show(done, as_json)


@click.command()
@click.argument("source", default="origin")
@click.argument("refs", nargs=-1)
@resolve_option
@as_json
@with_repository
def pull(
    context: Context,
    source: str,
    refs: tuple[str, ...],
    resolve: Literal["ours", "theirs"] | None,
    as_json: bool,
) -> None:
    """Fetch REFS of SOURCE, and merge each into the branch of its name here.

    REFS are branches, as BRANCH or BRANCH:INTO; main by default.
    """
    with progress_bar("pulling") as progress:
        done = context.repository.pull(
            source, list(refs) or None, resolve=resolve, progress=progress
        )
    _show(done, as_json)


def _show(done: vz.Transfer, as_json: bool) -> None:
    if as_json:
        print_json(done.to_dict())
    else:
        console().print(str(done), markup=False)


@click.group()
def remote() -> None:
    """Name other repositories, to push to and fetch from."""


@remote.command("list")
@as_json
@with_repository
def remote_list(context: Context, as_json: bool) -> None:
    """List the names and their URLs."""
    urls = dict(context.repository.remotes)
    if as_json:
        print_json(urls)
        return
    print_names(urls)


@remote.command("add")
@click.argument("name")
@click.argument("url")
@with_repository
def remote_add(context: Context, name: str, url: str) -> None:
    """Call the repository at URL by NAME."""
    context.repository.remotes.add(name, url)


@remote.command("delete")
@click.argument("name")
@with_repository
def remote_delete(context: Context, name: str) -> None:
    """Forget NAME, and what was seen of its branches."""
    context.repository.remotes.delete(name)


@click.group()
def bundle() -> None:
    """Write and read CAR files, which every IPFS tool reads."""


@bundle.command("export")
@click.argument("ref")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--history", is_flag=True, help="The commit with all before it, not just its tree.")
@click.option("--since", metavar="REF", help="Leave out what REF reaches.")
@click.option("--car-version", type=click.IntRange(1, 2), default=1, show_default=True)
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
    """Write REF as the CAR FILE, every block verified; print the CID of its root."""
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
@click.option("-b", "--branch", help="Let this branch name the root, a commit.")
@as_json
@with_repository
def bundle_import(context: Context, file: str, branch: str | None, as_json: bool) -> None:
    """Store what is in the CAR FILE, every block verified; print the CIDs of its roots.

    A root that no branch names can be read by its CID until gc removes it.
    """
    with progress_bar("importing") as progress:
        roots = context.repository.import_car(file, as_branch=branch, progress=progress)
    if as_json:
        print_json({"roots": roots})
    else:
        console().print("\n".join(roots), markup=False)


COMMANDS = [clone, push, pull, fetch, remote, bundle]
