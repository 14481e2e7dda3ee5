"""Refspecs: the refs that a push, fetch or pull names, as `REF` or `SOURCE:TARGET`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.revisions import resolve_commit
from versioned_zarr.engine.transfer.ref_updates import WORDS
from versioned_zarr.errors import InvalidRefError, RefNotFoundError
from versioned_zarr.history.ref_names import check_new_ref_name, check_ref_name
from versioned_zarr.history.refs import HEADS, TAGS
from versioned_zarr.ipld.cid import Cid, from_text


class WantedRef(NamedTuple):
    """A ref to move, and the commit to move it to."""

    kind: str
    name: str
    commit: Cid


def listed(refs: str | Sequence[str] | None) -> list[str]:
    """The refspecs that a caller passed: none, one, or several."""
    if refs is None:
        return []
    return [refs] if isinstance(refs, str) else list(refs)


def sides_of(text: str) -> tuple[str, str]:
    """Both sides of `SOURCE:TARGET`; they are the same if only one is given.

    Raises:
        InvalidRefError: it cannot be parsed.
    """
    source, colon, target = text.partition(":")
    if not source or (colon and not target):
        raise InvalidRefError(
            f"cannot parse {text!r}: give a ref, or SOURCE:TARGET to use another name there",
            ref=text,
        )
    return source, target if colon else source.removeprefix(f"{HEADS}/")


def kind_at(stores: RepositoryContext, text: str) -> tuple[str, str]:
    """The kind and the name of an existing branch or tag.

    Raises:
        RefNotFoundError: neither a branch nor a tag has this name.
    """
    for kind in (HEADS, TAGS):
        for name in (text, text.removeprefix(f"{kind}/")):
            if stores.refs.read(kind, check_ref_name(name)) is not None:
                return kind, name
    there = ", ".join(repr(name) for name in stores.refs.names(HEADS)[:8]) or "none"
    raise RefNotFoundError(
        f"no branch or tag {text!r} in {stores.storage.url!r}; branches there: {there}", ref=text
    )


def standing(stores: RepositoryContext, kind: str, name: str) -> Cid:
    """The commit that a ref names.

    Raises:
        RefNotFoundError: there is no such ref.
    """
    entry = stores.refs.read(kind, name)
    if entry is None or entry.commit is None:
        raise RefNotFoundError(
            f"{WORDS[kind]} {name!r} not found in {stores.storage.url!r}", ref=name
        )
    return entry.commit


def to_push(stores: RepositoryContext, text: str) -> WantedRef:
    """The ref that `REF` or `REF:TARGET` names: a tag stays a tag, all else becomes a branch."""
    source, target = sides_of(text)
    commit = from_text(resolve_commit(stores, source).cid)
    for kind in (HEADS, TAGS):
        if target.startswith(f"{kind}/"):
            return WantedRef(kind, check_new_ref_name(target.removeprefix(f"{kind}/")), commit)
    bare = source.removeprefix(f"{TAGS}/")
    is_branch = stores.refs.read(HEADS, source) is not None
    is_tag = not is_branch and _is_tag(stores, bare)
    return WantedRef(TAGS if is_tag else HEADS, check_new_ref_name(target), commit)


def _is_tag(stores: RepositoryContext, name: str) -> bool:
    try:
        return stores.refs.read(TAGS, check_ref_name(name)) is not None
    except InvalidRefError:
        return False
