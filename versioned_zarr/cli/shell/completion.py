"""Completion: what a shell offers at the tab key for refs, paths, sessions and remotes.

It reports no errors, and gives up on a server that does not answer soon: a prompt that hangs is
worse than one that completes nothing.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

import versioned_zarr as vz
from versioned_zarr.cli.shell.current_repository import enclosing_repository
from versioned_zarr.history.refs import REMOTES
from versioned_zarr.ipld.address.ipfs_address import is_address

Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Find: TypeAlias = Callable[[vz.Repository, click.Context, str], Iterable[CompletionItem]]

VARIABLE: Final = "_VZ_COMPLETE"
WAIT_S: Final = 2.0
"""The time that a shell waits for the repository."""
_MOST = 500
_STEPS = 9
_STEP = re.compile(r"[~^]|@\{?")

_unanswered: list[threading.Thread] = []


def _completion(find: Find, location: Callable[[click.Context], str | None]) -> Complete:
    def complete(
        context: click.Context, _: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: list[CompletionItem] = []

        def look() -> None:
            try:
                options = context.find_root().params.get("storage_options") or {}
                repository = vz.open(location(context) or enclosing_repository(), **options)
                fitting = (
                    item
                    for item in find(repository, context, incomplete)
                    if str(item.value).startswith(incomplete)
                )
                found.extend(islice(fitting, _MOST))
            except Exception:  # noqa: BLE001 - a shell shows no errors while it completes
                found.clear()

        return found if _is_answered(look) else []

    return complete


def _is_answered(look: Callable[[], None]) -> bool:
    """Whether a function returned within the time that a shell waits."""
    thread = threading.Thread(target=look, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        thread.start()
        thread.join(WAIT_S)
        logging.disable(before)
    if thread.is_alive():
        _unanswered.append(thread)
        return False
    return True


def leave_if_unanswered() -> None:
    """End the process at once if a server still has to answer: a normal end would wait for it."""
    if _unanswered and os.environ.get(VARIABLE):
        sys.stdout.flush()
        os._exit(0)


def _here(context: click.Context) -> str | None:
    """The repository that `-C` or the environment names."""
    found: str | None = context.find_root().params.get("repository")
    return found


def _source(context: click.Context) -> str | None:
    found: str | None = context.params.get("source")
    return found


def _branches(repository: vz.Repository, *_: Any) -> Iterator[CompletionItem]:
    yield from (CompletionItem(name, help="branch") for name in repository.branches)


def _tags(repository: vz.Repository, *_: Any) -> Iterator[CompletionItem]:
    yield from (CompletionItem(name, help="tag") for name in repository.tags)


def _names(repository: vz.Repository, *_: Any) -> Iterator[CompletionItem]:
    yield from _branches(repository)
    yield from _tags(repository)


def _refs(repository: vz.Repository, _: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Branches, tags and fetched branches; after `~` and `@`, earlier commits; after `..`, more."""
    start, dots, last = incomplete.rpartition("..")
    before = start + dots
    if dots and last.startswith("."):  # A...B
        before, last = f"{before}.", last[1:]
    step = _STEP.search(last)
    if step is None:
        found = list(_names(repository))
        remotes = repository._stores.refs.names(REMOTES)
        found += [CompletionItem(name, help="fetched branch") for name in remotes]
    else:
        found = list(_steps(repository, last[: step.start()], step.group()[0]))
    for item in found:
        yield CompletionItem(f"{before}{item.value}", help=item.help)


def _steps(repository: vz.Repository, name: str, step: str) -> Iterator[CompletionItem]:
    """The commits before a ref, by the number of commits or of moves."""
    if step == "@":
        for number, entry in enumerate(islice(repository.reflog(name), _STEPS + 1)):
            yield CompletionItem(f"{name}@{{{number}}}", help=entry.why)
        return
    commit = repository.checkout(name).commit
    for number in range(1, _STEPS + 1):
        if commit is None or not commit.parents:
            return
        commit = repository.checkout(commit.parents[0]).commit
        if commit is not None:
            yield CompletionItem(
                f"{name}{step * number if step == '^' else f'~{number}'}", help=commit.summary
            )


def _paths(
    repository: vz.Repository, context: click.Context, incomplete: str
) -> Iterator[CompletionItem]:
    """The keys and folders of the ref that the command line names, one level at a time."""
    ref = next(
        (context.params[name] for name in ("ref", "branch", "into") if context.params.get(name)),
        "main",
    )
    if is_address(ref):
        return
    snapshot = repository.checkout(ref)
    folder = incomplete.rpartition("/")[0]
    found = [item for item in _level(snapshot, folder) if item.value.startswith(incomplete)]
    yield from found
    if len(found) == 1 and found[0].value.endswith("/"):
        # With a second candidate, the shell adds no space after the folder.
        yield from _level(snapshot, found[0].value.rstrip("/"))


def _level(snapshot: vz.Snapshot, folder: str) -> Iterator[CompletionItem]:
    for name in islice(snapshot.list_dir(folder), _MOST):
        key = f"{folder}/{name}" if folder else name
        yield CompletionItem(key if snapshot.size(key) is not None else f"{key}/")


def _sessions(repository: vz.Repository, *_: Any) -> Iterator[CompletionItem]:
    for info in repository.sessions.values():
        yield CompletionItem(info.id, help=f"on {info.branch} {info.purpose}".strip())


def _remotes(repository: vz.Repository, *_: Any) -> Iterator[CompletionItem]:
    for name, url in repository.remotes.items():
        yield CompletionItem(name, help=url)


def _branch_words(
    repository: vz.Repository, context: click.Context, incomplete: str
) -> Iterator[CompletionItem]:
    """For `vz branch`: names of branches, or any ref where a new one starts."""
    is_of_branches = any(context.params.get(flag) for flag in ("delete", "move", "force"))
    yield from (_branches(repository) if is_of_branches else _refs(repository, context, incomplete))


def _tag_words(
    repository: vz.Repository, context: click.Context, incomplete: str
) -> Iterator[CompletionItem]:
    """For `vz tag`: names of tags to delete, or any ref that a new one names."""
    is_of_tags = context.params.get("delete")
    yield from (_tags(repository) if is_of_tags else _refs(repository, context, incomplete))


complete_branch = _completion(_branches, _here)
complete_branch_words = _completion(_branch_words, _here)
complete_name = _completion(_names, _here)
complete_path = _completion(_paths, _here)
complete_ref = _completion(_refs, _here)
complete_remote = _completion(_remotes, _here)
complete_session = _completion(_sessions, _here)
complete_tag_words = _completion(_tag_words, _here)
complete_name_of_source = _completion(_names, _source)
complete_path_of_source = _completion(_paths, _source)


def complete_folder(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders, which the shell itself knows."""
    return [CompletionItem(incomplete, type="dir")]


def complete_session_or_folder(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Sessions that `vz commit` could commit, and folders that it could import."""
    found = complete_session(context, parameter, incomplete)
    return found or complete_folder(context, parameter, incomplete)
