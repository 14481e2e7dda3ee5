"""What people from other tools type either works, or its error is the line to type instead."""

from __future__ import annotations

import copy
import pickle
import re
import time
from collections.abc import Iterator

import pytest

import versioned_zarr as vz
from versioned_zarr.repository.guessed_names import GUESSES

WORKS = """
    repo.checkout  repo.log  repo.diff  repo.merge  repo.revert  repo.cherry_pick  repo.squash
    repo.fetch  repo.pull  repo.push  repo.reflog  repo.gc  repo.fsck  repo.branches  repo.tags
    repo['main']  repo.session()  repo.log()[0]  len(repo.log())  session.commit  session.store
    session.status()  session.discard  session['t']  session.move  session.copy
    session.restore  snapshot.store  snapshot.to_xarray  snapshot.to_datatree
    snapshot.commit  snapshot['t']  vz.create  vz.open  vz.clone  vz.import_from
    vz.import_zarr
"""
HINTS = {
    "repo.commit": "with repo.session('main', message='…') as session:",
    "repo.add": "with repo.session('main', message='…') as session:",
    "repo.transaction": "with repo.session('main', message='…') as session:",
    "repo.branch": "repo.branches.create('NAME', at='main')",
    "repo.create_branch": "repo.branches.create('NAME', at='main')",
    "repo.list_branches": "list(repo.branches)",
    "repo.lookup_branch": "repo.branches['main'].cid",
    "repo.delete_branch": "repo.branches.delete('NAME')",
    "repo.create_tag": "repo.tags.create('NAME', at='main')",
    "repo.tag": "repo.tags.create('NAME', at='main')",
    "repo.writable_session": "repo.session('main')",
    "repo.readonly_session": "repo.checkout('main')",
    "repo.switch": "repo.checkout('main')",
    "repo.ancestry": "print(repo.log('main'))",
    "repo.history": "print(repo.log('main'))",
    "repo.get_commits": "print(repo.log('main'))",
    "repo.annotate": "repo.blame('air/temperature')",
    "repo.show": "print(repo.diff('main'))",
    "repo.restore": "session.restore('air', 'main~1')",
    "repo.move": "session.move('air/t', 'air/temperature')",
    "session.rename": "session.move('air/t', 'air/temperature')",
    "session.cp": "session.copy('air/t', 'air/first_guess')",
    "session.checkout": "session.restore('air', 'main~1')",
    "repo.reset": "repo.branches.move('main', to='main~1')",
    "repo.reset_branch": "repo.branches.move('main', to='main~1')",
    "repo.status": "print(session.status())",
    "repo.uncommitted": "print(session.status())",
    "repo.stash": "list(repo.sessions)",
    "repo.garbage_collect": "repo.gc()",
    "repo.remote": "repo.remotes.add('origin', 'URL')",
    "repo.to_xarray": "repo.checkout('main').to_xarray()",
    "repo.open_zarr": "repo.checkout('main').to_xarray()",
    "repo.store": "repo.checkout('main').store",
    "repo.export": "repo.checkout('main').to_folder('PATH')",
    "session.to_zarr": "dataset.to_zarr(session)",
    "repo.tree": "print(repo.checkout('main'))",
    "session.undo": "session.discard(keep=True)",
    "session.group": "zarr.open_group(session, path='air')",
    "snapshot.shape": "snapshot['air/temperature'].shape",
    "vz.blame": "vz.open('PATH').blame('air/temperature')",
    "vz.merge": "vz.open('PATH').merge('dev', into='main')",
    "vz.import_netcdf": "vz.import_from(repo, 'PATH'",
    "session.close": "session.discard()",
    "session.add": "session.commit('…')",
    "session.rebase": "session.commit('…')",
    "session.diff": "print(session.status())",
    "session.has_uncommitted_changes": "bool(session.status())",
    "session.discard_changes": "session.discard()",
    "session.snapshot_id": "session.base.cid",
    "snapshot.to_zarr": "snapshot.to_folder('PATH')",
    "snapshot.export": "snapshot.to_folder('PATH')",
    "snapshot.diff": "print(repo.diff(snapshot, 'main'))",
    "snapshot.write": "repo.session('main')",
    "snapshot.message": "snapshot.commit.message",
    "snapshot.id": "snapshot.cid",
    "snapshot.log": "print(repo.log(snapshot))",
    "repo.undo": "repo.branches.move('main', to='main@{1}')",
    "repo.rm": "session.clear('air')",
    "repo.create_group": "zarr.create_group(session, path='air')",
    "repo.current_branch": "name it: repo.session('main')",
    "repo.list_snapshots": "print(repo.log('main'))",
    "repo.path": "repo.url",
    "snapshot.sel": "snapshot.to_xarray()",
    "snapshot.arrays": "snapshot.open().members()",
    "commit.parent": "commit.parents[0]",
    "commit.hexsha": "commit.cid",
    "commit.diff": "print(repo.diff(commit))",
    "log.to_dataframe": "[commit.to_dict() for commit in log]",
    "diff.plot": "diff['air/temperature'].plot",
    "branches.list": "list(repo.branches)",
    "branches.add": "repo.branches.create('NAME', at='main')",
    "tags.move": "repo.tags.delete('NAME')",
    "vz.diff": "vz.open('PATH').diff('main', 'dev')",
    "vz.init": "vz.create('PATH')",
    "vz.Repo": "vz.open('PATH')",
    "vz.open_dataset": "xarray.open_dataset('PATH')",
    "vz.checkout": "vz.open('PATH').checkout('main')",
    "vz.s3_storage": "vz.create('s3://BUCKET/PREFIX')",
    "vz.in_memory_storage": "vz.create('memory://NAME')",
}


def test_the_class_says_how_a_repository_is_opened() -> None:
    with pytest.raises(TypeError, match=r"opened with vz\.open\('PATH'\)"):
        vz.Repository("climate.vz")


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    import zarr

    repo = vz.create("memory://guessed-names")
    with repo.session(message="t") as session:
        zarr.create_array(session, name="t", shape=4, dtype="f8")
    return {
        "vz": vz,
        "repo": repo,
        "session": repo.session(),
        "snapshot": repo.checkout(),
        "commit": repo.branches["main"],
        "log": repo.log(),
        "diff": repo.diff("main"),
        "branches": repo.branches,
        "tags": repo.tags,
    }


@pytest.mark.parametrize("guess", WORKS.split())
def test_a_guess_works(names: dict[str, object], guess: str) -> None:
    eval(guess, names)


@pytest.mark.parametrize("guess", HINTS)
def test_the_error_of_a_guess_is_the_line_to_type(names: dict[str, object], guess: str) -> None:
    with pytest.raises(AttributeError) as caught:
        eval(guess, names)
    assert f"has no attribute {guess.partition('.')[2]!r}; type: " in str(caught.value)
    assert HINTS[guess] in str(caught.value)


LINES = sorted({line for lines in GUESSES.values() for line in lines.values()})


def called(line: str) -> Iterator[str]:
    code = re.sub(r"\('[^)]*?'\)(?=\.)", "()", line.partition("#")[0])
    for found in re.finditer(r"\b(repo|session|snapshot|commit|diff|vz)(\.\w+)+", code):
        yield found.group()


@pytest.mark.parametrize("line", LINES)
def test_a_line_to_type_is_python_and_names_what_is_there(
    names: dict[str, object], line: str
) -> None:
    compile(line, "<hint>", "exec")
    for expression in called(line):
        eval(expression, names)


def test_no_hint_hides_an_attribute(names: dict[str, object]) -> None:
    shown = {type(each).__name__: each for each in names.values()} | {"versioned_zarr": vz}
    for owner, lines in GUESSES.items():
        assert [name for name in lines if name in dir(shown[owner])] == []


@pytest.mark.parametrize(("name", "line"), [("open", "vz.open("), ("create", "vz.create(")])
def test_a_guess_at_the_class_names_the_line_to_type(name: str, line: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(f"'Repository' has no attribute '{name}'")):
        getattr(vz.Repository, name)
    with pytest.raises(AttributeError, match=re.escape(line)):
        getattr(vz.Repository, name)
    assert not hasattr(vz.Repository, "__no_hook__")


def test_other_missing_names_are_ordinary_errors(names: dict[str, object]) -> None:
    for guess in ("repo.chekout", "session.comit", "snapshot.opn"):
        with pytest.raises(AttributeError) as caught:
            eval(guess, names)
        assert str(caught.value).endswith(f"has no attribute {caught.value.name!r}")
    assert getattr(names["repo"], "commit", None) is None
    assert not hasattr(names["snapshot"], "to_zarr")


@pytest.mark.parametrize("shown", ["repo", "session", "snapshot", "commit"])
def test_probing_for_hooks_is_cheap_and_finds_nothing(names: dict[str, object], shown: str) -> None:
    probed = names[shown]
    hooks = ("_ipython_display_", "_repr_mimebundle_", "_repr_png_", "__dask_graph__", "__array__")
    start = time.perf_counter()
    for _ in range(1000):
        assert not any(hasattr(probed, name) for name in (*hooks, "ndim", "shape", "dtype"))
    assert time.perf_counter() - start < 1
    assert "<" in probed._repr_html_()
    assert type(copy.copy(probed)) is type(pickle.loads(pickle.dumps(probed))) is type(probed)
    assert not hasattr(type(probed).__new__(type(probed)), "__setstate__")


def test_dask_names_a_snapshot_by_its_content(names: dict[str, object]) -> None:
    tokenize = pytest.importorskip("dask.base").tokenize
    repo = names["repo"]
    assert tokenize(repo.checkout()) == tokenize(repo.checkout())
    assert tokenize(repo.checkout()) != tokenize(repo.checkout("main~1"))


def test_the_error_of_a_property_is_not_hidden(names: dict[str, object]) -> None:
    class Odd(vz.Snapshot):
        @property
        def cid(self) -> str:
            raise AttributeError("the reason")

    snapshot = names["snapshot"]
    with pytest.raises(AttributeError, match="the reason"):
        Odd(snapshot.repository, snapshot._tree).cid  # noqa: B018
