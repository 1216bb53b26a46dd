"""What each sink gets to see, and what comes back to the caller."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.guard.vault import Vault
from roadbed.kernel.label import PERSONAL, PUBLIC, Label, Level
from roadbed.kernel.principal import Principal

GUARD = Guard(Detector())
CONFIDENTIAL = Label(Level.CONFIDENTIAL)
CALLER = Principal(id="k1", team="a")
MAIL = "bob@example.com"
KEY = "AKIAIOSFODNN7ABCDEFG"
TEXT = f"Write to {MAIL} or call +47 22 33 44 55; the key is {KEY}; host 10.0.0.1."


def test_the_index_keeps_personal_data_labelled_and_no_secret() -> None:
    guarded = GUARD.for_index(TEXT, CONFIDENTIAL)
    assert guarded.text == TEXT.replace(KEY, "[SECRET]")
    assert guarded.label == CONFIDENTIAL.with_category(PERSONAL)
    assert (guarded.sink, guarded.masked_count) == ("index", 1)
    clean = GUARD.for_index("nothing to see", PUBLIC)
    assert (clean.text, clean.label, clean.masked_count) == ("nothing to see", PUBLIC, 0)


def test_the_index_with_a_map_of_offsets() -> None:
    guarded, offsets = GUARD.for_index_with_map(TEXT, PUBLIC)
    place = TEXT.index("host")
    assert guarded.text[offsets.to_masked(place) :].startswith("host")


def test_a_local_model_gets_personal_data_and_no_secret() -> None:
    vault = Vault()
    guarded = GUARD.for_model(TEXT, CONFIDENTIAL, is_local=True, vault=vault)
    assert MAIL in guarded.text
    assert KEY not in guarded.text
    assert PERSONAL in guarded.label.categories
    assert len(vault) == 0


def test_a_remote_model_gets_tokens_that_come_back_to_the_caller() -> None:
    vault = Vault()
    guarded = GUARD.for_model(TEXT, CONFIDENTIAL.with_category(PERSONAL), is_local=False, vault=vault)
    for value in (MAIL, "+47 22 33 44 55", KEY):
        assert value not in guarded.text
    assert "10.0.0.1" in guarded.text
    assert guarded.label == CONFIDENTIAL
    assert guarded.masked_count == 3
    token = vault.token_for("email", MAIL)
    assert token in guarded.text
    assert GUARD.for_caller(f"I wrote to {token}.", vault, CALLER) == f"I wrote to {MAIL}."
    assert GUARD.for_caller(guarded.text, vault, CALLER) == TEXT.replace(KEY, "[SECRET]")


def test_teams_without_unmasking_see_tokens() -> None:
    guard = GUARD.with_config(GuardConfig(), {"a": TeamConfig(unmask=False)})
    vault = Vault()
    token = vault.token_for("email", MAIL)
    assert guard.for_caller(token, vault, CALLER) == token
    stream = guard.stream_for_caller(vault, CALLER)
    assert stream.feed(token) + stream.finish() == token
    assert guard.for_caller(token, vault, Principal(id="k2", team="b")) == MAIL


def test_records_and_logs_hold_placeholders() -> None:
    guarded = GUARD.for_record(TEXT, CONFIDENTIAL.with_category(PERSONAL))
    assert guarded.text == "Write to [EMAIL] or call [PHONE]; the key is [SECRET]; host [PRIVATE_IP]."
    assert guarded.label == CONFIDENTIAL
    assert GUARD.for_log(TEXT).text == guarded.text


def test_a_remote_embedder_gets_placeholders() -> None:
    assert MAIL in GUARD.for_embedder(TEXT, PUBLIC, is_local=True).text
    assert MAIL not in GUARD.for_embedder(TEXT, PUBLIC, is_local=False).text
    assert KEY not in GUARD.for_embedder(TEXT, PUBLIC, is_local=True).text


def test_allowed_values_pass_and_countries_are_configured() -> None:
    guard = GUARD.with_config(GuardConfig(allow=[MAIL], phone_regions=("FR",)), {})
    assert guard.scan(f"{MAIL}, eve@example.com")[0].start == len(MAIL) + 2
    assert not guard.scan_bytes(json.dumps({"x": MAIL}).encode())
    assert guard.scan("telephone 01 84 17 61 18")
    assert not guard.with_config(GuardConfig(phone_regions=("US",)), {}).scan("telephone 01 84 17 61 18")


PLANTED = [
    "bob@example.com", "+47 22 33 44 55", "4111 1111 1111 1111", "GB29 NWBK 6016 1331 9268 19", "536-90-4399",
    "AB123456C", "8.8.8.8", KEY, "sk-proj-aB3dE5gH7jK9mN1pQ3sT5vW7yZ",
]  # fmt: skip
SURROUNDINGS = st.lists(st.sampled_from(PLANTED) | st.text(max_size=20).map(lambda t: f" {t} "), max_size=8)


@given(SURROUNDINGS)
def test_no_planted_value_is_left_in_a_record(parts: list[str]) -> None:
    text = " ; ".join(parts)
    recorded = GUARD.for_record(text).text
    assert not [value for value in PLANTED if value in recorded]


@given(SURROUNDINGS)
def test_guarding_twice_changes_nothing(parts: list[str]) -> None:
    text = " ; ".join(parts)
    once = GUARD.for_record(text).text
    assert GUARD.for_record(once).text == once
    vault = Vault(b"k" * 32)
    sent = GUARD.for_model(text, PUBLIC, is_local=False, vault=vault).text
    assert GUARD.for_model(sent, PUBLIC, is_local=False, vault=vault).text == sent


class TestBytes:
    @pytest.mark.parametrize("is_ascii", [True, False])
    @pytest.mark.parametrize(
        ("content", "types"),
        [
            ("What is the capital of Norway?", set()),
            (f"mail {MAIL}", {"email"}),
            ("card:\n4111 1111 1111 1111\n", {"card"}),
            ("\tkonto\t4111111111111111\r\n", {"card"}),
            ('he said "4111111111111111"', {"card"}),
            ("C:\\new\\table and \\u0040", set()),
            ("tab\\4111111111111111", {"card"}),
            ("bob＠example．com – é", {"email"}),
            ("😀 bob@example.com", {"email"}),
            ("Ünïcode without anything, 12 €", set()),
            (f"key={KEY}", {"secret"}),
            ("password=hunter2hunter2\x1f" + "x" * 40, {"secret"}),
            ("password=hunter2hunter2\x1f and C:\\", {"secret"}),
        ],
    )
    def test_escapes_hide_nothing(self, content: str, types: set[str], is_ascii: bool) -> None:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}, ensure_ascii=is_ascii)
        assert GUARD.scan_bytes(body.encode()) == types

    def test_every_character_as_an_escape(self) -> None:
        body = '{"content": "' + "".join(f"\\u{ord(character):04X}" for character in f"mail {MAIL}") + '"}'
        assert GUARD.scan_bytes(body.encode()) == {"email"}

    def test_what_is_not_text(self) -> None:
        with pytest.raises(ValueError):
            GUARD.scan_bytes(b'{"x": "\xff"}')

    @given(st.lists(st.sampled_from(PLANTED) | st.text(max_size=10), max_size=6).map("".join), st.booleans())
    def test_no_leaf_has_a_finding_that_the_bytes_hid(self, content: str, is_ascii: bool) -> None:
        body = json.dumps({"content": content}, ensure_ascii=is_ascii)
        try:
            raw = body.encode()
        except UnicodeEncodeError:
            return
        if GUARD.scan(content):
            assert GUARD.scan_bytes(raw)


def test_a_record_is_cut_after_it_was_masked() -> None:
    text = "x " * 20 + "write to anna.berg@example.com now"
    for limit in range(40, len(text)):
        record = GUARD.for_record(text, characters_max=limit).text
        assert len(record) <= limit
        assert "anna" not in record


def test_names_in_records_are_masked_by_patterns_and_secrets_in_them_are_told() -> None:
    guard = Guard(Detector())
    assert guard.for_name("bob@example.com-AKIAIOSFODNN7ABCDEFG/x") == "[EMAIL]-[SECRET]/x"
    assert guard.for_name("01JD7Q0M2X/helpdesk") == "01JD7Q0M2X/helpdesk"
    assert guard.holds_secret("key AKIAIOSFODNN7ABCDEFG of bob@example.com")
    assert not guard.holds_secret("bob@example.com's laptop")
