"""What is found, what is left alone, however it is written, and by either engine."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.detect import Detector
from roadbed.guard.engine import HyperscanEngine, PortableEngine
from roadbed.guard.finding import Finding, merge_overlaps

DETECTOR = Detector()
PORTABLE = Detector(engine=PortableEngine())

# (rule, value, what stands before it, what stands after)
FOUND = [
    ("email", "bob.o'neil+x@mail.example.co.uk", "write to ", "."),
    ("email", "a@b.io", "<", ">"),
    ("phone_international", "+47 22 33 44 55", "", " today"),
    ("phone_international", "+44 (0)20 7946 0958", "t ", ""),
    ("phone_international", "0047 22 33 44 55", "from abroad ", ""),
    ("phone_national", "(212) 736-5000", "at ", "!"),
    ("phone_national", "212-736-5000", "at ", "."),
    ("phone_national", "22 33 44 55", "telefon ", ""),
    ("phone_national", "212-736-5000 x123", "", ""),
    ("card", "4111 1111 1111 1111", "card ", " 12/29"),
    ("card", "4111-1111-1111-1111", "", ""),
    ("card", "378282246310005", "amex:", ","),
    ("card", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "digits ", ""),
    ("iban", "GB29 NWBK 6016 1331 9268 19", "to ", "."),
    ("iban", "no9386011117947", "konto ", ""),
    ("us_ssn", "536-90-4399", "", ""),
    ("us_ssn", "536904399", "social security number ", ""),
    ("uk_nino", "AB 12 34 56 C", "", ""),
    ("uk_nino", "jg103759a", "ni ", ""),
    ("uk_nhs", "943 476 5919", "NHS no ", ""),
    ("de_steuer_id", "86 095 742 719", "", ""),
    ("de_steuer_id", "86095742719", "", ""),
    ("fr_nir", "2 55 08 14 168 025 38", "", ""),
    ("es_dni", "12345678Z", "", ""),
    ("es_nie", "X-1234567-L", "", ""),
    ("it_codice_fiscale", "RSSMRA85T10A562S", "CF ", ""),
    ("no_fodselsnummer", "151086 95088", "", ""),
    ("se_personnummer", "880320-0016", "", ""),
    ("nl_bsn", "111222333", "BSN: ", ""),
    ("ip_v4", "8.8.8.8", "from ", ":443"),
    ("ip_v6", "2001:4860:4860::8888", "from ", ""),
    ("roadbed_key", "rbk_abcdefghij_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V", "", ""),
    ("aws_access_key", "AKIAIOSFODNN7ABCDEFG", "id ", ""),
    ("github_token", "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5", "", ""),
    ("gitlab_token", "glpat-aB3dE5gH7jK9mN1pQ3sT", "", ""),
    ("slack_token", "xoxb-123456789012-qTbW3xGHIzKL", "", ""),
    ("stripe_key", "sk_live_aB3dE5gH7jK9mN1pQ3sT5vW7", "", ""),
    ("google_api_key", "AIzaSyA-aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1d"[:39], "", ""),
    ("anthropic_key", "sk-ant-api03-" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ_-" * 3 + "aB3dE5gH7" + "AA", "", ""),
    ("openai_key", "sk-proj-aB3dE5gH7jK9mN1pQ3sT5vW7yZ", "", ""),
    ("huggingface_token", "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH", "", ""),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U", "", ""),
    ("private_key", f"-----BEGIN PRIVATE KEY-----\n{'MC4CAQAw' * 8}\n-----END PRIVATE KEY-----", "key:\n", "\n"),
    ("url_password", "s3cr3tPw", "postgres://owner:", "@db.internal/x"),
    ("bearer_token", "abcd1234efgh5678ijkl", "Authorization: Bearer ", ""),
    ("assigned_secret", "a8f5f167f44f4964e6c998dee827110c", "api_key = '", "'"),
    ("assigned_secret", "hunter2!x", "password: ", ""),
    ("assigned_secret", "Zx81-pQ93-mm20-Kk11", '"accessToken": "', '"'),
    ("user_option", "d2LkV78zLx", "curl -u admin:", " https://host"),
]

LEFT_ALONE = [
    "The meeting is on 2026-11-20 at 12:34:56, room 4711.",
    "Order 4111111111111112 was shipped, reference 1234567890123.",
    "pi is 3.14159265358979323846 and e is 2.718281828459045",
    "uuid 550e8400-e29b-41d4-a716-446655440000",
    "see retina@2x.png and git@github.com:org/repo.git",
    "version 1.2.3.4 of the library, section 10.1.2.3",
    "std::vector and a::b",
    '{"max_tokens": 4096, "token_type": "bearer", "tokenizer": "cl100k_base"}',
    "password: required, token: string, secret = None",
    "API_KEY=${API_KEY} and password=changeme and token: your-token-here",
    "commit 8f14e45fceea167a5a36dedd4bea2543 and sha256:abcdef",
    "EMAIL_K7Q2M4XA wrote to [EMAIL] about token: PHONE_ABCDEFGH",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    "12 345 678 people live there; the budget is 1.234.567,89 EUR",
    "10.00 20.00 30.00 40.00 50.00",
    "see /hc/en-us/sections/4414472693133-Getting-started and `p4 -u ${P4USER:-admin} login`",
    "Zip 90210, parcel 12-345-678, deed 2019/004512",
]


@pytest.mark.parametrize("detector", [DETECTOR, PORTABLE], ids=["hyperscan", "re"])
@pytest.mark.parametrize(("rule", "value", "before", "after"), FOUND, ids=[f"{row[0]}-{row[1][:12]}" for row in FOUND])
def test_found_with_exact_offsets(detector: Detector, rule: str, value: str, before: str, after: str) -> None:
    text = before + value + after
    found = detector.find(text)
    assert [(text[f.start : f.end], f.rule) for f in found] == [(value, rule)]
    assert found[0].is_secret == (found[0].type == "secret")


@pytest.mark.parametrize("detector", [DETECTOR, PORTABLE], ids=["hyperscan", "re"])
@pytest.mark.parametrize("text", LEFT_ALONE)
def test_left_alone(detector: Detector, text: str) -> None:
    assert [(f.rule, text[f.start : f.end]) for f in detector.find(text)] == []


def test_private_networks_are_told_apart() -> None:
    assert [(f.type, f.is_personal) for f in DETECTOR.find("from 10.1.2.3 and fe80::1ff:fe23:4567:890a")] == [
        ("private_ip", False),
        ("private_ip", False),
    ]


def test_a_cut_private_key_is_still_one() -> None:
    text = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEvQabc\n" * 40
    assert [(f.start, f.end) for f in DETECTOR.find(text)] == [(0, len(text))]


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("card ４１１１ １１１１ １１１１ １１１１.", "４１１１ １１１１ １１１１ １１１１", "card"),
        ("card 41\u200b11\u00ad 1111 1111 1111.", "41\u200b11\u00ad 1111 1111 1111", "card"),
        ("card 4111‑1111‒1111–1111 é", "4111‑1111‒1111–1111", "card"),
        ("card ٤١١١ ١١١١ ١١١١ ١١١١", "٤١١١ ١١١١ ١١١١ ١١١١", "card"),
        ("Müller: bоb@exаmple.com", "bоb@exаmple.com", "email"),
        ("ﬁne ﬁne ﬁne bob＠example．com", "bob＠example．com", "email"),
        ("電話 +47\u00a022\u00a033\u00a044\u00a055です", "+47\u00a022\u00a033\u00a044\u00a055", "phone"),
        (
            "kéy ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1\u200ddE3fG5",
            "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1\u200ddE3fG5",
            "secret",
        ),
        ("\U000e0034\U000e003111 1111 1111 1111", "\U000e0034\U000e003111 1111 1111 1111", "card"),
    ],
)
def test_folding_finds_and_maps_back(text: str, value: str, kind: str) -> None:
    assert [(text[f.start : f.end], f.type) for f in DETECTOR.find(text)] == [(value, kind)]


PIECES = st.sampled_from(
    [row[1] for row in FOUND]
    + [row[2] + row[1] for row in FOUND]
    + [
        "@",
        "+",
        "-",
        " ",
        "\n",
        ":",
        "=",
        "password: ",
        "token=",
        "é",
        "\u200b",
        "４",
        "::",
        "://u:",
        "Bearer ",
        "x",
        "sk-",
        "4",
        "11",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=12).map("".join)


@given(TEXTS)
def test_both_engines_find_the_same(text: str) -> None:
    assert sorted(set(DETECTOR.candidates(text))) == sorted(set(PORTABLE.candidates(text)))


@given(st.text(max_size=200) | TEXTS)
def test_offsets_lie_in_the_text_and_do_not_overlap(text: str) -> None:
    end = 0
    for finding in DETECTOR.find(text):
        assert end <= finding.start < finding.end <= len(text)
        end = finding.end


@given(st.text(max_size=50), st.text(max_size=50))
def test_an_address_is_found_in_any_surroundings(before: str, after: str) -> None:
    text = f"{before} bob@example.com {after}"
    start = len(before) + 1
    assert any(f.start <= start and start + 15 <= f.end for f in DETECTOR.find(text))


def test_overlaps_merge_into_one_that_covers_all() -> None:
    phone = Finding("phone", 0, 10, "p", 0.5, False)
    secret = Finding("secret", 5, 15, "s", 0.5, True)
    apart = Finding("email", 15, 20, "e", 0.5, False)
    assert merge_overlaps([apart, secret, phone]) == [secret._replace(start=0), apart]


def test_many_threads_share_one_detector() -> None:
    text = "mail bob@example.com, card 4111 1111 1111 1111 " * 20
    expected = DETECTOR.find(text)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(50):
            found = DETECTOR.find(text)
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(expected) == 40


class TestCache:
    def test_the_compiled_patterns_are_loaded_again(self, tmp_path: Path) -> None:
        HyperscanEngine(tmp_path)
        before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.hsdb")}
        again = HyperscanEngine(tmp_path)
        assert again.hits("bob@example.com") == DETECTOR._engine.hits("bob@example.com")
        assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.hsdb")} == before
        assert len(before) == 5

    def test_a_damaged_file_is_compiled_again(self, tmp_path: Path) -> None:
        HyperscanEngine(tmp_path)
        file = min(tmp_path.glob("*.hsdb"), key=lambda file: file.stat().st_size)
        whole = file.read_bytes()
        for damaged in (whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], whole[:50], b""):
            file.write_bytes(damaged)
            assert HyperscanEngine(tmp_path).hits("bob@example.com")
            assert file.read_bytes() == whole

    def test_an_unusable_folder_only_costs_the_cache(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert HyperscanEngine(tmp_path / "file" / "below").hits("bob@example.com")


@pytest.mark.parametrize("after", ["-AKIA12", "-based", ") said", "/x", "'s"])
def test_an_address_is_found_whatever_is_written_after_it(after: str) -> None:
    text = f"from bob@hjemmepost.no{after}"
    assert [text[f.start : f.end] for f in DETECTOR.find(text) if f.type == "email"] == ["bob@hjemmepost.no"]
