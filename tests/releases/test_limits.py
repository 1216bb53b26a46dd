"""Limits of a manifest: read, checked with their lines, and no part of a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.limits import parse_budget, parse_rate
from roadbed.releases.compile import compile_releases
from roadbed.releases.workspace import load_workspace

HEAD = """\
name: test
endpoints: {a: {type: openai, url: "http://127.0.0.1:9/v1", model: m}}
models: {smart: {ladder: [a]}}
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("teams: {t: {budget: 200 EUR/month}}", "'200 EUR/month' is not a budget"),
        ("teams: {t: {rate: 600}}", "`teams.t.rate`"),
        ("teams: {t: {rate: 0/min}}", "'0/min' is not a rate"),
        ("teams: {t: {per_key: {tokens: lots}}}", "'lots' is not a rate"),
        ("teams: {t: {budget: 1 USD/day, alerts: {at: [150%]}}}", "'150%' is not a share"),
        ("teams: {t: {budget: 1 USD/day, alerts: {webhook: 'https://x/y'}}}", "`webhook` must be a reference"),
        ("teams: {t: {alerts: {}}}", "`alerts` needs a `budget`"),
        ("teams: {t: {budget: 1 USD/day, downgrade: {to: smrt}}}", "there is no model named `smrt`"),
        ("prices: {openia/gpt-5: {input: 1, output: 2}}", "there is no provider named `openia`"),
        ("prices: {gpt-5: {input: 1, output: 2}}", "is not provider/model"),
    ],
)
def test_a_wrong_limit_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_workspace(tmp_path, HEAD + line + "\n")
    assert message in str(caught.value)
    assert caught.value.line == 4


def test_limits_are_enforced_so_nothing_is_noted_and_releases_do_not_pin_them(tmp_path: Path) -> None:
    teams = "teams: {t: {budget: 200 USD/month, rate: 600/min}}\n"
    limited = load_workspace(tmp_path, HEAD.replace("ladder: [a]", "ladder: [a], rate: 5/s, concurrency: 3") + teams)
    assert limited.notes() == []
    plain = load_workspace(tmp_path, HEAD)
    assert compile_releases(limited, {})["_routes"].digest == compile_releases(plain, {})["_routes"].digest
    priced = load_workspace(tmp_path, HEAD + "prices: {openai/gpt-5: {input: 1, output: 2}}\n")
    assert compile_releases(priced, {})["_routes"].digest != compile_releases(plain, {})["_routes"].digest


def test_limits_are_read_exactly() -> None:
    budget = parse_budget("team:t", "0.000001 USD/day")
    assert (budget.id, budget.cap_microusd, budget.title) == ("team:t/day", 1, "the budget of team t")
    assert parse_budget("team:t", "999999999.999999 USD/week").cap_microusd == 999_999_999_999_999
    assert (parse_rate("100k/min"), parse_rate("1.5M/day"), parse_rate("2m/min"), parse_rate("10/s")) == (
        (100_000, 60.0),
        (1_500_000, 86_400.0),
        (2_000_000, 60.0),
        (10, 1.0),
    )
