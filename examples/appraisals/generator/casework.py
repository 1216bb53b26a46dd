"""Draws the office's assignments and values each one. Called by `tree`; the numbers come from `valuation` alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from .valuation import Market, Valuation
from .world import TEACHING_PARCEL_ID, Parcel

APPRAISAL_COUNTS = {2024: 30, 2025: 48, 2026: 72}
NUMBERS_PER_YEAR = {2024: 160, 2025: 170, 2026: 190}
TEACHING_APPRAISAL = "A-2026-0117"
APPRAISERS = ("Tone Lie", "Jonas Vik", "Signe Rønning", "Kjell Torp", "Randi Moe", "Aslak Nes")
REVIEWERS = ("Marit Haug", "Sunniva Aas", "Eirik Moen")
PURPOSES = ("mortgage", "sale", "inheritance", "divorce settlement", "insurance", "property tax dispute")


@dataclass(frozen=True)
class Appraisal:
    """One assignment with its result. Values are None while it is not delivered."""

    id: str
    parcel: Parcel
    purpose: str
    client_kind: str
    status: str
    ordered_on: date
    inspected_on: date | None
    delivered_on: date | None
    appraiser: str
    reviewer: str
    fee_nok: int
    result: Valuation | None


def work_day(day: date) -> date:
    """The day itself, or the Monday after a weekend."""
    return day + timedelta(days=max(0, 7 - day.weekday()) if day.weekday() >= 5 else 0)


def add_work_days(day: date, count: int) -> date:
    """The day so many working days later (public holidays are not considered)."""
    for _ in range(count):
        day = work_day(day + timedelta(days=1))
    return day


def draw_appraisals(random: Random, market: Market) -> list[Appraisal]:
    """All assignments in the order of their numbers, which is the order in which they came in."""
    appraisals: list[Appraisal] = []
    parcels = [parcel for parcel in market.parcels.values() if parcel.id != TEACHING_PARCEL_ID]
    random.shuffle(parcels)
    for year, count in APPRAISAL_COUNTS.items():
        numbers = random.sample(range(1, NUMBERS_PER_YEAR[year]), count)
        if year == 2026 and 117 not in numbers:
            numbers[0] = 117
        days = 265 if year == 2026 else 350
        for number in sorted(numbers):
            identifier = f"A-{year}-{number:04}"
            parcel = market.parcels[TEACHING_PARCEL_ID] if identifier == TEACHING_APPRAISAL else parcels.pop()
            ordered = work_day(date(year, 1, 2) + timedelta(days=round(number / NUMBERS_PER_YEAR[year] * days)))
            appraisals.append(draw_appraisal(random, market, identifier, parcel, ordered))
    return appraisals


def draw_appraisal(random: Random, market: Market, identifier: str, parcel: Parcel, ordered: date) -> Appraisal:
    """One assignment: delivered normally, withdrawn now and then, still open when ordered in September 2026."""
    inspected = add_work_days(ordered, random.randint(3, 8))
    needed = {"leisure home": 8, "commercial": 15}.get(parcel.property_type, 5)
    delivered = add_work_days(inspected, needed - random.choice((0, 0, 1, 2)))
    purpose = random.choices(PURPOSES, weights=(50, 20, 10, 6, 6, 8))[0]
    appraiser, reviewer = random.choice(APPRAISERS), random.choice(REVIEWERS)
    status = "withdrawn" if random.random() < 0.04 else "delivered"
    if identifier == TEACHING_APPRAISAL:
        status, purpose, appraiser, reviewer = "delivered", "mortgage", "Jonas Vik", "Marit Haug"
    elif delivered > date(2026, 9, 18):
        status = "in review" if inspected <= date(2026, 9, 18) else "ordered"
    fees = {
        "apartment": 5_900,
        "row house": 6_400,
        "detached house": 6_900,
        "leisure home": 8_400,
        "commercial": 18_500,
    }
    old_fees = {
        "apartment": 5_200,
        "row house": 5_700,
        "detached house": 6_200,
        "leisure home": 7_600,
        "commercial": 16_000,
    }
    is_seen = status in ("delivered", "in review")
    return Appraisal(
        id=identifier,
        parcel=parcel,
        purpose=purpose,
        client_kind="bank" if purpose == "mortgage" and random.random() < 0.7 else "private",
        status=status,
        ordered_on=ordered,
        inspected_on=inspected if is_seen else None,
        delivered_on=delivered if status == "delivered" else None,
        appraiser=appraiser,
        reviewer=reviewer,
        fee_nok=(fees if ordered.year == 2026 else old_fees)[parcel.property_type],
        result=market.value(parcel, inspected) if status == "delivered" else None,
    )
