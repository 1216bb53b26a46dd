"""Joins everything: the whole set of files, and its comparison with a folder. Called by `generate.py` and by the
tests.

Files are bytes by relative path. Two files are equal when their bytes are, or, for SQLite, DOCX and XLSX, when
their content is: these hold counters and compressed data that differ between builds of SQLite and zlib.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from random import Random

from . import database, spreadsheets, world
from .casework import TEACHING_APPRAISAL, Appraisal, draw_appraisals
from .reports import report
from .valuation import Market
from .writers import Text, read_text, write

SEED = 20_260_901
TEXTS = Path(__file__).parent / "texts"
OUTPUTS = ("documents", "data")
NAMED_SALE = 88_213
REPORT_ENDINGS = ("pdf", "docx", "html", "md", "pdf", "docx", "pdf", "html", "md", "pdf", "docx", "html")
TOKEN_LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


def planted_values(random: Random) -> dict[str, str]:
    """Synthetic personal data and one false secret, planted for the guard to find."""
    return {
        "owner_name": "Karin Lindqvist",
        "national_id": world.national_id(random),
        "iban": world.iban(random),
        "email": "karin.lindqvist@example.org",
        "phone": "+46 70 174 06 58",
        "api_key": "bao_map_" + "".join(random.choice(TOKEN_LETTERS) for _ in range(36)),
        "contact_email": "tone.lie@example.com",
    }


def build() -> dict[str, bytes]:
    """All files that the generator owns, by path relative to the workspace."""
    random = Random(SEED)
    indexes = world.draw_indexes(random)
    parcels = world.draw_parcels(random)
    sales = world.draw_sales(random, parcels, indexes)
    users = world.draw_users(random)
    planted = planted_values(random)
    case_seed, report_seed = random.random(), random.random()
    market = Market(parcels, sales, indexes)
    appraisals = draw_appraisals(Random(case_seed), market)
    teaching = next(item for item in appraisals if item.id == TEACHING_APPRAISAL)
    if teaching.result is None or not teaching.result.comparables:
        raise ValueError("the teaching appraisal needs comparables: choose another seed")
    sales = world.exchange_ids(sales, teaching.result.comparables[0].sale.id, NAMED_SALE)
    appraisals = draw_appraisals(Random(case_seed), Market(parcels, sales, indexes))
    texts = [read_text(path.read_text(encoding="utf-8"), planted) for path in sorted(TEXTS.glob("*.md"))]
    texts += choose_reports(Random(report_seed), market, appraisals)
    files = {f"documents/{text.path}": write(text) for text in texts}
    files["documents/prices/price-list-2026.xlsx"] = spreadsheets.price_list()
    files["documents/data/municipal-index.csv"] = spreadsheets.index_table(indexes)
    files["data/appraisals.sql"] = database.sql_seed(parcels, sales, appraisals)
    files["data/profiles.sqlite"] = database.profiles(users)
    return files


def choose_reports(random: Random, market: Market, appraisals: list[Appraisal]) -> list[Text]:
    """Reports of a dozen delivered appraisals: the teaching case, and others of all methods and years."""
    teaching = next(item for item in appraisals if item.id == TEACHING_APPRAISAL)
    delivered = [item for item in appraisals if item.result is not None and item is not teaching]
    by_method: dict[str, list[Appraisal]] = {"comparable sales": [], "cost": [], "income": []}
    for item in delivered:
        if item.result is not None:
            by_method[item.result.method].append(item)
    rest = random.sample(by_method["comparable sales"], 8)
    rest += random.sample(by_method["cost"], 2) + random.sample(by_method["income"], 1)
    chosen = [teaching, *sorted(rest, key=lambda item: item.id)]
    return [report(random, market, item, ending) for item, ending in zip(chosen, REPORT_ENDINGS, strict=True)]


def same_content(path: str, one: bytes, other: bytes) -> bool:
    """Whether two versions of a file say the same."""
    if one == other:
        return True
    if path.endswith(".sqlite"):
        return database.dump(one) == database.dump(other)
    if path.endswith((".docx", ".xlsx")):
        return _members(one) == _members(other)
    return False


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def differences(folder: Path, files: dict[str, bytes]) -> list[str]:
    """One line for each file that is missing, different or not ours; empty when the folder is as it should be."""
    present = {
        path.relative_to(folder).as_posix() for top in OUTPUTS for path in (folder / top).rglob("*") if path.is_file()
    }
    lines = [f"missing: {path}" for path in sorted(files.keys() - present)]
    lines += [f"not made by the generator: {path}" for path in sorted(present - files.keys())]
    for path in sorted(files.keys() & present):
        if not same_content(path, files[path], (folder / path).read_bytes()):
            lines.append(f"different: {path}")
    return lines


def save(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the files, leaving alone what already says the same, and removes what the generator no longer makes."""
    for line in differences(folder, files):
        kind, path = line.split(": ", 1)
        target = folder / path
        if kind == "not made by the generator":
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[path])
