from __future__ import annotations

import random
import re

import pytest
from tests.stopwatch import is_in_proportion

from roadbed.apps.grounding import Verdict, best_support, check_sentence, examine

HANDBOOK = """\
The fees in this document apply to assignments ordered on or after 1 January 2026. A rush order is delivered within two
working days after the inspection and costs 35 % on top of the standard fee. Rush orders are not available for leisure
homes. Travel beyond 40 km from the office in Bruvang is charged at NOK 14 per kilometre. Reports are kept for seven
years from delivery. The standard turnaround is five working days. The board met on 16 September 2025 and raised the
limit to NOK 12 million. Marit Haug must sign each report above that limit. Copies cost 750 NOK and a desk update costs
2,900 NOK."""


@pytest.mark.parametrize(
    "sentence",
    [
        "A rush order costs 35% on top of the standard fee [1].",
        "A rush order costs 35 percent on top of the standard fee.",
        "Reports are kept for 7 years from delivery.",
        "The limit was raised to NOK 12,000,000 on 2025-09-16.",
        "The fees apply to assignments ordered after January 2026.",
        "According to the documents, rush orders are not available for leisure homes.",
        "Marit Haug must sign each report above the limit.",
        "Travel beyond 40 km is charged at 14 NOK per kilometre.",
    ],
)
def test_what_the_passage_says_is_supported_however_it_is_written(sentence: str) -> None:
    assert check_sentence(sentence, [HANDBOOK]) is Verdict.SUPPORTED


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("A rush order costs 25 % on top of the standard fee.", "number"),
        ("Travel beyond 40 miles from the office in Bruvang is charged at NOK 14 per kilometre.", "number"),
        ("The board met on 16 October 2025.", "date"),
        ("Rush orders are available for leisure homes.", "negation"),
        ("Marit Haug must not sign each report above that limit.", "negation"),
        ("A report above that limit must be signed by Jonas.", "name"),
        ("Parental leave lasts long and the canteen serves soup.", "words"),
    ],
)
def test_what_the_passage_does_not_say_is_unsupported(sentence: str, reason: str) -> None:
    finding = examine(sentence, [HANDBOOK])
    assert (finding.verdict, finding.reason) == (Verdict.UNSUPPORTED, reason)


def test_a_sum_of_cited_numbers_is_computed() -> None:
    assert check_sentence("A copy and a desk update cost 3,650 NOK.", [HANDBOOK]) is Verdict.COMPUTED


def test_a_claim_without_a_citation_is_unsupported() -> None:
    assert examine("Reports are kept for seven years.", []).reason == "no citation"


@pytest.mark.parametrize(
    "sentence", ["Here is what I found:", "Yes.", "Let me know if you need more.", "And why?", "[1]"]
)
def test_chatter_is_exempt(sentence: str) -> None:
    assert check_sentence(sentence, []) is Verdict.EXEMPT


@pytest.mark.parametrize("sentence", ["Here are 14 reasons.", "According to the documents, dogs bark in the canteen."])
def test_a_claim_in_the_dress_of_chatter_is_not_exempt(sentence: str) -> None:
    assert check_sentence(sentence, [HANDBOOK]) is Verdict.UNSUPPORTED


def test_the_best_support_is_the_passage_that_says_it() -> None:
    passages = ["Dogs are not allowed in the office.", HANDBOOK, "Reports are read twice."]
    assert best_support("Reports are kept for seven years from delivery.", passages) == 1
    assert best_support("Reports are kept for nine years from delivery.", passages) is None
    assert best_support("The moon is made of cheese.", passages) is None
    assert best_support("", passages) is None


def test_changed_facts_are_caught_and_true_ones_pass() -> None:
    chance = random.Random(3)
    claims = [sentence.replace("\n", " ") for sentence in re.split(r"(?<=\.)\s", HANDBOOK)]
    alarms = [claim for claim in claims if check_sentence(claim, [HANDBOOK]) is Verdict.UNSUPPORTED]
    assert alarms == []
    changed = []
    for claim in claims:
        changed += [
            re.sub(r"\d+", lambda match: str(int(match.group()) + chance.randint(1, 8) * 11), claim, count=1),
            claim.replace("September", "May").replace("January", "June"),
            re.sub(r"\b(is|are|must)\b(?! not)", r"\1 not", claim, count=1),
            claim.replace(" not ", " "),
        ]
    changed = [claim for claim in changed if claim not in claims]
    missed = [claim for claim in changed if check_sentence(claim, [HANDBOOK]) is Verdict.SUPPORTED]
    assert len(changed) > 12
    assert missed == []


@pytest.mark.parametrize("unit", ["{} ", "{} % ", "{}-", "NOK {} ", "{}/1/2020 "])
def test_a_sentence_of_numbers_alone_takes_no_time_squared(unit: str) -> None:
    text = "".join(unit.format(number) for number in range(2, 2_000))

    def check(size: int) -> None:
        check_sentence("The sum is " + text[:size], [text[:size]] * 4)

    assert is_in_proportion(check, 8_000, within_s=2.0)
