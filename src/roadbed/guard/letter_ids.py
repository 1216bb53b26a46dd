"""Identifiers of letters and digits: their shapes for the engines, their checks and their telling words.

Each shape is a trigger of its own (`guard.patterns`), read again exactly where it ended. A kind without words is strong
enough by shape and checksum; one with words needs one of them before it, unless it says that capitals are enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from roadbed.guard import national_checks as checks
from roadbed.guard import validators
from roadbed.guard.context import Lexicon
from roadbed.guard.digit_runs import is_glued
from roadbed.guard.finding import CRYPTO, DEVICE, NATIONAL_ID, VEHICLE, Finding
from roadbed.guard.other_checks import is_bech32, is_bitcoin, is_ethereum, is_mac, is_vin

FIRST_ID: Final = 100  # of the triggers
_D3 = r"[0-9]{3}"


class LetterRule(NamedTuple):
    """One kind; ``shape`` is written for both engines, without separators it is at most ``length_max`` long."""

    name: str
    type: str
    shape: str
    length_max: int
    check: Callable[[str], bool]
    words: str = ""  # separated by commas; none when the shape is enough
    is_enough_in_capitals: bool = False
    is_case_kept: bool = False
    kept: str = ""  # separators that belong to the value


def _always(text: str) -> bool:
    return True


LETTER_RULES: Final = (
    LetterRule("uk_nino", NATIONAL_ID, r"[A-Z]{2}[ -]?(?:[0-9]{2}[ -]?){3}[A-D]", 14, validators.is_uk_nino),
    LetterRule(
        "it_codice_fiscale", NATIONAL_ID,
        r"[A-Z]{6}[ -]?[0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{2}[ -]?[A-Z][0-9L-NP-V]{3}[A-Z]", 18,
        validators.is_it_codice_fiscale,
    ),
    LetterRule(
        "es_dni", NATIONAL_ID, rf"[0-9]{{2}}\.?{_D3}\.?{_D3}[ -]?[A-Z]", 12, validators.is_es_dni,
        "dni, nif, documento, identidad", True,
    ),
    LetterRule(
        "es_nie", NATIONAL_ID, rf"[XYZ][ -]?[0-9]\.?{_D3}\.?{_D3}[ -]?[A-Z]", 13, validators.is_es_nie,
        "nie, extranjero, extranjeros", True,
    ),
    LetterRule("es_cif", NATIONAL_ID, r"[A-HJNPQRSUVW][ -]?[0-9]{7}[0-9A-J]", 10, checks.is_es_cif,
               "cif, nif, empresa"),
    LetterRule(
        "fr_nir", NATIONAL_ID, r"[1-478] ?[0-9]{2} ?[0-9]{2} ?2[AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", 21,
        validators.is_fr_nir,
    ),
    LetterRule("mx_curp", NATIONAL_ID, r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]", 18, checks.is_mx_curp),
    LetterRule("in_pan", NATIONAL_ID, r"[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]", 10, checks.is_in_pan,
               "pan, income tax", True),
    LetterRule(
        "fi_hetu", NATIONAL_ID, r"[0-9]{6}[+YXWVUABCDEF-][0-9]{3}[0-9A-FHJ-NPR-Y]", 11, checks.is_fi_hetu,
        "hetu, henkilotunnus, henkilötunnus, personbeteckning", True, kept="-+",
    ),
    LetterRule("ie_pps", NATIONAL_ID, r"[0-9]{7}[ -]?[A-W][A-IW]?", 10, checks.is_ie_pps,
               "pps, ppsn, personal public, public service"),
    LetterRule("hk_id", NATIONAL_ID, r"[A-Z]{1,2}[0-9]{6}\([0-9A]\)", 11, checks.is_hk_id),
    LetterRule("hk_id", NATIONAL_ID, r"[A-Z]{1,2}[0-9]{6}[0-9A]", 9, checks.is_hk_id, "hkid, 身份證, hong kong"),
    LetterRule("tw_id", NATIONAL_ID, r"[A-Z][1289][0-9]{8}", 10, checks.is_tw_id,
               "身分證, 身分證字號, national id, 統一編號, taiwan"),
    LetterRule("sg_nric", NATIONAL_ID, r"[STFGM][0-9]{7}[A-Z]", 9, checks.is_sg_nric,
               "nric, fin, singapore, identity card, ic"),
    LetterRule("cl_rut", NATIONAL_ID, rf"[0-9]{{1,2}}\.{_D3}\.{_D3}-K", 12, checks.is_cl_rut),
    LetterRule("cl_rut", NATIONAL_ID, r"[0-9]{7,8}-?K", 10, checks.is_cl_rut, "rut, run, rol unico"),
    LetterRule("cn_ric", NATIONAL_ID, r"[0-9]{17}X", 18, checks.is_cn_ric),
    LetterRule("br_cnpj", NATIONAL_ID, r"[0-9A-Z]{2}\.[0-9A-Z]{3}\.[0-9A-Z]{3}/[0-9A-Z]{4}-[0-9]{2}", 18,
               checks.is_br_cnpj),
    LetterRule("us_mbi", NATIONAL_ID,
               r"[1-9][AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y][0-9]-?[AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y][0-9]-?"
               r"[AC-HJKMNP-RT-Y]{2}[0-9]{2}", 13, _always, "mbi, medicare, beneficiary"),
    LetterRule("us_dea", NATIONAL_ID, r"[ABCDEFGHJKLMPRSTUX][A-Z9][0-9]{7}", 9, checks.is_us_dea,
               "dea, registration, prescriber"),
    LetterRule("de_kvnr", NATIONAL_ID, r"[A-Z][0-9]{9}", 10, checks.is_de_kvnr,
               "krankenversichertennummer, versichertennummer, kvnr, krankenkasse, versicherten, versicherungsnummer"),
    LetterRule("de_svnr", NATIONAL_ID, r"[0-9]{2} ?[0-9]{6} ?[A-Z] ?[0-9]{3}", 15, checks.is_de_svnr,
               "sozialversicherungsnummer, rentenversicherungsnummer, sv, svnr, rvnr, versicherungsnummer"),
    LetterRule("de_document", NATIONAL_ID, r"[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}[0-9]", 10,
               checks.is_document_731,
               "personalausweis, personalausweisnummer, ausweisnummer, reisepass, ausweis, passnummer, "
               "reisepassnummer"),
    LetterRule("vat_id", NATIONAL_ID, r"ATU[0-9]{8}", 11, checks.is_vat_id),
    LetterRule("vat_id", NATIONAL_ID, r"DE[0-9]{9}", 11, checks.is_vat_id, "vat, ust, ustid, idnr, umsatzsteuer, "
               "steuernummer, tax id"),
    LetterRule("vin", VEHICLE, r"[A-HJ-NPR-Z0-9]{17}", 17, is_vin, "", True),
    LetterRule("mac", DEVICE, r"[0-9A-F]{2}(?::[0-9A-F]{2}){5}", 17, is_mac),
    LetterRule("mac", DEVICE, r"[0-9A-F]{2}(?:-[0-9A-F]{2}){5}", 17, is_mac),
    LetterRule("mac", DEVICE, r"[0-9A-F]{4}\.[0-9A-F]{4}\.[0-9A-F]{4}", 14, is_mac),
    LetterRule("bitcoin", CRYPTO, r"[13][1-9A-HJ-NP-Za-km-z]{25,34}", 35, is_bitcoin, is_case_kept=True),
    LetterRule("bech32", CRYPTO, r"(?:bc|tb|ltc)1[02-9ac-hj-np-z]{11,71}", 74, is_bech32, is_case_kept=True),
    LetterRule("ethereum", CRYPTO, r"0x[0-9a-fA-F]{40}", 42, is_ethereum, is_case_kept=True),
    LetterRule("tron", CRYPTO, r"T[1-9A-HJ-NP-Za-km-z]{33}", 34, is_bitcoin, is_case_kept=True),
)  # fmt: skip
LENGTH_MAX: Final = max(rule.length_max for rule in LETTER_RULES)

LEXICON: Final = Lexicon()
for _rule in LETTER_RULES:
    LEXICON.add(_rule.name, _rule.words)
SHAPES: Final = tuple(
    re.compile(rf"(?<![A-Za-z0-9_])(?:{rule.shape})\Z", 0 if rule.is_case_kept else re.IGNORECASE)
    for rule in LETTER_RULES
)
_SEPARATORS: Final = " .-/()"


def letter_ids_in(index: int, view: str, end: int) -> Iterator[Finding]:
    """An identifier by the rule ``index`` that ends at ``end``."""
    if end < len(view) and (view[end].isalnum() or view[end] == "_"):
        return
    rule = LETTER_RULES[index]
    match = SHAPES[index].search(view, max(0, end - rule.length_max), end)
    if match is None or is_glued(view, match.start(), end):
        return
    written = match[0] if rule.is_case_kept else match[0].upper()
    if rule.words or rule.is_enough_in_capitals:
        is_clear = (rule.is_enough_in_capitals and match[0] == written) or rule.name in LEXICON.kinds_before(
            view, match.start()
        )
        if not is_clear:
            return
    bare = "".join([c for c in written if c not in _SEPARATORS or c in rule.kept])
    if rule.check(bare):
        yield Finding(rule.type, match.start(), end, rule.name, 0.9, False)
