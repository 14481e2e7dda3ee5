"""Hierarchies: creates many groups and arrays at once, from a template."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, TypeAlias

import zarr
from zarr.core.group import GroupMetadata
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.storage import MemoryStore

from versioned_zarr.engine.hierarchy.zarr_nodes import DOCUMENTS, join, node_at, split
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidInputError,
    MissingDependencyError,
    NotFoundError,
)
from versioned_zarr.interfaces.zarr.node_paths import check_path
from versioned_zarr.interfaces.zarr.xarray_template import create_from_xarray, is_of_xarray
from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore
from versioned_zarr.repository.session import Session

ArrayMetadata: TypeAlias = ArrayV2Metadata | ArrayV3Metadata
Metadata: TypeAlias = GroupMetadata | ArrayMetadata
_YAML = (".yaml", ".yml")
_MAX_DEPTH = 100


def create_hierarchy(
    session: Session, template: Any, path: str = "", *, overwrite: bool = False
) -> zarr.Group | zarr.Array[Any]:
    """See `Session.create_hierarchy`."""
    path = path.strip("/")
    if path:
        check_path(path)
    if isinstance(template, (str, os.PathLike)):
        template = _read(os.fspath(template))
    if is_of_xarray(template):
        create_from_xarray(session, template, path, overwrite=overwrite)
    elif isinstance(template, Mapping):
        nodes, given = _nodes(template, path, _format_at(session, path))
        nodes = _free(session, nodes, given, overwrite=overwrite)
        for _ in zarr.create_hierarchy(store=VersionedStore(session), nodes=nodes):
            pass  # each is created when it is asked for
    else:
        raise InvalidInputError(
            "a template is a dict of paths and their metadata, a JSON or YAML file, or a Dataset "
            f"or DataTree of xarray, not {type(template).__name__}"
        )
    return zarr.open(VersionedStore(session), path=path or None, mode="r+")


def _read(file: str) -> Any:
    """The template in a JSON or YAML file."""
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read()
    except FileNotFoundError:
        raise NotFoundError(f"no template {file!r}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read the template {file!r}: {error}") from error
    if not file.lower().endswith(_YAML):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"the template {file!r} is not JSON: {error}") from error
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(
            f"the template {file!r} is YAML, which needs PyYAML: pip install PyYAML",
            package="yaml",
            extra="lakefs",
        ) from error
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInputError(f"the template {file!r} is not YAML: {error}") from error


# Templates of paths and metadata


def _nodes(
    template: Mapping[Any, Any], path: str, zarr_format: int
) -> tuple[dict[str, Metadata], AbstractSet[str]]:
    """The metadata of the nodes of a template and of the groups above them, by path.

    Also returns the paths that the template names.

    Raises:
        InvalidInputError: a path or the metadata of a node is not valid.
    """
    known: dict[str, ArrayMetadata] = {}
    nodes: dict[str, Metadata] = {}
    for at, spec in _flat(template, path, 0):
        if at in nodes:
            raise InvalidInputError(f"the template has {at!r} twice")
        nodes[at] = _metadata(at, spec, zarr_format, known)
    formats: set[Any] = {each.zarr_format for each in nodes.values()} or {zarr_format}
    if len(formats) > 1:
        raise InvalidInputError("all nodes of a template must have one zarr_format, not 2 and 3")
    group, given = GroupMetadata(zarr_format=formats.pop()), frozenset(nodes)
    for at in [*nodes, path]:
        nodes.setdefault(at, group)
        above = at
        while above:
            above = split(above)[0]
            if not isinstance(nodes.setdefault(above, group), GroupMetadata):
                raise InvalidInputError(f"{at!r} would lie in the array {above!r} of the template")
    return {at: nodes[at] for at in sorted(nodes)}, given


def _flat(template: Mapping[Any, Any], path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The nodes of a template by path: its keys are paths, and `members` of a group are names."""
    if depth > _MAX_DEPTH:
        raise InvalidInputError(f"the template is nested more than {_MAX_DEPTH} deep at {path!r}")
    if depth == 0 and _is_node(template):
        template = {"": template}
    for name, spec in template.items():
        if not isinstance(name, str):
            raise InvalidInputError(f"a path in a template must be text, not {name!r}")
        at = join(path, name.strip("/")) if name.strip("/") else path
        if at:
            check_path(at)
        spec = {} if spec is None else spec  # a name with nothing behind it in YAML
        members = spec.get("members", {}) if isinstance(spec, Mapping) else {}
        members = {} if members is None else members
        if isinstance(spec, Mapping) and isinstance(members, Mapping):
            yield at, {key: value for key, value in spec.items() if key != "members"}
            yield from _flat(members, at, depth + 1)
        else:
            yield at, spec


def _is_node(template: Mapping[Any, Any]) -> bool:
    """Whether a template is one node, with its members in it."""
    return "node_type" in template or isinstance(template.get("members"), Mapping)


def _metadata(path: str, spec: Any, zarr_format: int, known: dict[str, ArrayMetadata]) -> Metadata:
    """The metadata of a node; `known` are those of arrays that differ in few fields."""
    own = getattr(spec, "metadata", spec)  # of a group or array that was opened
    if isinstance(own, (GroupMetadata, ArrayV2Metadata, ArrayV3Metadata)):
        return own
    if not isinstance(spec, Mapping):
        raise InvalidInputError(
            f"{path!r} of the template must have a dict of its metadata, not {spec!r}"
        )
    try:
        json.dumps(spec.get("attributes"))  # raises here, and not when others have been created
        if spec.get("zarr_format", 3) not in (2, 3):
            raise InvalidInputError(f"{path!r} of the template has a zarr_format other than 2 or 3")
        if spec.get("node_type") == "array" or "data_type" in spec:
            return ArrayV3Metadata.from_dict(dict(spec))
        if "shape" in spec:
            return _array(dict(spec), zarr_format, known)
        unknown = spec.keys() - {"attributes", "zarr_format", "node_type"}
        if unknown:
            raise InvalidInputError(
                f"{path!r} of the template has no shape, so it is a group, which has no "
                f"{', '.join(map(repr, sorted(unknown)))}"
            )
        attributes = dict(spec.get("attributes") or {})
        return GroupMetadata(attributes, spec.get("zarr_format", zarr_format))
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"zarr does not accept the metadata of {path!r} of the template: {error}"
        ) from error


def _array(
    spec: dict[str, Any], zarr_format: int, known: dict[str, ArrayMetadata]
) -> ArrayMetadata:
    """The metadata that `zarr.create_array` makes of its keywords.

    zarr takes most of a millisecond for each. Arrays with the same dtype, chunks and codecs differ
    in their shape, names and attributes only, so those are replaced in the metadata of the first.
    """
    spec = {"zarr_format": zarr_format, **spec}
    shape = spec["shape"] if isinstance(spec["shape"], (list, tuple)) else (spec["shape"],)
    own: dict[str, Any] = {"attributes": dict(spec.pop("attributes", None) or {})}
    chunks: Any = spec.get("chunks")
    if spec["zarr_format"] == 3 and _are_explicit(chunks, shape) and spec.get("shards") is None:
        names = spec.pop("dimension_names", None)
        if names is not None and len(names) != len(shape):
            raise InvalidInputError(f"{len(names)} dimension_names for {len(shape)} dimensions")
        own["shape"] = tuple(map(int, shape))
        own["dimension_names"] = None if names is None else tuple(names)
        spec["shape"] = tuple(chunks)
    key = repr(sorted(spec.items()))
    if key not in known:
        known[key] = zarr.create_array(MemoryStore(), **spec).metadata
    return replace(known[key], **own)


def _are_explicit(chunks: Any, shape: Any) -> bool:
    """Whether zarr takes the chunk shape as it is, whatever the shape of the array."""
    return (
        isinstance(chunks, (list, tuple))
        and len(chunks) == len(shape)
        and all(
            type(size) is int and type(length) is int and 0 < size <= length
            for size, length in zip(chunks, shape, strict=True)
        )
    )


def _format_at(session: Session, path: str) -> int:
    """The Zarr format of the nearest group at or above a path; 3 if there is none."""
    while True:
        node = node_at(path, session._read_document)
        if node is not None or not path:
            return 3 if node is None else node.zarr_format
        path = split(path)[0]


def _free(
    session: Session, nodes: dict[str, Metadata], given: AbstractSet[str], *, overwrite: bool
) -> dict[str, Metadata]:
    """The nodes that are to be created, where nothing is any more; groups above them stay.

    Args:
        session: the session.
        nodes: the nodes of the template.
        given: those that the template names; the others are groups above them.
        overwrite: whether arrays are replaced, and groups get other attributes.

    Raises:
        AlreadyExistsError: something is there, and `overwrite` is false; nothing was removed.
        InvalidInputError: a node would lie in an array.
    """
    missing: dict[str, Metadata] = {}
    in_the_way: list[tuple[str, bool]] = []
    for at, metadata in nodes.items():
        there = node_at(at, session._read_document)
        is_group = isinstance(metadata, GroupMetadata)
        if there is not None and there.is_array and at not in given:
            raise InvalidInputError(f"{_first_below(nodes, at)!r} would lie in the array {at!r}")
        if is_group and there is not None and not there.is_array:
            if at not in given or metadata.attributes in ({}, there.attributes):
                continue
            in_the_way.append((at, False))
        elif there is not None or not (is_group or session.is_empty(at)):
            in_the_way.append((at, True))
        elif at and session.size(at) is not None:
            raise AlreadyExistsError(f"{at!r} is a key with a value", name=at)
        missing[at] = metadata
    if in_the_way and not overwrite:
        first, more = in_the_way[0][0], len(in_the_way) - 1
        others = f" and {more} more nodes of the template exist" if more else " exists"
        raise AlreadyExistsError(
            f"{first or '/'!r}{others} already; choose another path, or pass overwrite=True",
            name=first,
        )
    for at, is_whole in in_the_way:
        if is_whole:
            session.clear(at)
        else:
            for name in DOCUMENTS:
                session.delete(join(at, name))
    return missing


def _first_below(nodes: Iterable[str], path: str) -> str:
    """The first path below a path."""
    return next(each for each in nodes if each.startswith(f"{path}/"))
