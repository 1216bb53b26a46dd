"""Values properties by the handbook: CS-01 (choice), CS-02 (adjustments), IX-01 (index), CM-01 (cost).

Pure. The reports and the table of appraisals come from here, so that a reader who repeats a search from the
database finds what the report says. The invariant: a rule here and its sentence in `texts/` change together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta

from .world import MUNICIPALITIES, Parcel, Sale, index_group, quarter_of

DISTANCE_KM = {"apartment": 1.0, "row house": 2.0, "detached house": 3.0, "leisure home": 10.0}
UNIT_COST_NOK = {"apartment": 36_000, "row house": 35_000, "detached house": 38_500, "leisure home": 42_000}
MARKET_FACTOR = {"Storsund": 1.0, "Bruvang": 0.95, "Hellvik": 0.92, "Granmo": 0.8, "Kvitnes": 0.74}
GARAGE_NOK = 180_000
COMPARABLES_MIN, COMPARABLES_MAX = 3, 6
SIZE_SHARE = 0.6
GRADE_SHARE = 0.06
GROSS_MAX = 0.25


@dataclass(frozen=True)
class Comparable:
    """A sale that passed the tests, with its adjustments in NOK and its share of the weight."""

    sale: Sale
    distance_km: float
    time_nok: int
    size_nok: int
    condition_nok: int
    garage_nok: int
    weight: float = 0.0

    @property
    def adjusted_nok(self) -> int:
        """The price after all adjustments."""
        return self.sale.price_nok + self.time_nok + self.size_nok + self.condition_nok + self.garage_nok

    @property
    def gross_share(self) -> float:
        """The sum of all adjustments without signs, as a share of the price."""
        parts = (self.time_nok, self.size_nok, self.condition_nok, self.garage_nok)
        return sum(map(abs, parts)) / self.sale.price_nok


@dataclass(frozen=True)
class Valuation:
    """The result: value and range in NOK, the method, the comparables and the steps by which the search was widened."""

    method: str
    value_nok: int
    range_share: float
    comparables: tuple[Comparable, ...]
    steps: tuple[str, ...]
    passed: int


class Market:
    """Parcels, sales and indexes, with the search for comparables over them."""

    def __init__(self, parcels: list[Parcel], sales: list[Sale], indexes: dict[tuple[str, str, str], float]) -> None:
        self.parcels = {parcel.id: parcel for parcel in parcels}
        self.sales = sales
        self.indexes = indexes

    def index(self, parcel: Parcel, day: date) -> float:
        """The index of the parcel's municipality and group in the quarter of a day."""
        return self.indexes[parcel.municipality, index_group(parcel.property_type), quarter_of(day)]

    def value(self, parcel: Parcel, day: date) -> Valuation:
        """The market value of a parcel on a day, by the main method that the handbook names for it."""
        if parcel.property_type == "commercial":
            return self._income(parcel)
        limit_km = DISTANCE_KM[parcel.property_type]
        searches = (
            (12, 1, 0.2, ""),
            (24, 1, 0.2, "the time window was extended from 12 to 24 months"),
            (24, 2, 0.2, f"the distance limit was doubled from {limit_km:g} to {2 * limit_km:g} km"),
            (24, 2, 0.3, "the size tolerance was widened from 20 % to 30 %"),
        )
        steps: list[str] = []
        found: list[Comparable] = []
        for months, factor, tolerance, step in searches:
            steps += [step] if step else []
            found = self.comparables(parcel, day, months, limit_km * factor, tolerance)
            if len(found) >= COMPARABLES_MIN:
                break
        else:
            return self._cost(parcel, day, tuple(steps), len(found))
        chosen = weigh(found[:COMPARABLES_MAX])
        value = sum(comparable.adjusted_nok * comparable.weight for comparable in chosen)
        share = 0.1 if steps else 0.07
        return Valuation("comparable sales", round_value(value), share, chosen, tuple(steps), len(found))

    def comparables(
        self, parcel: Parcel, day: date, months: int, limit_km: float, tolerance: float
    ) -> list[Comparable]:
        """All sales that pass the tests and the limit of gross adjustment, the most recent first, then the nearest."""
        found: dict[int, Comparable] = {}
        for sale in sorted(self.sales, key=lambda sale: (sale.sold_on, sale.id)):
            age_days = (day - sale.sold_on).days
            other = self.parcels[sale.parcel_id]
            if (
                sale.sale_kind == "open market"
                and other.property_type == parcel.property_type
                and other.municipality == parcel.municipality
                and sale.parcel_id != parcel.id
                and sale.registered_on <= day
                and 0 < age_days <= months * 365 // 12
                and abs(sale.living_area_m2 - parcel.living_area_m2) <= tolerance * parcel.living_area_m2
                and abs(sale.condition_grade - parcel.condition_grade) <= 1
                and distance_km(parcel, other) <= limit_km
            ):
                comparable = self.adjust(parcel, day, sale)
                if comparable.gross_share <= GROSS_MAX:
                    found[other.id] = comparable  # sold twice in the window: the latest sale counts
        return sorted(found.values(), key=lambda item: (-item.sale.sold_on.toordinal(), item.distance_km, item.sale.id))

    def adjust(self, parcel: Parcel, day: date, sale: Sale) -> Comparable:
        """The sale with its adjustments towards the parcel: time, size, condition, garage, one after the other."""
        other = self.parcels[sale.parcel_id]
        time_nok = 0
        if sale.sold_on < day - timedelta(days=91):
            time_nok = round(sale.price_nok * (self.index(parcel, day) / self.index(other, sale.sold_on) - 1))
        price = sale.price_nok + time_nok
        size_nok = round(SIZE_SHARE * price / sale.living_area_m2 * (parcel.living_area_m2 - sale.living_area_m2))
        price += size_nok
        condition_nok = round(GRADE_SHARE * price * (sale.condition_grade - parcel.condition_grade))
        garage_nok = GARAGE_NOK * (int(parcel.has_garage) - int(other.has_garage))
        return Comparable(sale, distance_km(parcel, other), time_nok, size_nok, condition_nok, garage_nok)

    def _cost(self, parcel: Parcel, day: date, steps: tuple[str, ...], passed: int) -> Valuation:
        age = max(0, day.year - parcel.year_built)
        depreciation = min(0.7, 0.01 * min(age, 30) + 0.008 * max(0, age - 30))
        unit = UNIT_COST_NOK[parcel.property_type] * (1.12 if parcel.municipality == "Kvitnes" else 1)
        building = unit * parcel.living_area_m2 * (1 - depreciation) * MARKET_FACTOR[parcel.municipality]
        plot = 700_000 * MUNICIPALITIES[parcel.municipality][0] + parcel.plot_m2 * 220
        return Valuation("cost", round_value(building + plot), 0.12, (), steps, passed)

    def _income(self, parcel: Parcel) -> Valuation:
        town = parcel.municipality == "Storsund"
        rent = parcel.living_area_m2 * 1_450 * MUNICIPALITIES[parcel.municipality][0]
        net = rent * (0.95 if town else 0.92) - parcel.living_area_m2 * 320
        return Valuation("income", round_value(net / (0.0575 if town else 0.065)), 0.1, (), (), 0)


def weigh(found: list[Comparable]) -> tuple[Comparable, ...]:
    """The comparables with weights inversely proportional to one plus the gross adjustment in units of 5 %."""
    raw = [1 / (1 + item.gross_share / 0.05) for item in found]
    return tuple(
        Comparable(
            item.sale, item.distance_km, item.time_nok, item.size_nok, item.condition_nok, item.garage_nok, w / sum(raw)
        )
        for item, w in zip(found, raw, strict=True)
    )


def distance_km(one: Parcel, other: Parcel) -> float:
    """Straight-line distance of two parcels of one municipality, in kilometres with two decimals."""
    return round(math.hypot(one.east_km - other.east_km, one.north_km - other.north_km), 2)


def round_value(value: float) -> int:
    """The value rounded as MV-01 says: to NOK 25,000 below two million, else to NOK 50,000."""
    step = 25_000 if value < 2_000_000 else 50_000
    return round(value / step) * step
