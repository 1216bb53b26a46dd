"""Writes the text of single appraisal reports, after the office's template RT-01, from the rows of the database."""

from __future__ import annotations

from pathlib import Path
from random import Random

from .casework import Appraisal
from .database import value_range
from .valuation import Comparable, Market, Valuation
from .world import Parcel, quarter_of
from .writers import Text

TEMPLATE = Path(__file__).parent / "report-template.md"
PLAIN_LETTERS = {ord("å"): "a", ord("ø"): "o", ord("æ"): "ae", ord(" "): "-"}
MARKETS = {
    "Bruvang": "Bruvang is a stable market with about 90 sales a year among the properties that the office "
    "follows. Most "
    "dwellings are sold within five weeks. New apartments by the river come in 2027.",
    "Storsund": "Storsund has the highest prices of the five municipalities and the shortest time on the market. "
    "Row houses and "
    "apartments within walking distance of the quay are often sold after the first viewing.",
    "Hellvik": "Hellvik is two markets: dwellings for those who work at the airport, and leisure homes by the "
    "sea. Leisure homes "
    "rose by more than 9 % during 2024 and have moved little since.",
    "Granmo": "Granmo is a quiet inland market. Buyers take their time, and the condition of the technical "
    "installations decides "
    "more than the view.",
    "Kvitnes": "Kvitnes is a thin market that depends on the ferry. Sales are few, and the office often has to "
    "extend the time "
    "window to find three comparables.",
}
GRADE_WORDS = {
    1: "The building is as new; the wet rooms are documented and no repairs are expected for ten years.",
    2: "The building is well kept. Surfaces are older than ten years in places, the technical installations are sound.",
    3: "The building shows fair wear. The bathroom will have to be renewed within five years, and single windows "
    "need paint.",
    4: "The building is worn. The roof is near the end of its life and the wiring should be checked within a year.",
    5: "The building is unfit for use without major work.",
}
ROOMS = {
    "apartment": "hall, living room with open kitchen, two bedrooms, bathroom and a storage room in the cellar",
    "row house": "hall, kitchen, living room with a way out to the garden, three bedrooms, bathroom and laundry",
    "detached house": "hall, kitchen, two living rooms, four bedrooms, bathroom, laundry and a cellar for storage",
    "leisure home": "living room with kitchen corner, two bedrooms, a loft, a bathroom and an outdoor storage room",
    "commercial": "sales area, storage, staff room and two toilets",
}
FINDINGS = (
    "Moisture was measured at three points in the bathroom; the readings were between 9 and 13 % by weight, "
    "which is dry.",
    "One reading of 17 % by weight beside the shower drain is noted; it is below the limit of a finding.",
    "The crawl space was entered. The ground is covered with plastic sheeting, and the beams were dry.",
    "The attic could be seen from the hatch only; the grade of that part is therefore set to 3.",
    "The fuse box was renewed in 2016 and has automatic fuses with earth-fault protection.",
    "The water heater holds 200 litres and is from 2019 according to its plate.",
)


def nok(amount: int) -> str:
    """An amount as the office writes it: `NOK 4,750,000`."""
    return f"NOK {amount:,}"


def signed(amount: int) -> str:
    """An adjustment with its sign."""
    return f"{amount:+,}" if amount else "0"


def report(random: Random, market: Market, appraisal: Appraisal, ending: str) -> Text:
    """The report of a delivered appraisal, in eight sections."""
    parcel, result = appraisal.parcel, appraisal.result
    if result is None or appraisal.inspected_on is None or appraisal.delivered_on is None:
        raise ValueError(f"appraisal {appraisal.id} is not delivered")
    low, high = value_range(result.value_nok, result.range_share)
    municipal = "the municipal water supply and drainage"
    drainage = "an approved plant for drainage" if parcel.property_type == "leisure home" else municipal
    findings = " ".join(random.sample(FINDINGS, 3))
    body = (
        TEMPLATE.read_text(encoding="utf-8")
        .strip()
        .format(
            address=parcel.address,
            parcel=parcel.id,
            cadastral_number=parcel.cadastral_number,
            property_type=parcel.property_type,
            municipality=parcel.municipality,
            district=parcel.district,
            year_built=parcel.year_built,
            area_word="floor area" if parcel.property_type == "commercial" else "living area",
            area=parcel.living_area_m2,
            rooms=ROOMS[parcel.property_type],
            garage="A garage belongs to it." if parcel.has_garage else "There is no garage.",
            energy_rating=parcel.energy_rating,
            grade=parcel.condition_grade,
            grade_words=GRADE_WORDS[parcel.condition_grade],
            findings=findings,
            plot=plot_words(parcel),
            drainage=drainage,
            appraisal=appraisal.id,
            appraiser=appraisal.appraiser,
            reviewer=appraisal.reviewer,
            purpose=appraisal.purpose,
            reader="The bank that ordered it" if appraisal.client_kind == "bank" else "The client",
            ordered_on=appraisal.ordered_on,
            valued_on=appraisal.inspected_on,
            delivered_on=appraisal.delivered_on,
            fee=nok(appraisal.fee_nok),
            method=result.method,
            value=nok(result.value_nok),
            low=nok(low),
            high=nok(high),
            share=round(result.range_share * 100),
            market=MARKETS[parcel.municipality],
            index=market.index(parcel, appraisal.inspected_on),
            quarter=quarter_of(appraisal.inspected_on),
            valuation=valuation_words(result, parcel),
        )
    )
    street = parcel.address.split(",")[0].lower().translate(PLAIN_LETTERS)
    subtitle = f"Appraisal {appraisal.id}, delivered {appraisal.delivered_on}"
    path = f"reports/{appraisal.id.lower()}-{street}.{ending}"
    title = f"Appraisal report {appraisal.id}: {parcel.address}"
    return Text(path, title, subtitle, str(appraisal.delivered_on), body)


def plot_words(parcel: Parcel) -> str:
    """One sentence about the plot."""
    if parcel.plot_m2:
        kind = "commercial property" if parcel.property_type == "commercial" else parcel.property_type
        return f"The property is a {kind} on its own plot of {parcel.plot_m2:,} m²."
    return "The property is an apartment with a share of the common plot."


def valuation_words(result: Valuation, parcel: Parcel) -> str:
    """Section 6: how the value was found."""
    if result.method == "income":
        return (
            "The property is let, so the income method (IM-01) is the main method. Market rent, the vacancy "
            "allowance and the "
            f"owner's costs of NOK 320 per square metre give the net income; divided by the yield the value is "
            f"{nok(result.value_nok)}. A yield half a percentage point higher would lower the value by about 8 %."
        )
    widened = f"The search had to be widened: {'; then '.join(result.steps)}. " if result.steps else ""
    if result.method == "cost":
        return (
            f"{widened}Only {result.passed} sales passed the tests of CS-01, fewer than the three that are "
            f"needed. The cost method "
            f"(CM-01) is therefore the main method: building cost new, less depreciation for age, times the "
            f"market factor of "
            f"{parcel.municipality}, plus the plot value. The result is {nok(result.value_nok)}."
        )
    window = "24 months" if result.steps else "12 months"
    count = len(result.comparables)
    more = (
        f"{result.passed} sales"
        if result.passed == count
        else f"{result.passed} sales, of which the {count} most recent are used,"
    )
    rows = "\n".join(comparable_row(item) for item in result.comparables)
    first = result.comparables[0]
    return f"""{widened}{more} passed the tests of CS-01 in a time window of {window}. They were adjusted under CS-02.

| Sale | Address | Sold on | Price | Area | Grade | Distance |
|---|---|---|---|---|---|---|
{rows}

The adjustments in NOK, and the weight of each comparable:

| Sale | Time | Size | Condition | Garage | Adjusted price | Weight |
|---|---|---|---|---|---|---|
{chr(10).join(adjustment_row(item) for item in result.comparables)}

The most recent comparable is sale {first.sale.id}, {first.sale.address}, sold on {first.sale.sold_on} for \
{nok(first.sale.price_nok)}; after adjustment its price is {nok(first.adjusted_nok)}. The weighted mean, rounded, \
gives a market value of {nok(result.value_nok)}."""


def comparable_row(item: Comparable) -> str:
    """One line of the table of comparables."""
    sale = item.sale
    address = sale.address.split(",")[0]
    return (
        f"| {sale.id} | {address} | {sale.sold_on} | {sale.price_nok:,} | {sale.living_area_m2} m² | "
        f"{sale.condition_grade} | {item.distance_km:.2f} km |"
    )


def adjustment_row(item: Comparable) -> str:
    """One line of the table of adjustments."""
    parts = (item.time_nok, item.size_nok, item.condition_nok, item.garage_nok)
    return f"| {item.sale.id} | {' | '.join(map(signed, parts))} | {item.adjusted_nok:,} | {item.weight:.1%} |"
