"""The parser of one command: wrong usage is one line that says what to do, and help of every depth has an example.

Only argparse's texts are changed, never what it takes. ``main`` is its one caller. The invariant: a parser that is
made below another one (a command's action) behaves as that one does.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

EXIT_USAGE = 2
CHOICES_SHOWN_MAX = 12
LIST = "list"
_UNKNOWN = "unrecognized arguments: "
_MISSING = "the following arguments are required: "


class CommandParser(argparse.ArgumentParser):
    """argparse with shorter complaints: what is wrong, the nearest right word, and where help is."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it, but for an option of an action that stands before the action."""
        words = list(args or ())
        word = words[0].partition("=")[0] if words and words[0].startswith("--") else ""
        if word and word not in self._option_string_actions:
            for below in nested(self):
                if word in below._option_string_actions:
                    self.error(f"{word} comes after the action, as in `{below.prog} {word}`")
        return super().parse_args(args, namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it; nothing at all after a word that has a list means that list."""
        words = list(args or ())
        return super().parse_known_args(words or [LIST] if LIST in actions_of(self) else words, namespace)

    def error(self, message: str) -> NoReturn:
        """One line on standard error, and exit code 2."""
        if message.startswith(_UNKNOWN):
            message = self._unknown(message.removeprefix(_UNKNOWN))
        elif message.startswith(_MISSING):
            message = f"it needs {message.removeprefix(_MISSING)}"
        print(f"{self.prog}: {message} (`{self.prog} --help` explains)", file=sys.stderr)
        sys.exit(EXIT_USAGE)

    def _unknown(self, words: str) -> str:
        word = words.split()[0]
        if not word.startswith("-"):
            return f"it takes no {word!r}"
        known = [option for parser in (self, *nested(self)) for option in parser._option_string_actions]
        return f"there is no option {word.partition('=')[0]}{nearest(word.partition('=')[0], known)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        near = nearest(str(value), choices)
        listed = f" (known: {', '.join(choices)})" if not near and len(choices) <= CHOICES_SHOWN_MAX else ""
        name = None if isinstance(action, argparse._SubParsersAction) else action
        raise argparse.ArgumentError(name, f"there is no {str(value)!r}{near}{listed}")


def nearest(word: str, known: list[str]) -> str:
    """``; did you mean x?``, or nothing when nothing is near."""
    found = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def actions_of(parser: argparse.ArgumentParser) -> list[str]:
    """The names of a command's actions."""
    return [name for action in parser._actions if isinstance(action, argparse._SubParsersAction)
            for name in action.choices]  # fmt: skip


def nested(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of a command's actions, and of theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield below
                yield from nested(below)


def explain_actions(parser: argparse.ArgumentParser, example: str) -> None:
    """Give every action of a command its summary, and those lines of the command's example that call it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                if choice.dest == LIST:
                    choice.help = f"{choice.help} (`{parser.prog}` alone does it too)"
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, below in action.choices.items():
                summary = summaries.get(name, "")
                below.description = below.description or (f"{summary[:1].upper()}{summary[1:]}." if summary else None)
                below.formatter_class = argparse.RawDescriptionHelpFormatter
                below.epilog = examples(example_of(below.prog, example))
                explain_actions(below, example)


def example_of(prog: str, example: str) -> list[str]:
    """The lines of an example that call one program."""
    return [line for line in example.rstrip().split("\n") if f"{line.strip()} ".startswith(f"{prog} ")]


def examples(lines: list[str]) -> str:
    """Lines as help shows them below the arguments."""
    return "\n".join(["example:", *lines]) if lines else ""
