"""Draws the fictional world: municipalities, price indexes, parcels, sales and users.

Knows nothing of files or of valuation rules. Every draw comes from the one `random.Random` that the caller passes
in, in a fixed order; a new draw belongs at the end of its function, so that earlier rows keep their values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date, timedelta
from random import Random

PARCEL_COUNT = 600
SALE_COUNT = 1_200
USER_COUNT = 120
FIRST_PARCEL_ID = 1_001
FIRST_SALE_ID = 88_001
FIRST_SALE_DAY = date(2023, 1, 9)
LAST_SALE_DAY = date(2026, 9, 18)
TEACHING_PARCEL_ID = 1_042

MUNICIPALITIES: dict[str, tuple[float, tuple[str, ...], tuple[str, ...]]] = {
    "Bruvang": (
        1.0,
        ("Sentrum", "Elvebakken", "Moen"),
        ("Elvegata", "Kirkeveien", "Bakkegata", "Møllerstien", "Skoleveien", "Tunveien", "Lindeveien"),
    ),
    "Storsund": (
        1.32,
        ("Brygga", "Åsen", "Lillevik"),
        ("Strandgata", "Åsveien", "Bryggegata", "Fjordveien", "Rosenlundgata", "Kaptein Holms vei", "Utsikten"),
    ),
    "Hellvik": (
        1.12,
        ("Havnelia", "Nesbyen", "Sandvika"),
        ("Havneveien", "Nesveien", "Skippergata", "Svabergveien", "Fyrveien", "Naustveien"),
    ),
    "Granmo": (
        0.74,
        ("Kvernhaugen", "Øvre Granmo", "Stasjonen"),
        ("Skogveien", "Kvernveien", "Stasjonsgata", "Granlia", "Seterveien", "Myrveien"),
    ),
    "Kvitnes": (
        0.70,
        ("Ytre", "Indre", "Fergekaia"),
        ("Fergeveien", "Lyngveien", "Ytre Strandvei", "Molobakken", "Kystveien"),
    ),
}
PROPERTY_TYPES = {"apartment": 46, "row house": 18, "detached house": 26, "leisure home": 8, "commercial": 2}
BASE_PRICE_PER_M2 = {
    "apartment": 43_000,
    "row house": 36_500,
    "detached house": 33_000,
    "leisure home": 41_000,
    "commercial": 15_500,
}
FIRST_NAMES = [
    "Anne",
    "Arne",
    "Astrid",
    "Bjørn",
    "Camilla",
    "Dag",
    "Einar",
    "Elin",
    "Erik",
    "Frida",
    "Geir",
    "Grete",
    "Hanne",
    "Harald",
    "Hilde",
    "Ida",
    "Ivar",
    "Johan",
    "Kari",
    "Knut",
    "Lars",
    "Lene",
    "Liv",
    "Magnus",
    "Maria",
    "Nils",
    "Nora",
    "Odd",
    "Ole",
    "Pernille",
    "Ragnhild",
    "Roar",
    "Sara",
    "Sigurd",
    "Silje",
    "Stein",
    "Svein",
    "Thea",
    "Tor",
    "Unni",
    "Vidar",
    "Yngve",
]
LAST_NAMES = [
    "Aune",
    "Bakken",
    "Bråten",
    "Dahl",
    "Egge",
    "Eikeland",
    "Fossum",
    "Furuset",
    "Gjerde",
    "Hagen",
    "Haugland",
    "Helle",
    "Holte",
    "Kleiven",
    "Krogstad",
    "Lien",
    "Lund",
    "Myklebust",
    "Nygård",
    "Opsahl",
    "Rød",
    "Rustad",
    "Sandnes",
    "Skaar",
    "Solheim",
    "Strand",
    "Sæther",
    "Tangen",
    "Tveit",
    "Ulvestad",
    "Vangen",
    "Viken",
    "Øverby",
    "Ås",
]


@dataclass(frozen=True)
class Parcel:
    """One property in the register. Coordinates are kilometres from the municipality's town hall."""

    id: int
    municipality: str
    district: str
    address: str
    cadastral_number: str
    property_type: str
    year_built: int
    living_area_m2: int
    plot_m2: int
    condition_grade: int
    has_garage: bool
    energy_rating: str
    east_km: float
    north_km: float


@dataclass(frozen=True)
class Sale:
    """One registered sale; area and condition are those of the day of the sale."""

    id: int
    parcel_id: int
    address: str
    municipality: str
    property_type: str
    sold_on: date
    registered_on: date
    sale_kind: str
    price_nok: int
    living_area_m2: int
    condition_grade: int
    days_on_market: int


@dataclass(frozen=True)
class User:
    """One profile of the client portal; synthetic: the numbers pass their checksums and belong to nobody."""

    id: int
    full_name: str
    email: str
    phone: str
    role: str
    team: str
    municipality: str
    national_id: str
    created_on: date
    last_login_on: date
    newsletter: bool


def quarter_of(day: date) -> str:
    """The quarter of a day, written as `2026-Q1`."""
    return f"{day.year}-Q{(day.month - 1) // 3 + 1}"


def draw_indexes(random: Random) -> dict[tuple[str, str, str], float]:
    """Price index by municipality, group (`dwellings`, `leisure homes`) and quarter; 2023-Q1 is 100."""
    indexes: dict[tuple[str, str, str], float] = {}
    growth = {"Bruvang": 0.7, "Storsund": 1.1, "Hellvik": 1.0, "Granmo": 0.4, "Kvitnes": 0.3}
    for municipality in MUNICIPALITIES:
        for group in ("dwellings", "leisure homes"):
            level = 100.0
            for year in range(2023, 2027):
                for number in range(1, 5 if year < 2026 else 4):
                    indexes[municipality, group, f"{year}-Q{number}"] = round(level, 1)
                    step = growth[municipality] + random.uniform(-0.7, 0.8)
                    if group == "leisure homes" and municipality == "Hellvik" and year == 2024:
                        step = 2.4
                    level *= 1 + step / 100
    return indexes


def index_group(property_type: str) -> str:
    """The index that applies to a property type (handbook IX-01)."""
    return "leisure homes" if property_type == "leisure home" else "dwellings"


def _area(random: Random, property_type: str) -> tuple[int, int]:
    """Living area and plot area in m²."""
    middle, spread, smallest = {
        "apartment": (68, 18, 28),
        "row house": (104, 16, 70),
        "detached house": (148, 30, 82),
        "leisure home": (78, 19, 34),
        "commercial": (340, 120, 90),
    }[property_type]
    area = max(smallest, round(random.gauss(middle, spread)))
    plot = 0 if property_type == "apartment" else round(area * random.uniform(2.0, 7.5) / 10) * 10
    return area, plot


def draw_parcels(random: Random) -> list[Parcel]:
    """The register: `PARCEL_COUNT` parcels with ids from `FIRST_PARCEL_ID`, one of them the teaching case."""
    parcels: list[Parcel] = []
    taken: set[str] = set()
    names = list(MUNICIPALITIES)
    for number in range(PARCEL_COUNT):
        identifier = FIRST_PARCEL_ID + number
        municipality = random.choices(names, weights=(27, 32, 17, 14, 10))[0]
        _level, districts, streets = MUNICIPALITIES[municipality]
        property_type = random.choices(list(PROPERTY_TYPES), weights=list(PROPERTY_TYPES.values()))[0]
        if identifier == TEACHING_PARCEL_ID:
            municipality, property_type = "Storsund", "row house"
            _level, districts, streets = MUNICIPALITIES[municipality]
        place = random.randrange(len(districts))
        address = ""
        while not address or address in taken:
            address = f"{random.choice(streets)} {random.randint(1, 88)}, {municipality}"
        taken.add(address)
        area, plot = _area(random, property_type)
        year_built = random.randint(1908, 2022)
        grade = random.choices((1, 2, 3, 4), weights=(1, 5, 4, 1))[0] if year_built < 2005 else random.choice((1, 2, 2))
        angle = place * 2 * math.pi / 3
        parcels.append(
            Parcel(
                id=identifier,
                municipality=municipality,
                district=districts[place],
                address=address,
                cadastral_number=f"{random.randint(3, 190)}/{random.randint(1, 940)}",
                property_type=property_type,
                year_built=year_built,
                living_area_m2=area,
                plot_m2=plot,
                condition_grade=grade,
                has_garage=property_type in ("row house", "detached house") and random.random() < 0.55,
                energy_rating=random.choice("ABCCDDEEFG"),
                east_km=round(math.cos(angle) * 0.8 + random.gauss(0, 0.6), 2),
                north_km=round(math.sin(angle) * 0.8 + random.gauss(0, 0.6), 2),
            )
        )
    return parcels


def draw_sales(random: Random, parcels: list[Parcel], indexes: dict[tuple[str, str, str], float]) -> list[Sale]:
    """`SALE_COUNT` sales, each parcel sold once in either half of the time between the first and the last day."""
    sales: list[Sale] = []
    half = (LAST_SALE_DAY - FIRST_SALE_DAY).days // 2
    turns = [(parcel, number % 2) for number in range(SALE_COUNT // PARCEL_COUNT) for parcel in parcels]
    random.shuffle(turns)  # ids are registry numbers: they say nothing about dates
    for number, (parcel, turn) in enumerate(turns):
        sold_on = FIRST_SALE_DAY + timedelta(days=turn * half + random.randint(0, half))
        if sold_on.weekday() >= 5:
            sold_on -= timedelta(days=2)
        kind = random.choices(("open market", "family transfer", "forced sale"), weights=(90, 8, 2))[0]
        index = indexes[parcel.municipality, index_group(parcel.property_type), quarter_of(sold_on)]
        level = MUNICIPALITIES[parcel.municipality][0]
        typical = {"apartment": 68, "row house": 104, "detached house": 148, "leisure home": 78, "commercial": 340}
        size = (parcel.living_area_m2 / typical[parcel.property_type]) ** -0.3
        grade = (1, 1.12, 1.06, 1.0, 0.94)[parcel.condition_grade]
        price = BASE_PRICE_PER_M2[parcel.property_type] * level * parcel.living_area_m2 * size * grade * index / 100
        price = price * random.gauss(1.0, 0.06) + (180_000 if parcel.has_garage else 0)
        price *= {"open market": 1.0, "family transfer": 0.7, "forced sale": 0.82}[kind]
        sales.append(
            Sale(
                id=FIRST_SALE_ID + number,
                parcel_id=parcel.id,
                address=parcel.address,
                municipality=parcel.municipality,
                property_type=parcel.property_type,
                sold_on=sold_on,
                registered_on=sold_on + timedelta(days=random.randint(40, 72)),
                sale_kind=kind,
                price_nok=round(price / 10_000) * 10_000,
                living_area_m2=parcel.living_area_m2,
                condition_grade=parcel.condition_grade,
                days_on_market=round(min(240, random.lognormvariate(3.2, 0.8))),
            )
        )
    return sales


def exchange_ids(sales: list[Sale], first: int, second: int) -> list[Sale]:
    """The sales with two registry numbers exchanged: the handbook names sale 88213 as its example."""
    exchanged = {first: second, second: first}
    moved = [replace(sale, id=exchanged.get(sale.id, sale.id)) for sale in sales]
    return sorted(moved, key=lambda sale: sale.id)


def national_id(random: Random) -> str:
    """A number in the Norwegian form with valid check digits.

    The serial range and year stand for births of 1854 to 1858. Such numbers were first issued in 1964: it is nobody's.
    """
    while True:
        digits = [int(digit) for digit in f"{random.randint(1, 28):02}{random.randint(1, 12):02}"]
        digits += [int(digit) for digit in f"{random.randint(54, 58)}{random.randint(500, 749)}"]
        first = -sum(a * b for a, b in zip(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2), strict=True)) % 11
        second = -sum(a * b for a, b in zip([*digits, first], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True)) % 11
        if first < 10 and second < 10:
            return "".join(map(str, [*digits, first, second]))


def iban(random: Random) -> str:
    """A Norwegian account number with valid check digits, at a bank code that is not in use (0000)."""
    while True:
        account = [0, 0, 0, 0, *(random.randint(0, 9) for _ in range(6))]
        check = -sum(a * b for a, b in zip(account, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True)) % 11
        if check < 10:
            break
    number = "".join(map(str, account)) + str(check)
    prefix = 98 - int(number + "232400") % 97  # N = 23, O = 24 (ISO 13616)
    plain = f"NO{prefix:02}{number}"
    return " ".join(plain[start : start + 4] for start in range(0, len(plain), 4))


def phone(number: int) -> str:
    """A number of the range that Sweden keeps free for films and books: +46 70 174 06 05 to 06 99."""
    return f"+46 70 174 06 {5 + number % 95:02}"


def draw_users(random: Random) -> list[User]:
    """`USER_COUNT` profiles: clients mostly, and a few people of banks and of the office."""
    users: list[User] = []
    ascii_only = str.maketrans({"å": "a", "ø": "o", "æ": "ae"})
    for identifier in range(1, USER_COUNT + 1):
        first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
        role = random.choices(("client", "bank contact", "appraiser", "support"), weights=(86, 8, 4, 2))[0]
        created = date(2024, 1, 2) + timedelta(days=random.randint(0, 960))
        local = f"{first}.{last}".lower().translate(ascii_only)
        users.append(
            User(
                id=identifier,
                full_name=f"{first} {last}",
                email=f"{local}{identifier}@example.{'org' if role == 'client' else 'com'}",
                phone=phone(identifier),
                role=role,
                team={"client": "portal", "bank contact": "banks"}.get(role, "office"),
                municipality=random.choice(list(MUNICIPALITIES)),
                national_id=national_id(random),
                created_on=created,
                last_login_on=min(date(2026, 9, 30), created + timedelta(days=random.randint(0, 500))),
                newsletter=random.random() < 0.3,
            )
        )
    return users
