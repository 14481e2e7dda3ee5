"""Commands on branches and tags."""

from __future__ import annotations

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    print_commit_line,
    print_json,
    with_repository,
)


@click.command()
@click.argument("name", required=False)
@click.argument("at", default="main")
@click.option("-d", "--delete", is_flag=True, help="Delete the branch.")
@click.option("-m", "--move", "new_name", metavar="NEW", help="Rename the branch.")
@click.option("-f", "--force", is_flag=True, help="Move the branch to AT if it exists.")
@as_json
@with_repository
def branch(
    context: Context,
    name: str | None,
    at: str,
    delete: bool,
    new_name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """List the branches, or create NAME at AT."""
    branches = context.repository.branches
    if name is None:
        _list(dict(branches), as_json)
    elif delete:
        branches.delete(name)
    elif new_name is not None:
        branches.rename(name, new_name)
    elif force and name in branches:
        print_commit_line(branches.move(name, at))
    else:
        print_commit_line(branches.create(name, at))


@click.command()
@click.argument("name", required=False)
@click.argument("at", default="main")
@click.option("-d", "--delete", is_flag=True, help="Delete the tag.")
@as_json
@with_repository
def tag(context: Context, name: str | None, at: str, delete: bool, as_json: bool) -> None:
    """List the tags, or create NAME at AT."""
    tags = context.repository.tags
    if name is None:
        _list(dict(tags), as_json)
    elif delete:
        tags.delete(name)
    else:
        print_commit_line(tags.create(name, at))


def _list(commits: dict[str, vz.Commit], as_json: bool) -> None:
    if as_json:
        print_json({name: commit.to_dict() for name, commit in commits.items()})
        return
    width = max((len(name) for name in commits), default=0)
    for name, commit in commits.items():
        text = f"{name:{width}}  {commit.cid}  {commit.summary}"
        console().print(text, markup=False)


COMMANDS = [branch, tag]
