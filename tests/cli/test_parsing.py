"""Wrong usage of commands, help of every depth, and what a terminal may be told."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator

import pytest

from roadbed.cli import main as commands
from roadbed.cli.ask import shortfalls
from roadbed.cli.main import EXIT_USAGE, command_parser, main
from roadbed.cli.parsing import actions_of, nested
from roadbed.cli.screen import Screen
from roadbed.cli.up import program_name

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["keys", "creat"], "roadbed keys: there is no 'creat'; did you mean create? (`roadbed keys --help` explains)"),
        (["config"], "roadbed config: it needs explain|schema (`roadbed config --help` explains)"),
        (["ask"], "roadbed ask: it needs question (`roadbed ask --help` explains)"),
        (
            ["keys", "--state", "/x", "create"],
            "roadbed keys: --state comes after the action, as in `roadbed keys create --state` (`roadbed keys --help` "
            "explains)",
        ),
        (
            ["up", "--prot=1"],
            "roadbed up: there is no option --prot; did you mean --port? (`roadbed up --help` explains)",
        ),
        (["keys", "list", "--jsn"], "roadbed keys: there is no option --jsn; did you mean --json?"),
        (["usage", "all"], "roadbed usage: it takes no 'all'"),
        (["up", "--log-level", "loud"], "there is no 'loud' (known: debug, info, warning, error)"),
    ],
)
def test_wrong_usage_is_one_line_with_what_to_do(words: list[str], said: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == EXIT_USAGE
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_word_that_has_a_list_lists_when_nothing_follows() -> None:
    listing = {parser.prog: parser for parser in parsers() if "list" in actions_of(parser)}
    assert {"roadbed models", "roadbed keys", "roadbed tools", "roadbed approvals"} <= set(listing)
    for prog, parser in listing.items():
        bare, said = parser.parse_args([]), parser.parse_args(["list"])
        assert vars(bare) == vars(said), prog
    assert command_parser("tools").parse_args(["approvals"]).decision == "list"


def parsers() -> Iterator[argparse.ArgumentParser]:
    for name in commands.COMMANDS:
        parser = command_parser(name)
        yield parser
        yield from nested(parser)


def test_every_action_has_a_summary_an_example_and_named_arguments() -> None:
    for parser in parsers():
        assert parser.description, parser.prog
        assert f"{parser.prog} " in f"{parser.epilog} ".replace("\n", " "), parser.prog
        unsaid = [action.dest for action in parser._actions if not (action.help or action.metavar)]
        assert not unsaid, f"{parser.prog}: {unsaid}"


def test_the_groups_of_the_help_hold_every_command_once(capsys: Capture) -> None:
    grouped = [name for names in commands.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(set(commands.COMMANDS) - commands.HIDDEN)
    assert main(["--help"]) == commands.EXIT_OK
    text = capsys.readouterr().out
    assert all(f"\n{title}:\n" in text for title in commands.GROUPS)


def test_a_terminal_is_told_no_control_characters() -> None:
    shown, progress = io.StringIO(), io.StringIO()
    hostile = "red \x1b[31m \x9b31m \x1b]0;title\x07 one\rtwo\ttab\n\u2028"
    Screen(shown).write(hostile)
    Screen(progress, "\n\t\r").write("\r50 %")
    assert shown.getvalue() == "red \ufffd[31m \ufffd31m \ufffd]0;title\ufffd one\ufffdtwo\ttab\n\ufffd"
    assert progress.getvalue() == "\r50 %"
    assert Screen(shown).isatty() is False


def test_what_is_still_being_read_is_said_apart_from_what_is_away() -> None:
    reading = ["source a: not read to its end yet", "source b: not read to its end yet"]
    assert shortfalls([]) == []
    assert shortfalls([*reading, "tool crm: away"]) == [
        "still being read, ask again when it is done: source a, source b",
        "missing: tool crm: away",
    ]


@pytest.mark.parametrize(
    ("called", "found", "named"),
    [
        (".venv/bin/roadbed", None, ".venv/bin/roadbed"),
        ("/opt/my tools/roadbed", None, "'/opt/my tools/roadbed'"),
        (".venv/bin/roadbed", "/usr/bin/roadbed", "roadbed"),
        ("/x/roadbed/cli/__main__.py", None, "roadbed"),
    ],
)
def test_what_up_tells_to_type_is_what_the_shell_finds(called: str, found: str | None, named: str) -> None:
    assert program_name(called, found) == named
