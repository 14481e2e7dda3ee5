"""Notebook output of repositories, snapshots, sessions, commits, logs and diffs.

Each function returns HTML of bounded length, whatever its argument; all text in it is escaped.
"""

from __future__ import annotations

from itertools import islice

from versioned_zarr.engine.hierarchy.diff import Diff
from versioned_zarr.engine.hierarchy.node_diff import NodeDiff
from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNode
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.log import Log, Names, standing_at
from versioned_zarr.interfaces.display import html, svg
from versioned_zarr.interfaces.display.graph import rows
from versioned_zarr.interfaces.display.html import Markup
from versioned_zarr.interfaces.display.outline import LIMIT, named_shape, nodes_of, times
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.terminal_text import counted, local_time

SHOWN_COMMITS = 50
_COLUMNS = ("path", "", "shape", "chunks", "dtype", "stored", "attributes")
SHOWN_MAPS = 12
SHOWN_FIELDS = 20
SHOWN_KEYS = 20
SHOWN_NAMES = 20
_IN_REPOSITORY = 10


def html_of(shown: object) -> str:
    """The HTML of an object of this package.

    Raises:
        TypeError: this type has no HTML.
    """
    match shown:
        case Repository():
            return repository_html(shown)
        case Snapshot():
            return snapshot_html(shown)
        case Session():
            return session_html(shown)
        case Commit():
            return commit_html(shown)
        case Log():
            return log_html(shown)
        case Diff():
            return diff_html(shown)
    raise TypeError(f"no HTML for {type(shown).__name__}")


def repository_html(repository: Repository) -> str:
    """Its URL, branches, tags, abandoned sessions and latest history."""
    branches, tags = dict(repository.branches), dict(repository.tags)
    shown = [(name, commit, "branch", html.BLUE) for name, commit in branches.items()]
    shown += [(name, commit, "tag", html.AMBER) for name, commit in tags.items()]
    lines = [
        [
            html.badge(name, colour),
            kind,
            html.short_cid(commit.cid),
            html.cut(commit.summary),
            _when(commit),
        ]
        for name, commit, kind, colour in shown[:SHOWN_NAMES]
    ]
    heads = [commit.cid for commit in branches.values()]
    history = Log(
        lambda: walk.log(heads, lambda cid: _commit_of(repository, cid)),
        names=lambda: standing_at(branches, tags),
    )
    sessions = list(repository.sessions.values())
    waiting = [
        [
            html.code(info.id),
            info.branch,
            counted(info.keys, "key"),
            "open" if info.is_alive else "left behind",
        ]
        for info in sessions[:SHOWN_NAMES]
    ]
    return html.block(
        html.heading("Repository", html.code(repository.url)),
        html.table(["name", "", "commit", "message", "time"], lines),
        html.and_more(SHOWN_NAMES, len(shown), "branches and tags"),
        html.fold("uncommitted sessions", html.table([], waiting)) if waiting else "",
        html.and_more(SHOWN_NAMES, len(sessions), "sessions"),
        html.fold("history", _history(history, _IN_REPOSITORY)),
    )


def _commit_of(repository: Repository, cid: str) -> Commit:
    return next(repository.log(cid))


def commit_html(commit: Commit) -> str:
    """All fields of a commit."""
    summary, _, rest = commit.message.partition("\n")
    return html.block(
        html.heading("Commit", html.code(commit.cid)),
        html.element("div", html.cut(summary, 1000), style="margin:2px 0 2px 0"),
        _preformatted(html.cut(rest.strip("\n"), 5000)) if rest.strip() else "",
        html.facts(_facts_of(commit)),
    )


def _facts_of(commit: Commit) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = [
        ("author", html.cut(commit.author)),
        ("time", _when(commit)),
        ("tree", html.code(commit.tree)),
    ]
    names = (
        ["parent"]
        if len(commit.parents) == 1
        else [f"parent {n + 1}" for n in range(len(commit.parents))]
    )
    pairs += [(name, html.code(cid)) for name, cid in zip(names[:8], commit.parents, strict=False)]
    pairs += [
        (html.cut(key), html.value(value))
        for key, value in islice(commit.metadata.items(), SHOWN_FIELDS)
    ]
    return pairs


def _preformatted(words: str) -> Markup:
    style = "white-space:pre-wrap;margin:2px 0;background:none;color:inherit;padding:0"
    return html.element("pre", words, style=style)


def _when(commit: Commit) -> str:
    return local_time(commit.time)


def log_html(log: Log) -> str:
    """The latest commits of a log beside its graph."""
    return html.block(html.heading("Log", log.title), _history(log, SHOWN_COMMITS))


def _history(log: Log, limit: int) -> Markup:
    commits = list(islice(log.walk(), limit + 1))
    laid_out = rows(commits[:limit], is_linear=log.is_linear)
    names = log.names()
    height = f"{svg.ROW_HEIGHT_PX}px"
    line = f"height:{height};line-height:{height};white-space:nowrap"
    lines = [html.element("div", _line_of(row.commit, names), style=line) for row in laid_out]
    more = html.faint("\N{HORIZONTAL ELLIPSIS} and earlier ones") if len(commits) > limit else ""
    return html.join(
        [
            html.element(
                "div",
                svg.graph(laid_out),
                html.element("div", *lines, style="margin-left:8px;min-width:0"),
                style="display:flex",
            ),
            more,
        ]
    )


def _line_of(commit: Commit, names: Names) -> Markup:
    refs = [
        html.badge(
            name.removeprefix("tag: "), html.AMBER if name.startswith("tag: ") else html.BLUE
        )
        for name in names.get(commit.cid, ())[:SHOWN_NAMES]
    ]
    by = html.faint(f"{html.cut(commit.author, 60)}, {_when(commit)}")
    return html.join([html.short_cid(commit.cid), *refs, html.cut(commit.summary, 100), by], " ")


def diff_html(diff: Diff) -> str:
    """The differences by node, with a map of the chunks of each array."""
    return html.block(
        html.heading(
            "Diff",
            html.join([_name(diff.old_name), " \N{RIGHTWARDS ARROW} ", _name(diff.new_name)]),
        ),
        _differences(diff),
    )


def _name(ref: str) -> Markup:
    return html.code(ref if len(ref) < 50 else html.short_cid(ref), title=ref)


def _differences(diff: Diff) -> Markup:
    nodes, others = diff.nodes, diff.other_keys
    if not nodes and not others:
        return html.faint("no differences")
    moved = [
        html.element(
            "div",
            html.badge("moved", html.BLUE),
            " ",
            _path(old),
            " \N{RIGHTWARDS ARROW} ",
            _path(new),
        )
        for old, new in diff.nodes_moved[:LIMIT]
    ]
    paths = sorted([*diff.nodes_added, *diff.nodes_removed, *diff.nodes_changed])
    parts, maps = [], 0
    for path in paths[:LIMIT]:
        node = nodes[path]
        parts.append(_node(node, with_map=maps < SHOWN_MAPS))
        maps += bool(node.chunks)
    keys = [html.element("div", html.code(html.cut(change.key))) for change in others[:SHOWN_KEYS]]
    keys.append(html.and_more(SHOWN_KEYS, len(others), "keys"))
    return html.join(
        [
            *moved,
            html.and_more(LIMIT, len(diff.nodes_moved), "nodes that moved"),
            *parts,
            html.and_more(LIMIT, len(paths), "nodes"),
            html.fold(f"keys outside Zarr nodes: {len(others):,}", *keys) if others else "",
        ]
    )


def _path(path: str) -> Markup:
    return html.code(html.cut(path or "/"))


def _node(node: NodeDiff, *, with_map: bool) -> Markup:
    kind = "array" if node.is_array else "group"
    head = html.join(
        [
            html.badge(node.how, html.COLOUR_OF_CHANGE[node.how]),
            _path(node.path),
            kind,
            html.faint(node.summary()),
        ],
        " ",
    )
    fields = [
        (name, pair)
        for name, pair in node.fields.items()
        if node.how == "changed" or any(map(_is_worth_it, pair))
    ]
    if node.how == "changed":
        told = html.table([], [_line_of_field(node, name) for name, _ in fields[:SHOWN_FIELDS]])
    else:
        side = 0 if node.how == "removed" else 1
        told = html.table(
            [],
            [
                [html.code(html.cut(name)), html.value(pair[side])]
                for name, pair in fields[:SHOWN_FIELDS]
            ],
        )
    more = html.and_more(SHOWN_FIELDS, len(fields), "fields")
    picture: object = ""
    if with_map and node.chunks and svg.is_grid(node.grid_shape):
        picture = svg.chunk_map(node.chunks, node.grid_shape, node.dimension_names)
    if not told and not picture:
        return html.element("div", head)
    return html.fold(head, picture, told, more, is_open=node.how == "changed")


def _line_of_field(node: NodeDiff, name: str) -> list[object]:
    old, new = node.fields[name]
    how = node.field_how(name)
    return [
        html.code(html.cut(name)),
        html.value(old, is_there=how != "added"),
        "\N{RIGHTWARDS ARROW}",
        html.value(new, is_there=how != "removed"),
    ]


def _is_worth_it(value: object) -> bool:
    """Whether a field is worth showing: most arrays have no filters, no transformers and so on."""
    return value is not None and value not in ([], {}, "")


def session_html(session: Session) -> str:
    """Its target branch and its changes."""
    state = session._working.closed
    pairs: list[tuple[str, object]] = [
        ("branch", html.badge(session.branch, html.BLUE)),
        ("state", state or "open"),
    ]
    changes: object = ""
    if state is None:
        base = session.base
        pairs.append(("base", html.join([html.short_cid(base.cid), html.cut(base.summary)], " ")))
        changes = html.fold("uncommitted changes", _differences(session.status()))
    return html.block(html.heading("Session", html.code(session.id)), html.facts(pairs), changes)


def snapshot_html(snapshot: Snapshot) -> str:
    """Its name, its commit if it has one, and its nodes."""
    commit = snapshot.commit
    nodes = list(islice(nodes_of(snapshot), LIMIT + 1))
    lines = [_line_of_node(snapshot, node) for node in nodes[:LIMIT]]
    more = html.faint("\N{HORIZONTAL ELLIPSIS} and more") if len(nodes) > LIMIT else ""
    if not nodes:
        names = snapshot.list_dir()
        lines = [[html.code(html.cut(name))] for name in names[:SHOWN_KEYS]]
        more = html.and_more(SHOWN_KEYS, len(names), "names") if names else html.faint("empty")
    pairs = [] if commit is None else [("commit", html.code(commit.cid)), *_facts_of(commit)[:2]]
    return html.block(
        html.heading("Snapshot", html.code(snapshot.cid)),
        "" if commit is None else html.element("div", html.cut(commit.summary, 1000)),
        html.facts(pairs),
        html.table(_COLUMNS if nodes else [], lines),
        more,
    )


def _line_of_node(snapshot: Snapshot, node: ZarrNode) -> list[object]:
    fields = node.fields
    own = (str(name) for name in node.attributes if not str(name).startswith("_"))
    attributes = html.faint(html.cut(", ".join(own), 80))
    name = html.code(html.cut(node.path or "/"))
    stored = snapshot._stores.trees.subtree(snapshot._tree, node.path)
    size = "" if stored is None else html.size(stored.tsize)
    if not node.is_array:
        return [name, "group", "", "", "", size, attributes]
    dtype = fields.get("dtype")
    return [
        name,
        "array",
        named_shape(node),
        times(fields.get("chunks")),
        dtype if isinstance(dtype, str) else html.value(dtype),
        size,
        attributes,
    ]
