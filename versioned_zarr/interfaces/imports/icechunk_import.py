"""Icechunk import: the branches and tags of an Icechunk repository, snapshot by snapshot."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from versioned_zarr.engine.hierarchy.zarr_nodes import V3, join, parse
from versioned_zarr.errors import AlreadyExistsError, InvalidInputError, StorageError
from versioned_zarr.history.commit_object import Commit, format_time
from versioned_zarr.interfaces.imports.history_import import HistoryImport, Revision
from versioned_zarr.interfaces.imports.import_request import ImportRequest, missing
from versioned_zarr.urls import split_url, without_user

if TYPE_CHECKING:
    import icechunk

_MAIN: Final = "main"
_AUTHORS: Final = ("author", "author_name", "committer")
_SCHEMES: Final = {"s3": "s3_storage", "gs": "gcs_storage", "gcs": "gcs_storage"}


def import_icechunk(request: ImportRequest) -> Commit:
    """Import a repository; see `import_from`.

    There is one commit per snapshot, oldest first. Its metadata records the snapshot's ID, time and
    metadata. Only the keys that the snapshot changed are copied, as Icechunk's own diff reports
    them; virtual chunks are copied as values. Returns the last commit of main.

    Raises:
        InvalidInputError: there is no Icechunk repository, or `into` is not "main".
        AlreadyExistsError: a branch has other commits than those of earlier imports, or a tag names
            another commit.
    """
    try:
        import icechunk
    except ImportError as error:
        raise missing("Icechunk", "icechunk", "icechunk") from error
    if request.into != _MAIN:
        raise InvalidInputError(
            "branches of an Icechunk repository keep their names; leave out the branch to import "
            f"into, {request.into!r}"
        )
    try:
        return _import(request, _open(request))
    except icechunk.IcechunkError as error:
        said, name = request.said(error).strip().partition("\n")[0], request.shown
        raise StorageError(
            f"cannot read {name!r} with Icechunk: {said}; run the import again to resume it",
            where=name,
        ) from request.cause(error)


def _open(request: ImportRequest) -> icechunk.Repository:
    """Open the repository of a request.

    Raises:
        InvalidInputError: there is none, or the kind of URL is not supported.
    """
    import icechunk

    if isinstance(request.source, icechunk.Repository):
        return request.source
    if not isinstance(request.source, str | os.PathLike):
        raise InvalidInputError(
            "a source is a path, a URL or an open icechunk.Repository, not "
            f"{type(request.source).__name__}"
        )
    name, options = request.name, request.storage_options
    url = split_url(name)
    if request.is_local or "://" not in name:
        storage = icechunk.local_filesystem_storage(os.path.abspath(name))
    elif url.scheme == "file":
        storage = icechunk.local_filesystem_storage(url.path)
    elif url.scheme in _SCHEMES:
        make = getattr(icechunk, _SCHEMES[url.scheme])
        given = options or {"from_env": True}
        storage = make(bucket=url.netloc, prefix=url.path.strip("/") or None, **given)
    elif url.scheme in ("http", "https"):
        if not hasattr(icechunk, "http_storage"):
            raise InvalidInputError(
                f"cannot open {without_user(name)!r}: reading over HTTP needs Icechunk 2, which "
                "needs Python 3.12"
            )
        storage = icechunk.http_storage(name, **options)
    else:
        raise InvalidInputError(
            f"cannot open {without_user(name)!r} with Icechunk: its URL is none of file://, s3://, "
            "gs://, https://; open it with icechunk.Repository.open and pass that"
        )
    if (request.is_local or "://" not in name) and not icechunk.Repository.exists(storage):
        raise InvalidInputError(f"no Icechunk repository at {name!r}; give its folder")
    return icechunk.Repository.open(storage)


def _import(request: ImportRequest, source: icechunk.Repository) -> Commit:
    name = _name(request)
    history = HistoryImport(request, "icechunk", name)
    repository = request.repository
    names = sorted(source.list_branches(), key=lambda each: (each != _MAIN, each))
    lines = {each: _line(source, branch=each) for each in names}
    tags = {each: _line(source, tag=each) for each in sorted(source.list_tags())}
    for branch, line in lines.items():
        if branch not in repository.branches:
            continue
        ids = [info.id for info in line]
        if branch != _MAIN and not history.commits.keys() & ids:
            raise AlreadyExistsError(
                f"branch {branch!r} exists and is not from Icechunk; rename it, or import into "
                "another repository",
                name=branch,
            )
        history.check_branch(branch, ids)
    _check_tags(request, history, tags)
    planned: dict[str, Revision] = {}
    for line in (*lines.values(), *tags.values()):
        for before, info in zip([None, *line[:-1]], line, strict=True):
            if info.id not in history.commits and info.id not in planned:
                planned[info.id] = _revision(source, before, info)
                history.expect(planned[info.id])
    for branch, line in lines.items():
        _add_line(request, history, branch, line, planned)
    for tag, line in tags.items():
        _add_tag(request, history, tag, line, planned)
    return repository.branches[_MAIN]


def _name(request: ImportRequest) -> str:
    if not isinstance(request.source, str | os.PathLike):
        return str(request.source.storage).partition("\n")[0]
    return os.path.abspath(request.name) if request.is_local else without_user(request.name)


def _line(source: icechunk.Repository, **ref: str) -> list[icechunk.SnapshotInfo]:
    """The snapshots of a branch or tag, the oldest first."""
    return list(source.ancestry(**ref))[::-1]


def _check_tags(
    request: ImportRequest,
    history: HistoryImport,
    tags: dict[str, list[icechunk.SnapshotInfo]],
) -> None:
    for tag, line in tags.items():
        there, wanted = request.repository.tags.get(tag), history.commits.get(line[-1].id)
        if there is not None and (wanted is None or wanted.cid != there.cid):
            raise AlreadyExistsError(
                f"tag {tag!r} names another commit, {there.cid}; rename it, or import into another "
                "repository",
                name=tag,
            )


def _add_line(
    request: ImportRequest,
    history: HistoryImport,
    branch: str,
    line: list[icechunk.SnapshotInfo],
    planned: dict[str, Revision],
) -> None:
    """Commit the new snapshots of a branch, which is created if it does not exist."""
    branches = request.repository.branches
    if branch not in branches:
        known = [history.commits[info.id] for info in line if info.id in history.commits]
        branches.create(branch, known[-1])
    for info in line:
        if info.id not in history.commits:
            history.add(branch, planned[info.id])


def _add_tag(
    request: ImportRequest,
    history: HistoryImport,
    tag: str,
    line: list[icechunk.SnapshotInfo],
    planned: dict[str, Revision],
) -> None:
    """Create a tag. If no branch reaches its snapshot, a temporary branch holds its commits."""
    repository = request.repository
    temporary = f"importing-tag-{tag}"
    if line[-1].id not in history.commits:
        _add_line(request, history, temporary, line, planned)
    if tag not in repository.tags:
        repository.tags.create(tag, history.commits[line[-1].id])
    if temporary in repository.branches:
        repository.branches.delete(temporary)


def _revision(
    source: icechunk.Repository,
    before: icechunk.SnapshotInfo | None,
    info: icechunk.SnapshotInfo,
) -> Revision:
    """What a snapshot changed; the first one is compared with nothing."""
    store = source.readonly_session(snapshot_id=info.id).store
    if before is None:
        remaining = {"": _listed(store, "")}
        written = remaining[""]
    else:
        written, remaining = _changes(source, store, before.id, info.id)
    author = next((info.metadata[n] for n in _AUTHORS if info.metadata.get(n)), None)
    return Revision(
        id=info.id,
        message=info.message,
        author=author if isinstance(author, str) else None,
        facts={"time": format_time(info.written_at), "metadata": dict(info.metadata)},
        sizes=dict.fromkeys(written),
        removed=[],
        remaining=remaining,
        read=partial(_read, store),
    )


def _changes(
    source: icechunk.Repository, store: icechunk.IcechunkStore, before: str, after: str
) -> tuple[list[str], dict[str, list[str]]]:
    """The keys that a snapshot wrote or removed, and all keys of the folders that lost some."""
    diff = source.diff(from_snapshot_id=before, to_snapshot_id=after)
    moved = getattr(diff, "moved_nodes", ())  # from Icechunk 2 on
    whole = {*diff.new_arrays, *(new for _, new in moved)}
    lost = {*diff.deleted_arrays, *diff.deleted_groups, *(old for old, _ in moved)}
    if diff.updated_arrays:
        old = source.readonly_session(snapshot_id=before).store
        lost |= {path for path in diff.updated_arrays if not _has_grown(old, store, path)}
    remaining = {path.strip("/"): _listed(store, path.strip("/")) for path in whole | lost}
    written = {key for path in whole for key in remaining[path.strip("/")]}
    nodes = (*diff.new_groups, *diff.updated_groups, *diff.updated_arrays)
    written |= {join(path.strip("/"), V3) for path in nodes}
    for path, chunks in diff.updated_chunks.items():
        for numbers in chunks:
            written.add(join(path.strip("/"), "/".join(["c", *map(str, numbers)])))
    return sorted(written), remaining


def _has_grown(old: icechunk.IcechunkStore, new: icechunk.IcechunkStore, path: str) -> bool:
    """Whether an array has at least its old shape, so that no chunks lie beyond its end."""
    key = join(path.strip("/"), V3)
    before, after = ((parse(_read(store, key)) or {}).get("shape") for store in (old, new))
    if not isinstance(before, list) or not isinstance(after, list) or len(before) != len(after):
        return False
    return all(size <= now for size, now in zip(before, after, strict=True))


def _listed(store: icechunk.IcechunkStore, path: str) -> list[str]:
    """The keys below a path; none if there is no node."""

    async def keys() -> list[str]:
        if not await store.exists(join(path, V3)):
            return []
        return [key async for key in store.list_prefix(f"{path}/" if path else "")]

    return sync(keys())


def _read(store: icechunk.IcechunkStore, key: str) -> bytes | None:
    found = sync(store.get(key, default_buffer_prototype()))
    return None if found is None else found.to_bytes()
