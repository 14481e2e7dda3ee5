"""The words of git, DVC, Icechunk and lakeFS: what to type here."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("click")
import click

from versioned_zarr.cli.app import cli, run
from versioned_zarr.cli.shell import other_tools


def said(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        run(list(words))
    out, err = capfd.readouterr()
    assert (left.value.code, out) == (2, "")
    (line,) = err.splitlines()
    return line.removeprefix("vz: ")


@pytest.mark.parametrize("word", sorted(other_tools.GUESSES))
def test_a_word_of_another_tool_names_ours(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert word not in cli.commands
    assert said(capfd, word) == f"no command {word!r}; {other_tools.GUESSES[word]}"
    assert said(capfd, word, "-x", "y").startswith(f"no command {word!r}; ")


@pytest.mark.parametrize(
    ("group", "word"),
    [
        (group, word)
        for group, words in other_tools._OF_GROUPS.items()
        for word in words
        if word[0] != "-"
    ],
)
def test_a_word_in_a_group_names_ours(
    group: str, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said(capfd, group, word).startswith(f"no command {word!r}; type: vz {group} ")


@pytest.mark.parametrize(
    ("command", "option"),
    [(name, option) for name, options in other_tools._OF_OPTIONS.items() for option in options],
)
def test_an_option_of_another_tool_names_ours(
    command: str, option: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not any(option in each.opts for each in cli.commands[command].params)
    line = other_tools._OF_OPTIONS[command][option]
    assert said(capfd, command, option) == f"no option {option!r}; type: {line}"


def test_a_number_of_commits_is_an_option_here(capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "log", "-2", "--oneline") == "no option '-2'; type: vz log -n 2"
    assert said(capfd, "tag", "-2").startswith("No such option")


def lines() -> list[str]:
    groups = [*other_tools._OF_GROUPS.values(), *other_tools._OF_OPTIONS.values()]
    return sorted({*other_tools.GUESSES.values(), *(v for group in groups for v in group.values())})


@pytest.mark.parametrize("line", lines())
def test_what_is_named_exists(line: str) -> None:
    named = re.findall(r"\bvz ([a-z][a-z-]+)(?: ([a-z]+))?", line)
    assert named or line.startswith("credentials")
    for word, sub in named:
        command = cli.commands[word]
        if isinstance(command, click.Group):
            assert sub in command.commands


def test_a_misspelled_word_is_recognized(capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "statsu").startswith("no command 'statsu'; did you mean 'vz stat")
    assert said(capfd, "frobnicate") == "no command 'frobnicate'; see 'vz --help'"
    assert said(capfd, "remote", "lst") == (
        "no command 'lst'; did you mean 'vz remote list'; see 'vz remote --help'"
    )
    assert "(see 'vz log --help')" in said(capfd, "log", "--grahp")


@pytest.mark.parametrize("words", [["log"], ["remote"], ["remote", "add"], ["bundle", "export"]])
def test_help_shows_the_help_of_a_command(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    run(["help", *words])
    shown = capfd.readouterr().out
    run([*words, "--help"])
    assert shown == capfd.readouterr().out
    assert shown.startswith(f"Usage: vz {' '.join(words)} ")


def test_help_alone_lists_the_commands(capfd: pytest.CaptureFixture[str]) -> None:
    run(["help"])
    shown = capfd.readouterr().out
    run(["--help"])
    assert shown == capfd.readouterr().out


def test_help_of_no_command_names_ours(capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        said(capfd, "help", "stash") == "no command 'stash'; sessions keep uncommitted work: "
        "vz sessions"
    )
    assert said(capfd, "help", "remote", "rm") == "no command 'rm'; type: vz remote delete NAME"
