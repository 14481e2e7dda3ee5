"""A block that ends uncommitted says so, and how to resume; refs are also commits and snapshots."""

from __future__ import annotations

import pickle
import re
import sys
import uuid
import warnings
from itertools import islice

import pytest

import versioned_zarr as vz


@pytest.fixture
def repository() -> vz.Repository:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    for name in "abc":
        with repository.session(message=name) as session:
            session.write(name, name.encode())
    return repository


def test_a_block_without_a_message_warns_that_it_ends_uncommitted(repository) -> None:
    session = repository.session()
    session.write("d", b"d")
    with pytest.warns(UserWarning, match="ends uncommitted") as caught, session:
        pass
    (warning,) = caught
    assert warning.filename == __file__
    command = re.search(r"repo\.resume\('.*?'\)\.commit\(", str(warning.message))[0]
    assert command == f"repo.resume({session.id!r}).commit("
    assert repository.resume(session.id).commit("d").message == "d"


def test_a_block_without_a_message_is_silent_if_nothing_is_left(repository) -> None:
    with repository.session():
        pass
    with repository.session() as session:
        session.write("d", b"d")
        session.commit("d")
    with repository.session() as session:
        session.write("e", b"e")
        session.discard()
    assert not repository.sessions


def test_an_error_that_ends_a_block_says_how_to_resume(repository) -> None:
    session = repository.session(message="d")
    session.write("d", b"d")
    with pytest.raises(ZeroDivisionError) as caught, session:
        raise ZeroDivisionError
    (note,) = caught.value.__notes__
    assert f"repo.resume({session.id!r})" in note
    with pytest.raises(ZeroDivisionError) as caught, repository.session(message="nothing"):
        raise ZeroDivisionError
    assert not hasattr(caught.value, "__notes__")


def test_a_conflict_at_the_end_of_a_block_says_how_to_resume(repository) -> None:
    session = repository.session(message="ours")
    session.write("a", b"ours")
    with repository.session(message="theirs") as other:
        other.write("a", b"theirs")
    with pytest.raises(vz.ConflictError) as caught, session:
        pass
    assert session.id in caught.value.__notes__[0]
    assert repository.resume(session.id).commit("ours", resolve="ours")


def test_a_daily_job_may_have_nothing_to_commit(repository) -> None:
    for on_nothing in ("skip", "raise"):
        session = repository.session(message="daily", on_nothing=on_nothing)
        session.write("a", b"a")
        if on_nothing == "raise":
            with pytest.raises(vz.NothingToCommitError) as caught, session:
                pass
            assert "on_nothing='skip'" in caught.value.__notes__[0]
        else:
            with session:
                pass
        assert not repository.sessions
    with repository.session(message="daily", on_nothing="skip") as session:
        session.write("a", b"new")
    assert next(repository.log()).message == "daily"
    with pytest.raises(vz.InvalidInputError, match="'raise' or 'skip'"):
        repository.session(on_nothing="ignore")


def test_a_discarded_session_is_kept_usable_if_asked(tmp_path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session(message="done")
    session.write("a", b"1")
    session.commit("first")
    session.write("a", b"2")
    session.write("b", b"2")
    copy = pickle.loads(pickle.dumps(session))
    first, store = session.id, session.store
    session.discard(keep=True)
    assert session.id != first
    assert bytes(session.read("a")) == b"1"
    assert session.get("b") is None
    assert session.store is store
    assert not session.status()
    assert list(repository.sessions) == []
    with pytest.raises(vz.SessionClosedError):
        copy.write("a", b"3")
    with session:
        session.write("b", b"4")
    assert repository.log()[0].message == "done"
    assert bytes(repository.checkout().read("b")) == b"4"
    with pytest.raises(vz.SessionClosedError):
        session.discard(keep=True)
    session.discard()


def test_commits_and_snapshots_are_refs(repository) -> None:
    c, b, a = repository.log()[:3]
    assert repository.log()[-1].parents == ()
    assert repository.log()[-4:-1] == [c, b, a]
    assert repository.checkout(a).commit == repository[a.cid].commit == a
    old, new = repository.checkout(a), repository.checkout()
    assert repository.checkout(old) == old
    assert repository.diff(old, new).old_name == a.cid
    assert [change.key for change in repository.diff(b)] == ["b"]
    assert [commit.message for commit in repository.log(old)] == ["a", "Create the repository"]
    assert repository.branches.create("dev", at=old) == repository.tags.create("v1", a) == a
    assert repository.branches.move("dev", old, expect=a) == a
    assert next(repository.reflog("dev")).why == f"branch: moved to {a.cid}"
    with repository.session("dev", message="d") as session:
        session.write("d", b"d")
    assert repository.merge(repository["dev"]).message == f"Merge '{session.base.cid}' into 'main'"
    assert repository.revert(c).parents
    assert repository.cherry_pick(c).message.startswith("c")
    assert repository.squash(c).parents == (c.cid,)


def test_a_bare_tree_is_a_ref_too(repository) -> None:
    tree = repository[repository.checkout().cid]
    assert tree.commit is None
    assert not repository.diff(tree, "main")
    with pytest.raises(vz.InvalidRefError, match="is a tree"):
        repository.merge(tree)
    for ref in (3, None, b"main", object()):
        with pytest.raises(vz.InvalidRefError, match="must be a string"):
            repository.checkout(ref)


def test_a_log_is_a_sequence_that_is_read_once(repository) -> None:
    log = repository.log()
    assert next(log).message == "c"
    assert (log[0].message, log[-2].message) == ("c", "a")
    assert [commit.message for commit in log[1:3]] == ["b", "a"]
    assert [commit.message for commit in log[:-2]] == ["c", "b"]
    assert (len(log), log[7:], bool(log)) == (4, [], True)
    assert not repository.log("main..main")
    assert [commit.message for commit in log] == ["b", "a", "Create the repository"]
    with pytest.raises(IndexError):
        log[4]
    with pytest.raises(TypeError):
        log["main"]


def test_a_log_reads_only_as_far_as_it_must(repository) -> None:
    from versioned_zarr.history.log import Log

    read: list[vz.Commit] = []
    commits = list(repository.log())

    def walk():
        for commit in commits:
            read.append(commit)
            yield commit

    log = Log(walk)
    assert [log[0], *log[:2], *islice(log, 1)] == [commits[0], *commits[:2], commits[0]]
    assert len(read) == 2
    assert list(log) == commits[1:]
    assert len(read) == len(commits)


def test_a_prompt_shows_what_print_shows(repository, monkeypatch) -> None:
    shown = (repository, repository.log(), repository.diff("main"))
    for each in shown:
        assert re.fullmatch(r"<[A-Z]\w+ .*>", repr(each))
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    for each in shown:
        assert repr(each) == str(each)
    with repository.session(message="many") as session:
        for number in range(60):
            session.write(f"k{number}", b"x")
    text = repr(repository.diff("main"))
    assert len(text.splitlines()) <= 25
    assert repr(repository.diff("main", "main"))


def test_ipython_shows_what_print_shows(repository) -> None:
    pretty = pytest.importorskip("IPython.lib.pretty").pretty
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pretty(repository) == str(repository)
        assert pretty(repository.log()) == str(repository.log())
        assert pretty(repository.diff("main")) == str(repository.diff("main"))
        assert pretty(repository.checkout()) == repr(repository.checkout())
