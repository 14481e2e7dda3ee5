"""The output of commands: how they open the repository, print, and show progress."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

import versioned_zarr as vz
from versioned_zarr.cli.shell.completion import complete_branch
from versioned_zarr.cli.shell.current_repository import enclosing_repository
from versioned_zarr.engine.open_options import ServerOptions
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.ipld.address.ipfs_address import is_address
from versioned_zarr.terminal_text import escaped, escaped_json, escaped_line
from versioned_zarr.urls import without_user

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


class Context:
    """The value of `-C`, and the repository that it selects.

    Attributes:
        location: the value; None if there is none.
        options: the options of `vz.open` for the repository.
    """

    def __init__(self, location: str | None, options: ServerOptions) -> None:
        self.location, self.options = location, options
        self._repository: vz.Repository | None = None

    @property
    def repository(self) -> vz.Repository:
        """The repository, opened on first access."""
        if self._repository is None:
            location = self.location or enclosing_repository()
            if location.startswith("lakefs:"):
                self._repository = vz.open(location, progress=_hashing_bar(), **self.options)
            else:
                self._repository = vz.open(location, **self.options)
        return self._repository

    def words(self, command: str) -> str:
        """A command to type for the same repository."""
        root = click.get_current_context().find_root()
        is_given = root.get_parameter_source("repository") is ParameterSource.COMMANDLINE
        if self.location is None or not is_given:
            return f"vz {command}"
        location = self.location if os.path.exists(self.location) else without_user(self.location)
        return f"vz -C {shlex.quote(location)} {command}"

    def snapshot(self, ref: str, gateways: tuple[str, ...]) -> vz.Snapshot:
        """The snapshot of a ref in the repository, or of an IPFS address without a repository."""
        if gateways or is_address(ref):
            return vz.open_snapshot(ref, gateways=gateways or None)
        try:
            return self.repository.checkout(ref)
        except vz.RefNotFoundError as error:
            if not self._is_path(ref):
                raise
            raise vz.RefNotFoundError(
                f"no version {ref!r}; it is a path on 'main': name the version first, as in "
                f"'main {ref}'",
                ref=ref,
            ) from error

    def _is_path(self, text: str) -> bool:
        """Whether there is a group, an array or a key at this path of `main`."""
        with suppress(vz.VersionedZarrError):
            main = self.repository.checkout("main")
            return text in main.list_dir("") or bool(main.list_dir(text))
        return False


with_repository = click.pass_obj
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
resolve_option = click.option(
    "--resolve",
    type=click.Choice(["ours", "theirs"]),
    help="Resolve conflicts by taking one side.",
)
gateway_option = click.option(
    "--gateway",
    "gateways",
    metavar="URL",
    multiple=True,
    help="Read REF, a CID or IPFS address, from this gateway, a URL or multiaddr; repeatable.  "
    "[default: $VERSIONED_ZARR_GATEWAYS, or http://127.0.0.1:8080]",
)


into_option = click.option(
    "--into",
    default="main",
    show_default=True,
    help="Branch to commit to.",
    shell_complete=complete_branch,
)


workers_option = click.option(
    "-j",
    "--workers",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Number of parallel workers.",
)


class _Terminal(Console):
    """A console that escapes control characters in text from other sources."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with strings escaped."""
        shown = [escaped(each) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **options)


def console(*, is_error: bool = False) -> Console:
    """The console for results, or for errors."""
    return _Terminal(stderr=is_error, soft_wrap=True, highlight=False, emoji=False)


def print_json(data: Any) -> None:
    """Print data as indented JSON; characters that cannot be printed become JSON escapes."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    click.echo(escaped_json(json.dumps(data, indent=2, ensure_ascii=not is_unicode)))


def print_names(lines: dict[str, str]) -> None:
    """Print names and their descriptions in two columns."""
    shown = {escaped_line(name): escaped_line(said) for name, said in lines.items()}
    width = max(map(len, shown), default=0)
    for name, said in shown.items():
        console().print(f"{name:{width}}  {said}", markup=False)


def print_commit_line(commit: vz.Commit, *, as_json: bool = False) -> None:
    """Print the CID and the summary of a new commit."""
    if as_json:
        print_json(commit.to_dict())
        return
    console().print(f"[yellow]{commit.cid}[/] ", end="")
    console().print(escaped_line(commit.summary), markup=False)


_COLOURS = {"added": "green", "removed": "red", "changed": "yellow", "moved": "cyan"}


def print_parts(*parts: tuple[str, str]) -> None:
    """Print one line of texts, each with its style; without styles unless on a terminal."""
    line = Text()
    for text, style in parts:
        line.append(escaped_line(text), style)
    console().print(line)


def print_commit(commit: vz.Commit, names: Iterable[str] = ()) -> None:
    """Print a commit as git's log does, with the refs that name it."""
    here = ", ".join(names)
    head, _, rest = str(commit).partition("\n")
    print_parts((head, "yellow"), (f" ({here})" if here else "", "green"))
    console().print(rest, markup=False)


def print_diff(diff: vz.Diff, indent: str = "") -> None:
    """Print a difference, added lines in green and removed ones in red."""
    for line in str(diff).split("\n"):
        print_parts((f"{indent}{line}", _COLOURS.get(line.partition(" ")[0], "")))


def print_conflicts(conflicts: Sequence[Any], *, as_json: bool) -> None:
    """List conflicts on one line each, as git does; nothing if a branch just moved."""
    if as_json:
        print_json({"conflicts": [conflict.to_dict() for conflict in conflicts]})
        return
    for conflict in conflicts:
        console().print(f"conflict: {conflict}", markup=False)


def tell_of_problems(problems: Iterable[str]) -> None:
    """Print what could not be read on stderr, one line each."""
    for problem in problems:
        click.echo(f"vz: {escaped_line(problem)}", err=True)


def _bar() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counted]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not Console(stderr=True).is_terminal,
    )


def _hashing_bar() -> OnProgress:
    """Updates a progress bar that appears on the first update and ends with the command."""
    bar = _bar()
    task = bar.add_task("hashing", total=None, counted="")
    click.get_current_context().call_on_close(bar.stop)

    def move(progress: vz.Progress) -> None:
        bar.start()
        _move(bar, task, progress)

    return move


@contextmanager
def progress_bar(label: str, first: str = "") -> Iterator[OnProgress]:
    """A progress bar on stderr; nothing is shown if stderr is not a terminal.

    Args:
        label: the name of the operation.
        first: the name of the step before it, which counts keys.
    """
    with _bar() as bar:
        task = bar.add_task(first or label, total=None, counted="")

        def move(progress: vz.Progress) -> None:
            is_counting = first and progress.total_bytes is None and not progress.done
            _move(bar, task, progress, description=first if is_counting else label)

        yield move


def _move(bar: Bar, task: TaskID, progress: vz.Progress, **more: Any) -> None:
    counts = [f"{count:,}" for count in (progress.done, progress.total) if count is not None]
    counted = "" if progress.unit == "bytes" else f"{'/'.join(counts)} {progress.unit}"
    bar.update(
        task,
        total=progress.total_bytes,
        completed=progress.done_bytes,
        counted=counted,
        **more,
    )


def save_figure(figure: Figure, file: str) -> None:
    """Write a figure to a file; the end of its name says in which format."""
    try:
        figure.savefig(file)
    except ValueError as error:  # an unknown format
        raise click.UsageError(f"cannot draw {file!r}: {error}") from error
