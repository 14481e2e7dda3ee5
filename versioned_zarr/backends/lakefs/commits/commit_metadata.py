"""Commit metadata on lakeFS: the fields from which our commit is restored.

A commit is decoded from the fields and encoded again. It is trusted only if its CID matches the
stored one, and if lakeFS made it on the commit for which it was prepared: a commit in between would
change its tree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from versioned_zarr.backends.lakefs.api.client import LakefsCommit
from versioned_zarr.backends.lakefs.api.objects import Stat
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.errors import VersionedZarrError
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history.commit_object import Commit, format_time, parse_time
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction, from_text
from versioned_zarr.ipld.dag_pb import Link

VALUE_CID = "vz-cid"
"""The key of an object's user metadata with the CID of its value."""
VALUE_TSIZE = "vz-tsize"
VALUE_WRITER = "vz-writer"
VALUE_NUMBER = "vz-number"
"""The number of earlier writes of its writer."""
VALUE_SEAL = "vz-seal"
"""Binds the CID to the bytes for which it was computed."""
VALUE_PROCESS = "vz-process"
"""The process of its writer, percent-encoded."""
VALUE_RIVAL = "vz-rival"
"""The CID of a different value that another process wrote to the key independently."""
VALUE_RIVAL_BY = "vz-rival-by"
"""The writer of that value, its size in bytes, and its process, percent-encoded."""
PURPOSE = "vz-purpose"
WORK = "vz-work"
"""Metadata of commits on our hidden branches."""

SAME = "vz-same-as"
"""The lakeFS commit that another one replaces on a branch, with the same tree."""

_COMMIT = "vz-commit"
_ON = "vz-on"
_PREFIX = "vz-prefix"
_TREE = "vz-tree"
_TREE_SIZE = "vz-tree-size"
_PARENTS = "vz-parents"
_AUTHOR = "vz-author"
_TIME = "vz-time"
_MESSAGE = "vz-message"
_METADATA = "vz-metadata"


class ParentMetadata(NamedTuple):
    """A parent of a commit of ours.

    Attributes:
        cid: its CID, as text.
        tsize: the cumulative size of its blocks, as in a link to it.
        id: the lakeFS commit that represents it; empty if there is none.
    """

    cid: str
    tsize: int
    id: str


class CommitMetadata(NamedTuple):
    """A commit of ours, read from a lakeFS commit."""

    commit: Commit
    tree: Link
    parents: tuple[ParentMetadata, ...]
    blocks: list[Block]


def shown_message(message: str) -> str:
    """The message for lakeFS, which accepts no empty one."""
    return message if message.strip() else "(no message)"


def encode(
    commit: Commit, tree: Link, parents: Sequence[ParentMetadata], *, on: str, prefix: str
) -> dict[str, str]:
    """The metadata of a lakeFS commit that represents a commit of ours.

    Args:
        commit: the commit of ours.
        tree: its tree, with its cumulative size.
        parents: its parents.
        on: the parent of the lakeFS commit.
        prefix: the folder of the repository in lakeFS.
    """
    found = {
        _COMMIT: commit.cid,
        _ON: on,
        _PREFIX: prefix,
        _TREE: commit.tree,
        _TREE_SIZE: str(tree.tsize),
        _PARENTS: json.dumps([list(parent) for parent in parents]),
        _AUTHOR: commit.author,
        _TIME: format_time(commit.time),
        _METADATA: json.dumps(commit.metadata, ensure_ascii=False),
    }
    if shown_message(commit.message) != commit.message:
        found[_MESSAGE] = commit.message
    return found


def decode(
    message: str,
    metadata: Mapping[str, str],
    parent: str | None,
    prefix: str,
    hash_function: HashFunction,
) -> CommitMetadata | None:
    """The commit of ours that a lakeFS commit represents; None if there is none.

    Args:
        message: the message of the lakeFS commit.
        metadata: its metadata.
        parent: the id of its first parent.
        prefix: the folder of the repository in lakeFS.
        hash_function: the hash function of the repository.
    """
    if metadata.get(_PREFIX) != prefix or metadata.get(_ON) != parent:
        return None
    try:
        tree = Link("", from_text(metadata[_TREE]), int(metadata[_TREE_SIZE]))
        parents = tuple(ParentMetadata(*fields) for fields in json.loads(metadata[_PARENTS]))
        commit, blocks = commits.encode(
            tree=tree,
            parents=[Link("", from_text(each.cid), each.tsize) for each in parents],
            author=metadata[_AUTHOR],
            time=parse_time(metadata[_TIME]),
            message=metadata.get(_MESSAGE, message),
            metadata=json.loads(metadata[_METADATA]),
            hash_function=hash_function,
        )
    except (KeyError, TypeError, ValueError, VersionedZarrError):
        return None
    return (
        CommitMetadata(commit, tree, parents, blocks) if commit.cid == metadata[_COMMIT] else None
    )


def as_before(to: str, *, on: str, prefix: str) -> dict[str, str]:
    """The metadata of a lakeFS commit that represents the same commit as an earlier one.

    Args:
        to: the earlier one.
        on: the parent of the lakeFS commit.
        prefix: the folder of the repository in lakeFS.
    """
    return {SAME: to, _ON: on, _PREFIX: prefix}


def same_as(found: LakefsCommit, prefix: str) -> str | None:
    """The earlier lakeFS commit that one represents; None if it represents itself.

    Only if there is no commit in between, which it would otherwise contain, too.
    """
    told = found.metadata
    is_made_so = bool(found.parents) and told.get(_ON) == found.parents[0]
    return told.get(SAME) if is_made_so and told.get(_PREFIX) == prefix else None


def first(found: LakefsCommit, hash_function: HashFunction) -> CommitMetadata:
    """The first commit of a lakeFS repository, as one of ours: its tree is empty."""
    empty = unixfs.EMPTY_DIRECTORY
    tree = Link("", hash_function.dag_pb(empty), len(empty))
    commit, blocks = commits.encode(
        tree=tree,
        parents=[],
        author=found.committer or "lakefs",
        time=datetime.fromtimestamp(found.creation_date, UTC),
        message=found.message,
        metadata={"lakefs_commit": found.id},
        hash_function=hash_function,
    )
    return CommitMetadata(commit, tree, (), blocks)


def named_in(metadata: Mapping[str, str]) -> str | None:
    """The CID of the commit of ours for which a lakeFS commit was made; not verified."""
    return metadata.get(_COMMIT)


def value_metadata(cid: str, size: int, tsize: int, checksum: str) -> dict[str, str]:
    """The user metadata of an object with a value of ours.

    Args:
        cid: the CID of the value.
        size: its length in bytes.
        tsize: the cumulative size of its blocks.
        checksum: the checksum of the object's content in lakeFS.
    """
    told = {VALUE_CID: cid, VALUE_SEAL: _seal(cid, size, tsize, checksum)}
    return told if size == tsize else {**told, VALUE_TSIZE: str(tsize)}


def value_in(metadata: Mapping[str, str], size: int, checksum: str) -> tuple[Cid, int] | None:
    """The CID and the cumulative size of a value, from the user metadata of its object.

    They are valid only if the object still has the same content: tools copy the metadata when they
    overwrite an object, and people edit it.
    """
    text = metadata.get(VALUE_CID)
    if text is None:
        return None
    try:
        tsize = int(metadata.get(VALUE_TSIZE, size))
        cid = from_text(text)
    except ValueError:
        return None
    is_sealed = metadata.get(VALUE_SEAL) == _seal(text, size, tsize, checksum)
    return (cid, tsize) if is_sealed else None


def value_of(stat: Stat) -> Cid | None:
    """The CID of an object's value, if its user metadata contain it and are valid."""
    told = value_in(stat.metadata, stat.size, stat.checksum)
    return None if told is None else told[0]


def _seal(cid: str, size: int, tsize: int, checksum: str) -> str:
    return hashlib.sha256(f"{cid} {size} {tsize} {checksum}".encode()).hexdigest()[:32]
