"""Git import: the history of a Zarr folder that git or DVC tracks in a git work tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.history.commit_object import Commit, format_time
from versioned_zarr.interfaces.files.import_session import warn_if_large
from versioned_zarr.interfaces.imports.dvc_cache import DvcCache
from versioned_zarr.interfaces.imports.git_program import Blob, GitLog, GitProgram
from versioned_zarr.interfaces.imports.history_import import HistoryImport, Revision
from versioned_zarr.interfaces.imports.import_request import ImportRequest

_DVC_SUFFIX: Final = ".dvc"
_LFS: Final = b"version https://git-lfs.github.com/spec/"


class _Stored(NamedTuple):
    """A value in git, or in the cache of DVC.

    Attributes:
        id: the name of the blob in git, or the MD5 of the value in DVC.
        size_bytes: its size.
        is_dvc: whether DVC has it.
    """

    id: str
    size_bytes: int
    is_dvc: bool


def import_git(request: ImportRequest) -> Commit:
    """Import the history of a folder; see `import_from`.

    The revisions are those of the current branch that changed the folder, along first parents: a
    merge counts as one revision. The history ends where the folder had another name. Commits have
    the author and the message of their revision; its time is in the metadata.

    Raises:
        InvalidInputError: the folder is in no git work tree, git or DVC never tracked it, or the
            cache of DVC lacks values.
        AlreadyExistsError: the branch has other commits than those of earlier imports.
    """
    folder = os.path.abspath(request.name.removesuffix(_DVC_SUFFIX))
    with GitProgram(folder) as git:
        path = os.path.relpath(os.path.realpath(folder), git.top).replace(os.sep, "/")
        path = "" if path == "." else path
        revisions = git.log(*([path, path + _DVC_SUFFIX] if path else []))
        if not revisions:
            raise InvalidInputError(
                f"git has no history of {folder!r}, and none of {_DVC_SUFFIX} beside it; check its "
                "name, or commit it to git first"
            )
        history = HistoryImport(request, "git", folder)
        history.check_branch(request.into, [each.id for each in revisions])
        planned = _plan(git, DvcCache(folder), path, revisions, history)
        for revision in planned:
            history.expect(revision)
        total = sum(size or 0 for revision in planned for size in revision.sizes.values())
        warn_if_large(total, f"{len(planned)} revisions", folder)
        for revision in planned:
            history.add(request.into, revision)
    return request.repository.branches[request.into]


def _plan(
    git: GitProgram,
    cache: DvcCache,
    path: str,
    revisions: list[GitLog],
    history: HistoryImport,
) -> list[Revision]:
    """The revisions that are not imported yet, each with what differs from the one before."""
    planned: list[Revision] = []
    before: Mapping[str, _Stored] = {}
    for number, found in enumerate(revisions):
        is_next_new = (
            number + 1 < len(revisions) and revisions[number + 1].id not in history.commits
        )
        if found.id in history.commits and not is_next_new:
            continue
        now = _stored(git, cache, path, found.id)
        if found.id not in history.commits:
            changed = {key: each for key, each in now.items() if before.get(key) != each}
            planned.append(
                Revision(
                    id=found.id,
                    message=found.message,
                    author=found.author,
                    facts=_time(found.time),
                    sizes={key: each.size_bytes for key, each in changed.items()},
                    removed=[],
                    remaining={"": list(now)} if before.keys() - now.keys() or not before else {},
                    read=partial(_read, git, cache, changed),
                )
            )
        before = now
    return planned


def _time(text: str) -> dict[str, str]:
    """The time of a revision as a fact; none if it is no time, which git does not check."""
    try:
        return {"time": format_time(datetime.fromisoformat(text))}
    except (ValueError, OverflowError):
        return {}


def _stored(git: GitProgram, cache: DvcCache, path: str, revision: str) -> dict[str, _Stored]:
    """The values of the folder in a revision by their keys."""
    blobs = git.files(revision, path)
    if blobs:
        return {key: _checked(blob, key, revision) for key, blob in blobs.items()}
    document = git.file(revision, path + _DVC_SUFFIX) if path else None
    if document is None:
        return {}
    found = cache.files(document, os.path.basename(path), revision)
    return {key: _Stored(md5, size, is_dvc=True) for key, (md5, size) in found.items()}


def _checked(blob: Blob, key: str, revision: str) -> _Stored:
    if not blob.is_file:
        raise InvalidInputError(
            f"{key!r} is a symbolic link or a submodule in revision {revision[:12]}, as git-annex "
            "and DataLad store values; check the revisions out, and import each as Zarr"
        )
    return _Stored(blob.id, blob.size_bytes, is_dvc=False)


def _read(git: GitProgram, cache: DvcCache, stored: Mapping[str, _Stored], key: str) -> bytes:
    each = stored[key]
    if each.is_dvc:
        return cache.read(each.id)
    data = git.blob(each.id)
    if data.startswith(_LFS):
        raise InvalidInputError(
            f"{key!r} is in Git LFS, which is not imported; check the revisions out, and import "
            "each as Zarr"
        )
    return data
