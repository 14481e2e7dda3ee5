"""Names from other tools, and what to type here: `repo.commit`, `vz.init`, `session.rebase`.

The words are those of git, Icechunk, lakeFS, DVC, zarr and xarray. Each line is Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from versioned_zarr import _hooks

_COMMIT = "with repo.session('main', message='…') as session: dataset.to_zarr(session)"
_READ = "repo.checkout('main').to_xarray()"
_ZARR = "zarr.open_group(repo.checkout('main'), mode='r')"
_BRANCH = "repo.branches.create('NAME', at='main')"
_TAG = "repo.tags.create('NAME', at='main')"
_LOG = "print(repo.log('main'))"
_STATUS = "print(session.status())"
_EXPORT = "repo.checkout('main').to_folder('PATH')"
_ROLL_BACK = "repo.branches.move('main', to='main~1')"
_IMPORT = "vz.import_from(repo, 'PATH', message='…')"
_CREATE_NODES = "with repo.session('main', message='…') as session: "
_NO_CURRENT = "repo.branches  # no branch is the current one; name it: repo.session('main')"

_REPOSITORY: Mapping[str, str] = {
    **dict.fromkeys(("commit", "add", "save", "transaction", "write", "to_zarr", "stage"), _COMMIT),
    **dict.fromkeys(("branch", "create_branch", "new_branch"), _BRANCH),
    **dict.fromkeys(("list_branches", "get_branches", "heads"), "list(repo.branches)"),
    **dict.fromkeys(("lookup_branch", "get_branch", "head", "HEAD"), "repo.branches['main'].cid"),
    **dict.fromkeys(("reset", "reset_branch", "rollback"), _ROLL_BACK),
    "is_dirty": "list(repo.sessions)  # what is not committed",
    **dict.fromkeys(("describe", "summary"), "print(repo)"),
    **dict.fromkeys(("tree", "list"), "print(repo.checkout('main'))"),
    "restore": "session.restore('air', 'main~1')  # the whole branch: repo.branches.move",
    "undo": "repo.branches.move('main', to='main@{1}')",
    **dict.fromkeys(("move", "rename", "mv"), "session.move('air/t', 'air/temperature')"),
    **dict.fromkeys(("copy", "cp", "duplicate"), "session.copy('air/t', 'air/first_guess')"),
    **dict.fromkeys(("rm", "remove", "delete", "drop"), "session.clear('air')"),
    **dict.fromkeys(("active_branch", "current_branch", "default_branch"), _NO_CURRENT),
    "create_group": f"{_CREATE_NODES}zarr.create_group(session, path='air')",
    "create_array": f"{_CREATE_NODES}zarr.create_array(session, name='t', shape=4, dtype='f8')",
    "create_hierarchy": f"{_CREATE_NODES}session.create_hierarchy({{'air': {{}}}})",
    "delete_branch": "repo.branches.delete('NAME')",
    "rename_branch": "repo.branches.rename('OLD', 'NEW')",
    **dict.fromkeys(("tag", "create_tag"), _TAG),
    "list_tags": "list(repo.tags)",
    "lookup_tag": "repo.tags['NAME'].cid",
    "delete_tag": "repo.tags.delete('NAME')",
    "writable_session": "repo.session('main')",
    **dict.fromkeys(("readonly_session", "switch", "at", "snapshot"), "repo.checkout('main')"),
    **dict.fromkeys(("get_snapshot", "get_commit", "lookup_snapshot"), "repo.checkout('main')"),
    **dict.fromkeys(("ancestry", "history", "commits", "get_commits"), _LOG),
    **dict.fromkeys(("snapshots", "list_snapshots", "versions", "list_commits"), _LOG),
    **dict.fromkeys(("ops_log", "ref_log"), "list(repo.reflog('main'))"),
    "annotate": "print(repo.blame('air/temperature'))",
    "show": "print(repo.diff('main'))",
    **dict.fromkeys(("compare", "changes"), "print(repo.diff('main', 'dev'))"),
    **dict.fromkeys(("status", "uncommitted"), _STATUS),
    **dict.fromkeys(("discard", "abort"), "repo.sessions.delete('ID')"),
    "list_sessions": "list(repo.sessions)",
    "stash": "list(repo.sessions)  # what is not committed stays in its session; see repo.resume",
    "rebase": "repo.merge('dev', into='main')  # sessions merge when they commit",
    **dict.fromkeys(("garbage_collect", "prune"), "repo.gc()"),
    "expire_snapshots": "repo.gc(keep_reflog=timedelta(days=30))",
    **dict.fromkeys(("rewrite_manifests", "compact", "optimize", "vacuum"), "repo.repack()"),
    **dict.fromkeys(("total_chunks_storage", "size", "info"), "repo.stats()"),
    **dict.fromkeys(("verify", "check"), "repo.fsck()"),
    **dict.fromkeys(("remote", "add_remote"), "repo.remotes.add('origin', 'URL')"),
    **dict.fromkeys(("clone", "fork"), "vz.clone('SOURCE', 'PATH')"),
    **dict.fromkeys(("path", "location", "uri", "storage", "working_dir"), "repo.url"),
    **dict.fromkeys(("cid", "id", "sha"), "repo.checkout('main').cid"),
    **dict.fromkeys(("find", "grep", "glob", "search"), "list(repo.checkout('main').keys())"),
    "create": "vz.create('PATH')",
    "open": "vz.open('PATH')",
    **dict.fromkeys(("to_xarray", "open_dataset", "open_zarr", "to_dataset", "read"), _READ),
    "to_datatree": "repo.checkout('main').to_datatree()",
    **dict.fromkeys(("open_group", "open_array", "root"), _ZARR),
    "store": "repo.checkout('main').store  # to write: repo.session('main').store",
    **dict.fromkeys(("get", "get_url"), "repo.checkout('main').read('KEY')"),
    **dict.fromkeys(("keys", "objects", "ls", "list_dir"), "repo.checkout('main').list_dir()"),
    **dict.fromkeys(("export", "download", "to_folder"), _EXPORT),
    **dict.fromkeys(("to_zip", "archive"), "repo.checkout('main').to_zip('PATH')"),
    **dict.fromkeys(("import_zarr", "import_from", "import_data", "ingest", "upload"), _IMPORT),
    "close": "del repo  # there is nothing to close",
}

_CREATE_ARRAY = "zarr.create_array(session, name='t', shape=(4,), dtype='f8')"
_END = "session.discard()  # ends the session and drops its writes"
_REBASE = "session.commit('…')  # merges with what others have committed"
_SESSION: Mapping[str, str] = {
    "to_zarr": "dataset.to_zarr(session)",
    **dict.fromkeys(("to_xarray", "open_zarr", "open_dataset"), "xarray.open_zarr(session)"),
    **dict.fromkeys(("open", "open_group", "root"), "zarr.open_group(session)"),
    "open_array": "zarr.open_array(session, path='air/temperature')",
    "create_group": "zarr.create_group(session, path='air')",
    "create_array": _CREATE_ARRAY,
    **dict.fromkeys(("close", "abort", "rollback", "reset", "discard_changes"), _END),
    **dict.fromkeys(("add", "save", "flush", "push", "stage"), "session.commit('…')"),
    **dict.fromkeys(("rebase", "merge", "pull", "update"), _REBASE),
    **dict.fromkeys(("diff", "changes", "uncommitted"), _STATUS),
    **dict.fromkeys(("has_uncommitted_changes", "is_dirty"), "bool(session.status())"),
    "snapshot_id": "session.base.cid",
    **dict.fromkeys(("set", "put", "upload"), "session.write('KEY', b'DATA')"),
    **dict.fromkeys(("remove", "rm"), "session.delete('KEY')"),
    **dict.fromkeys(("mv", "rename"), "session.move('air/t', 'air/temperature')"),
    **dict.fromkeys(("cp", "duplicate"), "session.copy('air/t', 'air/first_guess')"),
    **dict.fromkeys(("checkout", "revert"), "session.restore('air', 'main~1')"),
    **dict.fromkeys(("delete_dir", "rmdir"), "session.clear('air')"),
    **dict.fromkeys(
        ("log", "history", "ancestry"), "print(session.repository.log(session.branch))"
    ),
    "undo": "session.discard(keep=True)  # drops what is not committed",
    "create_dataset": _CREATE_ARRAY,
    "stash": "session.id  # its writes are kept; to continue: repo.resume('ID')",
    "mode": "session.read_only",
    **dict.fromkeys(("tag", "create_tag"), "repo.tags.create('NAME', at=session.commit('…'))"),
    **dict.fromkeys(("group", "require_group"), "zarr.open_group(session, path='air')"),
    "array": "zarr.open_array(session, path='air/temperature')",
    **dict.fromkeys(("to_datatree", "open_datatree"), "xarray.open_datatree(session)"),
    "fork": "pickle.dumps(session)  # its copies write to the same session",
}

_DATASET = "snapshot.to_xarray()  # then as any Dataset"
_WRITE = "session = repo.session('main')  # a snapshot never changes"
_SNAPSHOT: Mapping[str, str] = {
    "nbytes": "sum(size for _, size in snapshot.sizes())",
    **dict.fromkeys(("shape", "dtype", "chunks"), "snapshot['air/temperature'].shape"),
    "values": _DATASET,
    **dict.fromkeys(("to_zarr", "export", "save", "download"), "snapshot.to_folder('PATH')"),
    "diff": "print(repo.diff(snapshot, 'main'))",
    **dict.fromkeys(("write", "set", "put", "delete", "session"), _WRITE),
    **dict.fromkeys(("open_zarr", "open_dataset", "to_dataset", "load"), "snapshot.to_xarray()"),
    "open_datatree": "snapshot.to_datatree()",
    **dict.fromkeys(("open_group", "root", "group"), "snapshot.open('air')"),
    **dict.fromkeys(("open_array", "array"), "snapshot['air/temperature']"),
    "message": "snapshot.commit.message",
    "author": "snapshot.commit.author",
    **dict.fromkeys(("time", "written_at", "date"), "snapshot.commit.time"),
    "metadata": "snapshot.commit.metadata",
    **dict.fromkeys(("parents", "parent_id"), "snapshot.commit.parents"),
    **dict.fromkeys(("log", "history", "ancestry"), "print(repo.log(snapshot))"),
    **dict.fromkeys(("id", "hash", "sha", "tree_id", "snapshot_id"), "snapshot.cid"),
    **dict.fromkeys(("ls", "list", "objects"), "snapshot.list_dir()"),
    **dict.fromkeys(("tree", "info", "show"), "print(snapshot)"),
    "attrs": "snapshot.open().attrs",
    **dict.fromkeys(("arrays", "groups", "members", "array_keys"), "snapshot.open().members()"),
    **dict.fromkeys(("sel", "isel", "plot", "dims", "variables", "data_vars"), _DATASET),
    **dict.fromkeys(("to_netcdf", "to_dataframe", "to_pandas"), _DATASET),
    "parent": "snapshot.commit.parents",
    "url": "snapshot.repository.url",
    **dict.fromkeys(("checkout", "at"), "repo.checkout('main~1')"),
    **dict.fromkeys(("restore", "revert", "reset", "rollback"), "session.restore('air', snapshot)"),
    "blame": "print(repo.blame('air/temperature', snapshot))",
    "merge": "repo.merge('dev', into='main')",
    **dict.fromkeys(("tag", "create_tag"), "repo.tags.create('NAME', at=snapshot)"),
    **dict.fromkeys(("branch", "create_branch"), "repo.branches.create('NAME', at=snapshot)"),
}

_COMMITTED: Mapping[str, str] = {
    "parent": "commit.parents[0]",
    **dict.fromkeys(("date", "timestamp", "written_at", "committed_datetime"), "commit.time"),
    **dict.fromkeys(("id", "hash", "sha", "hexsha", "snapshot_id", "short_id"), "commit.cid"),
    **dict.fromkeys(("diff", "changes", "show", "stats"), "print(repo.diff(commit))"),
    **dict.fromkeys(("checkout", "snapshot", "open", "store"), "repo.checkout(commit)"),
    "to_xarray": "repo.checkout(commit).to_xarray()",
    **dict.fromkeys(("tag", "create_tag"), "repo.tags.create('NAME', at=commit)"),
    **dict.fromkeys(("branch", "create_branch"), "repo.branches.create('NAME', at=commit)"),
    "revert": "repo.revert(commit)",
    **dict.fromkeys(("subject", "title"), "commit.summary"),
    "committer": "commit.author",
}
_COMMITS: Mapping[str, str] = {
    **dict.fromkeys(
        ("to_dict", "to_dataframe", "to_pandas"), "[commit.to_dict() for commit in log]"
    ),
    "head": "log[:10]",
    **dict.fromkeys(("latest", "first", "newest"), "log[0]"),
}
_CHANGES: Mapping[str, str] = {
    **{
        name: f"diff['air/temperature'].{name}"
        for name in ("plot", "values", "to_xarray", "regions", "labels", "old", "new")
    },
    **dict.fromkeys(("summary", "stat", "stats", "show"), "print(diff)"),
    **dict.fromkeys(("to_dataframe", "to_pandas", "to_json"), "diff.to_dict()"),
    **dict.fromkeys(("files", "paths"), "list(diff.nodes)"),
}
_BRANCHES: Mapping[str, str] = {
    **dict.fromkeys(("list", "names", "ls", "all"), "list(repo.branches)"),
    **dict.fromkeys(("add", "new", "make"), _BRANCH),
    **dict.fromkeys(("remove", "rm", "drop"), "repo.branches.delete('NAME')"),
    **dict.fromkeys(("checkout", "switch", "open"), "repo.checkout('NAME')"),
    **dict.fromkeys(("current", "active", "head"), _NO_CURRENT),
    **dict.fromkeys(("reset", "update", "set"), _ROLL_BACK),
}
_TAGS: Mapping[str, str] = {
    **dict.fromkeys(("list", "names", "ls", "all"), "list(repo.tags)"),
    **dict.fromkeys(("add", "new", "make"), _TAG),
    **dict.fromkeys(("remove", "rm", "drop"), "repo.tags.delete('NAME')"),
    **dict.fromkeys(("checkout", "open"), "repo.checkout('NAME')"),
    **dict.fromkeys(("move", "update", "set"), f"repo.tags.delete('NAME'); {_TAG}"),
}

_OPEN = "repo = vz.open('PATH')"
_CREATE = "repo = vz.create('PATH')"
_MODULE: Mapping[str, str] = {
    **dict.fromkeys(("init", "new", "create_repository", "create_repo"), _CREATE),
    **dict.fromkeys(("Repo", "repo", "connect", "load", "open_repository", "open_repo"), _OPEN),
    **dict.fromkeys(("open_zarr", "open_dataset", "to_xarray"), "xarray.open_dataset('PATH')"),
    "open_datatree": "xarray.open_datatree('PATH')",
    "open_group": "zarr.open_group(vz.open('PATH').checkout(), mode='r')",
    **dict.fromkeys(("commit", "add"), _COMMIT),
    **dict.fromkeys(("checkout", "readonly_session"), "vz.open('PATH').checkout('main')"),
    **dict.fromkeys(("session", "writable_session"), "vz.open('PATH').session('main')"),
    "log": "print(vz.open('PATH').log())",
    **dict.fromkeys(("status", "branches"), "print(vz.open('PATH'))"),
    "diff": "print(vz.open('PATH').diff('main', 'dev'))",
    "merge": "vz.open('PATH').merge('dev', into='main')",
    "branch": "vz.open('PATH').branches.create('NAME', at='main')",
    "tag": "vz.open('PATH').tags.create('NAME', at='main')",
    "push": "vz.open('PATH').push('URL', 'main')",
    "pull": "vz.open('PATH').pull('URL')",
    "fetch": "vz.open('PATH').fetch('URL')",
    "read": "vz.open('PATH').checkout('main').to_xarray()",
    "exists": "vz.open_or_create('PATH')  # opens what exists",
    "blame": "print(vz.open('PATH').blame('air/temperature'))",
    **dict.fromkeys(("list", "ls"), "print(vz.open('PATH').checkout())"),
    **dict.fromkeys(("Dataset", "Client"), _OPEN),
    **dict.fromkeys(("import_netcdf", "from_netcdf", "import_n5"), _IMPORT),
    "local_filesystem_storage": _CREATE,
    **dict.fromkeys(("in_memory_storage", "Storage"), "repo = vz.create('memory://NAME')"),
    "s3_storage": "repo = vz.create('s3://BUCKET/PREFIX')",
    "gcs_storage": "repo = vz.create('gs://BUCKET/PREFIX')",
    "azure_storage": "repo = vz.create('az://CONTAINER/PREFIX')",
    **dict.fromkeys(("Store", "IcechunkStore", "VersionedStore"), "repo.session('main').store"),
    **dict.fromkeys(("import_", "import_data", "from_zarr", "ingest"), _IMPORT),
    "export": _EXPORT,
    **dict.fromkeys(("export_zarr", "to_zarr"), _EXPORT),
    "fork": "vz.clone('SOURCE', 'PATH')",
    "version": "vz.__version__",
}

GUESSES: Mapping[str, Mapping[str, str]] = {
    "Repository": _REPOSITORY,
    "Session": _SESSION,
    "Snapshot": _SNAPSHOT,
    "Commit": _COMMITTED,
    "Log": _COMMITS,
    "Diff": _CHANGES,
    "Branches": _BRANCHES,
    "Tags": _TAGS,
    "versioned_zarr": _MODULE,
}
"""The lines to type, by class or module and by the name that was guessed."""


def hint(owner: str, name: str) -> str:
    """The end of the error for a missing attribute; empty if nobody guesses this name."""
    return _hooks.hint(owner, name)


class HintsAtClassNames(type):
    """A class whose errors for missing attributes name what to type: `Repository.open`."""

    if not TYPE_CHECKING:  # for type checkers, a missing attribute is an error

        def __getattr__(cls, name: str) -> Any:
            found = "" if name.startswith("_") else hint(cls.__name__, name)
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}{found}")


_hooks.guesses.update(GUESSES)
