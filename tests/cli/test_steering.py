"""Nothing that vz, `print` or a notebook shows of the text of others steers who shows it."""

from __future__ import annotations

import json
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz

pytest.importorskip("click")
from versioned_zarr.cli.app import run
from versioned_zarr.terminal_text import escaped, escaped_json, escaped_line

EVIL = "a\x1b[2J\x07\x08\x9b31m\x85\u202eb\u2066c\u200f\u061c\u2028d\x7f"
KEY = f"{EVIL}\n\tz"
DOCUMENT = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [2],
    "data_type": EVIL,
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
    "chunk_key_encoding": {"name": "default"},
    "attributes": {EVIL: EVIL},
    "dimension_names": [EVIL],
}


def check(shown: str) -> None:
    """No character of it steers; newlines separate lines."""
    bidi = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F))}
    bidi |= set(map(chr, range(0x2066, 0x206A)))
    for character in set(shown) - {"\n"}:
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}, repr(shown)
        assert character not in bidi, repr(shown)


@given(st.text() | st.text(st.sampled_from(EVIL + "ab\n\t\\")))
def test_text_is_escaped_and_json_says_the_same(text: str) -> None:
    for shown in (escaped(text), escaped_line(text)):
        check(shown)
    assert "\n" not in escaped_line(text)
    assert escaped(text).count("\n") == text.count("\n")
    shown = escaped_json(json.dumps({text: [text]}, indent=2, ensure_ascii=False))
    check(shown)
    assert json.loads(shown) == {text: [text]}


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_other_text_stays(text: str) -> None:
    assert escaped(text) == escaped_line(text) == text


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VERSIONED_ZARR_AUTHOR", EVIL)
    repository = vz.create(tmp_path / "r.vz")
    document = json.dumps(DOCUMENT, ensure_ascii=False).encode()
    with repository.session() as session:
        session.write("zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
        session.write(f"{KEY}/zarr.json", document)
        session.write(f"{KEY}/c/0", b"1")
        session.write(f"other{KEY}", b"1")
        session.commit(f"{EVIL}\n\n{EVIL}\n second line", metadata={EVIL: EVIL})
    repository.branches.create("dev")
    repository.tags.create("v1")
    for branch in ("main", "dev"):
        with repository.session(branch, message=EVIL) as session:
            session.write(f"{KEY}/zarr.json", document.replace(b"2]", b"3]"))
            session.write(f"{KEY}/c/0", branch.encode())
    left = repository.session(purpose=EVIL)
    left.write(KEY.replace("z", "y"), b"2")
    left._working.end("died", keep_folder=True)
    monkeypatch.chdir(tmp_path / "r.vz")
    return repository


COMMANDS = [
    ["log"], ["log", "--oneline"], ["log", "--graph"], ["log", "--path", KEY],
    ["show"], ["show", "main~1"], ["diff", "main"], ["diff", "--stat", "main"],
    ["diff", "main", "dev"], ["status"], ["ls"], ["ls", "-r", "-l"], ["ls", "main", KEY],
    ["branch"], ["tag"], ["sessions"], ["fsck"], ["stats"], ["merge", "dev"],
    ["merge", "dev", "--resolve", "ours"], ["revert", "v1"], ["squash", "main~1"],
    ["tag", "v2"], ["branch", "third"], ["remote", "list"],
    ["tree"], ["tree", "main", KEY], ["reflog"], ["config"], ["rm", KEY], ["rm", EVIL],
    ["mv", KEY, EVIL], ["undo", "--yes"], ["undo", EVIL], ["commit", EVIL, "-m", EVIL],
    ["reflog", EVIL], ["help", EVIL], ["diff", "main~1"],
    ["log", EVIL], ["cat", "main", EVIL], ["ls", "main", EVIL], ["branch", EVIL], [EVIL],
    ["log", f"--{EVIL}"], ["-C", EVIL, "log"], ["import", EVIL], ["sessions", "--delete", EVIL],
]  # fmt: skip


@pytest.mark.parametrize(
    "words", COMMANDS, ids=lambda words: " ".join(words).encode("ascii", "replace")
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_no_command_prints_what_steers(
    repository: vz.Repository,
    words: list[str],
    more: list[str],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    capfdbinary.readouterr()
    with suppress(SystemExit):  # what is wrong must say so without steering, too
        run([*words, *more])
    out, err = capfdbinary.readouterr()
    check(out.decode())
    check(err.decode())
    if more and out:
        json.loads(out)


def test_json_is_exact(
    repository: vz.Repository, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    capfdbinary.readouterr()
    run(["show", "main~1", "--json"])
    told = json.loads(capfdbinary.readouterr().out)
    commit = repository.checkout("main~1").commit
    assert commit is not None
    assert {name: told[name] for name in commit.to_dict()} == commit.to_dict()
    assert told["author"] == EVIL
    run(["ls", "-r", "--json"])
    told = json.loads(capfdbinary.readouterr().out)
    assert [entry["name"] for entry in told] == list(repository.checkout().keys())


def test_nothing_steers_by_print_or_in_a_notebook(repository: vz.Repository) -> None:
    session = repository.session()
    session.write(f"{KEY}/zarr.json", b"[]")
    commit = repository.branches["main"]
    diff = repository.diff("main~1", "main")
    shown: list[Any] = [
        repository, repository.checkout(), repository.checkout().path(KEY), session,
        session.status(), commit, repository.log(), diff, repository.diff(commit.parents[0]),
    ]  # fmt: skip
    for each in shown:
        check(str(each))
        check(each._repr_html_())
        check(repr(each))
    session.discard()


def test_a_message_keeps_its_lines(repository: vz.Repository) -> None:
    commit = repository.checkout("v1").commit
    assert str(commit).splitlines()[-1] == "     second line"
    assert str(commit).splitlines()[2] == f"Author: {escaped_line(EVIL)}"


def test_a_key_takes_one_line(
    repository: vz.Repository, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    capfdbinary.readouterr()
    run(["ls", "-r"])
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines == [escaped_line(key) for key in repository.checkout().mapping]
    assert not any(line.startswith("\t") for line in lines)
