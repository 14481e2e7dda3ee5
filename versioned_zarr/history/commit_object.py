"""The commit object: a tree, parents, author, time and message, as a UnixFS directory.

`commit.json` is canonical JSON, `tree` and `parents/N` are links. So standard IPFS tools can browse
a commit, and a pin on it keeps its tree and its history. docs/design/commits.md shows the bytes.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from versioned_zarr import _hooks
from versioned_zarr.blocks.protocol import Block, BlockStore
from versioned_zarr.errors import CorruptBlockError, InvalidInputError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb, unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.terminal_text import escaped_line, local_time

FORMAT = 1
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
MESSAGE_LIMIT_BYTES = 1 << 20
METADATA_LIMIT_LEVELS = 200
_TOO_DEEP = f"nested more than {METADATA_LIMIT_LEVELS} levels deep"
# JavaScript cannot represent larger integers exactly.
TSIZE_LIMIT = (1 << 53) - 1


@dataclass(frozen=True)
class Commit(_hooks.HintsAtNames):
    """A commit: a tree, its parents, author, time and message. Immutable; compares by CID.

    Attributes:
        cid: the CID of the commit, as text.
        tree: the CID of its tree, as text: what `ipfs add -r --hidden` prints for its values.
        parents: the CIDs of its parents; the first is the previous commit of the branch.
        author: free text, usually `name <mail>` or `user@host`.
        time: the time of the commit, UTC with microseconds.
        message: the commit message.
        metadata: JSON stored with the commit.
        depth: the size in bytes of the commits on the longest path to a root; greater than the
            depth of each parent. 0 if unknown: for commits made on a server by other tools, and
            for all their descendants.
    """

    cid: str
    tree: str = field(compare=False)
    parents: tuple[str, ...] = field(compare=False)
    author: str = field(compare=False)
    time: datetime = field(compare=False)
    message: str = field(compare=False)
    metadata: Mapping[str, Any] = field(compare=False, default_factory=dict)
    depth: int = field(compare=False, default=0, repr=False)

    def __str__(self) -> str:
        """The commit as `vz log` prints it, with the time in the local zone."""
        body = "\n".join(f"    {escaped_line(line)}" for line in self.message.splitlines())
        head = f"commit {self.cid}\ntree   {self.tree}\n"
        return (
            f"{head}Author: {escaped_line(self.author)}\nDate:   {local_time(self.time)}\n\n{body}"
        )

    def _repr_html_(self) -> str:
        return _hooks.interfaces.html(self)

    @property
    def summary(self) -> str:
        """The first line of the message."""
        return self.message.split("\n", 1)[0]

    def to_dict(self) -> dict[str, Any]:
        """The commit as plain JSON data."""
        return {
            "cid": self.cid,
            "tree": self.tree,
            "parents": list(self.parents),
            "author": self.author,
            "time": format_time(self.time),
            "message": self.message,
            "metadata": dict(self.metadata),
        }


def format_time(time: datetime) -> str:
    """Format a time for commits and logs: UTC, six decimals, a Z."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Parse a time in the format of `format_time`.

    Raises:
        ValueError: it has another format.
    """
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T12:00:00.250000Z")
    return datetime.fromisoformat(text)


def default_author() -> str:
    """The default author: $VERSIONED_ZARR_AUTHOR, or user@host."""
    named = os.environ.get("VERSIONED_ZARR_AUTHOR")
    if named:
        return named
    return f"{_user()}@{platform.node()}"


def _user() -> str:
    """The name of the user, or else the number, or what stands for both."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # the first two before Python 3.13
        return f"uid{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def encode(
    *,
    tree: Link,
    parents: Sequence[Link],
    author: str,
    time: datetime,
    message: str,
    metadata: Mapping[str, Any] | None,
    hash_function: HashFunction,
) -> tuple[Commit, list[Block]]:
    """A new commit and its blocks, the root block last.

    Args:
        tree: a link to the root of the tree, with its cumulative size.
        parents: links to the parent commits, each with its depth as its size, or 0 if unknown; the
            names of the links are ignored.
        author: see `Commit`.
        time: see `Commit`.
        message: see `Commit`.
        metadata: a JSON object: dicts with string keys, lists, strings, finite numbers, booleans;
            nested at most 200 levels deep.
        hash_function: the hash function of the repository.

    Raises:
        InvalidInputError: the metadata is not JSON or nested too deeply, or the author or message
            is not text or too long.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidInputError(f"commit metadata must be a dict, not {type(metadata).__name__}")
    document = {
        "author": _checked_text("author", author),
        "format": FORMAT,
        "message": _checked_text("message", message),
        "metadata": dict(metadata or {}),
        "time": format_time(time),
    }
    try:
        text = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        data = text.encode("utf-8")
        parsed = _parse(text)
    except (RecursionError, _TooDeepError) as error:
        raise InvalidInputError(f"commit metadata is {_TOO_DEEP}") from error
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"commit metadata must be JSON: {error}; convert arrays and numpy numbers first"
        ) from error
    file = unixfs.build_file(data, hash_function)
    blocks: list[Block] = list(file.blocks)
    links = [Link("commit.json", file.cid, file.tsize)]
    if parents:
        numbered = sorted(
            Link(str(number), parent.cid, parent.tsize) for number, parent in enumerate(parents)
        )
        block = unixfs.directory(numbered)
        blocks.append((hash_function.dag_pb(block), block))
        links.append(Link("parents", blocks[-1][0], _longest(block, numbered)))
    links.append(Link("tree", tree.cid, tree.tsize))
    root = _directory("", links, blocks, hash_function)
    depth = _depth(blocks[-1][1], links, known=all(parent.tsize for parent in parents))
    commit = Commit(
        cid=cids.to_text(root.cid),
        tree=cids.to_text(tree.cid),
        parents=tuple(cids.to_text(parent.cid) for parent in parents),
        author=author,
        time=parse_time(parsed["time"]),
        message=message,
        metadata=parsed["metadata"],
        depth=depth,
    )
    return commit, blocks


class _TooDeepError(ValueError):
    """A document is nested too deeply."""


def _parse(text: str) -> Any:
    """Parse the JSON of a commit.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be processed on every Python version.
    """
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise _TooDeepError(_TOO_DEEP) from error
    level = [document] if text.count("{") + text.count("[") > METADATA_LIMIT_LEVELS else []
    for _ in range(METADATA_LIMIT_LEVELS + 1):  # the document has one level more than its metadata
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [each for part in parts for each in part if isinstance(each, (dict, list))]
    if level:
        raise _TooDeepError(_TOO_DEEP)
    return document


def _checked_text(what: str, text: str) -> str:
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} must be a string, not {type(text).__name__}")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{what} is not valid Unicode text: {error}") from error
    if size > MESSAGE_LIMIT_BYTES:
        raise InvalidInputError(f"{what} of {size} bytes is over the limit of 1 MiB")
    return text


def _directory(
    name: str, links: list[Link], blocks: list[Block], hash_function: HashFunction
) -> Link:
    block = unixfs.directory(links)
    link = Link(name, hash_function.dag_pb(block), cumulative_size(block, links))
    blocks.append((link.cid, block))
    return link


def _longest(block: Bytes, parents: Sequence[Link]) -> int:
    """The cumulative size of a directory of parents: the depth of its deepest member."""
    return min(len(block) + max(link.tsize for link in parents), TSIZE_LIMIT)


def _depth(block: Bytes, links: Iterable[Link], *, known: bool) -> int:
    """The depth of a commit, from its block and links; 0 if the depth of a parent is unknown.

    A depth at the limit, as in commits of early versions, was truncated and counts as unknown.
    """
    depth = len(block) + sum(link.tsize for link in links if link.name != "tree")
    return depth if known and depth < TSIZE_LIMIT else 0


def cumulative_size(block: bytes | memoryview, links: Sequence[Link]) -> int:
    """The cumulative size of a node, as far as known."""
    return min(len(block) + sum(link.tsize for link in links), TSIZE_LIMIT)


def read(cid: Cid, blocks: BlockStore) -> Commit:
    """Read a commit; three block reads.

    Raises:
        BlockNotFoundError: a block of the commit is missing.
        CorruptBlockError: the block is not a commit.
    """
    block = blocks.get(cid)
    links = {link.name: link for link in unixfs.decode(block).links}
    try:
        document = _parse(read_file(links["commit.json"].cid, blocks).decode("utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} is not {FORMAT}")
        numbered: dict[str, Link] = {}
        if "parents" in links:
            numbered = {link.name: link for link in _links(links["parents"].cid, blocks)}
        parents = tuple(cids.to_text(numbered[str(n)].cid) for n in range(len(numbered)))
        return Commit(
            cid=cids.to_text(cid),
            tree=cids.to_text(links["tree"].cid),
            parents=parents,
            author=str(document["author"]),
            time=parse_time(document["time"]),
            message=str(document["message"]),
            metadata=dict(document["metadata"]),
            depth=_depth(block, links.values(), known=all(it.tsize for it in numbered.values())),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, (CorruptBlockError, FileNotFoundError)):
            raise
        text = cids.to_text(cid)
        raise CorruptBlockError(
            f"{text} is not a readable commit: {error}", cid=text, where="commit.json"
        ) from error


def is_commit(cid: Cid, blocks: BlockStore) -> bool:
    """Whether an existing block looks like a commit rather than a tree."""
    if cids.is_raw(cid):
        return False
    node = unixfs.decode(blocks.get(cid))
    names = [link.name for link in node.links]
    if names not in (["commit.json", "tree"], ["commit.json", "parents", "tree"]):
        return False
    try:
        read(cid, blocks)
    except CorruptBlockError:
        return False
    return True


def link_to(cid: Cid, blocks: BlockStore) -> Link:
    """A link to a commit or to the root of a tree, with its cumulative size."""
    block = blocks.get(cid)
    return Link("", cid, cumulative_size(block, dag_pb.decode(block)[0]))


def _links(cid: Cid, blocks: BlockStore) -> Sequence[Link]:
    return unixfs.decode(blocks.get(cid)).links


def read_file(cid: Cid, blocks: BlockStore) -> bytes:
    """All bytes of a small UnixFS file."""
    if cids.is_raw(cid):
        return bytes(blocks.get(cid))
    node = unixfs.decode(blocks.get(cid))
    return bytes(node.data) + b"".join(read_file(link.cid, blocks) for link in node.links)
