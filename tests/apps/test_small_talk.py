from __future__ import annotations

import pytest

from roadbed.apps.small_talk import ASK, WELCOME, small_talk


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("hello", ASK),
        ("Good morning!", ASK),
        ("Guten Tag", ASK),
        ("???", ASK),
        ("What can you help me with?", ASK),
        ("who are you", ASK),
        ("Hi, thanks!", ASK),
        ("Thanks!", WELCOME),
        ("Thank you very much", WELCOME),
        ("muchas gracias", WELCOME),
        ("hello world program", None),
        ("What is this about?", None),
        ("how does parental leave work", None),
        ("Who thanks the board?", None),
        ("you are useless", None),
    ],
)
def test_small_talk_is_told_from_questions(message: str, reply: str | None) -> None:
    assert small_talk(message) == reply
