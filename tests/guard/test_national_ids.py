"""Every checksum agrees with an independent implementation, and weak ones need their words."""

from __future__ import annotations

import importlib
import random
import re
from typing import Any

import pytest

from roadbed.guard import national_checks, validators
from roadbed.guard.detect import Detector, Looking
from roadbed.guard.letter_ids import LETTER_RULES
from roadbed.guard.national_ids import NUMBER_RULES

DETECTOR = Detector()
# rule -> the oracle's module, the shape of random numbers, whether the oracle is stricter than ours is meant to be
ORACLES: dict[str, tuple[str, str]] = {
    "ca_sin": ("ca.sin", "9"), "br_cpf": ("br.cpf", "11"), "br_cnpj": ("br.cnpj", "14"), "ar_cuit": ("ar.cuit", "11"),
    "co_nit": ("co.nit", "10"), "uk_nhs": ("gb.nhs", "10"), "uk_utr": ("gb.utr", "10"), "pt_nif": ("pt.nif", "9"),
    "nl_bsn": ("nl.bsn", "9"), "ch_ahv": ("ch.ssn", "756+10"), "gr_afm": ("gr.vat", "9"), "pl_nip": ("pl.nip", "10"),
    "hr_oib": ("hr.oib", "11"), "ua_rntrc": ("ua.rntrc", "10"), "ru_inn": ("ru.inn", "10"),
    "tr_tckn": ("tr.tckimlik", "11"),
    "in_aadhaar": ("in_.aadhaar", "12"), "jp_my_number": ("jp.in_", "12"), "th_pin": ("th.pin", "13"),
    "au_tfn": ("au.tfn", "9"), "au_abn": ("au.abn", "11"), "nz_ird": ("nz.ird", "9"), "de_steuer_id": ("de.idnr", "11"),
    "il_id": ("il.idnr", "9"), "pl_pesel": ("pl.pesel", "d11"), "ro_cnp": ("ro.cnp", "c13"),
    "bg_egn": ("bg.egn", "d10"),
    "ee_lt_code": ("ee.ik", "c11"), "gr_amka": ("gr.amka", "m11"), "emso_jmbg": ("si.emso", "m13"),
    "is_kennitala": ("is_.kennitala", "m10"), "za_id": ("za.idnr", "d13"),
    "no_fodselsnummer": ("no.fodselsnummer", "m11"),
    "ec_ci": ("ec.ci", "e10"), "at_svnr": ("at.vnr", "t10"),
}  # fmt: skip
STRICTER = {"bg_egn", "ro_cnp", "ee_lt_code", "emso_jmbg", "is_kennitala", "za_id", "gr_amka", "no_fodselsnummer",
            "th_pin", "pl_pesel", "at_svnr", "nz_ird", "il_id", "ch_ahv", "ec_ci", "au_tfn"}  # fmt: skip


def number(shape: str, dice: random.Random) -> str:
    """A random number of a shape; ``d`` begins with YYMMDD, ``m`` with DDMMYY, ``c`` with a century digit before."""
    digits = "".join(dice.choices("0123456789", k=20))
    year, month, day = f"{dice.randint(40, 99):02d}", f"{dice.randint(1, 12):02d}", f"{dice.randint(1, 28):02d}"
    if shape.startswith("756+"):
        return "756" + digits[:10]
    if shape[0] == "d":
        return (year + month + day + digits)[: int(shape[1:])]
    if shape[0] == "m":
        return (day + month + year + digits)[: int(shape[1:])]
    if shape[0] == "c":
        return (dice.choice("12") + year + month + day + digits)[: int(shape[1:])]
    if shape[0] == "t":
        return dice.choice("123456789") + digits[:3] + day + month + year
    if shape[0] == "e":
        return (f"{dice.randint(1, 24):02d}" + dice.choice("012345") + digits)[: int(shape[1:])]
    return digits[: int(shape)]


@pytest.mark.parametrize("name", ORACLES)
def test_checks_agree_with_an_independent_implementation(name: str) -> None:
    module_name, shape = ORACLES[name]
    oracle: Any = importlib.import_module(f"stdnum.{module_name}")
    rule = next(rule for rule in NUMBER_RULES if rule.name == name)
    dice = random.Random(name)
    both = 0
    for _ in range(1_500):
        text = number(shape, dice)
        ours, theirs = rule.check(text), bool(oracle.is_valid(text))
        both += ours and theirs
        if theirs:
            assert ours, f"{text} is valid"
        elif ours and name not in STRICTER:
            raise AssertionError(f"{text} is not valid")
    assert both >= 1


# kind, a text with one valid value in it, the value
EXAMPLES = [
    ("us_itin", "taxpayer 912-90-3456", "912-90-3456"),
    ("cl_rut", "RUT 12.531.909-2", "12.531.909-2"),
    ("ie_pps", "PPSN 6433435F", "6433435F"),
    ("be_national", "85.07.30-033.28", "85.07.30-033.28"),
    ("cz_rodne", "r.c. 710319/2745", "710319/2745"),
    ("hu_tax", "adóazonosító jel: 8071592153", "8071592153"),
    ("dk_cpr", "211062-5629", "211062-5629"),
    ("fi_hetu", "131052-308T", "131052-308T"),
    ("lv_code", "161175-19997", "161175-19997"),
    ("ru_snils", "СНИЛС 112-233-445 95", "112-233-445 95"),
    ("bg_egn", "ЕГН 7523169263", "7523169263"),
    ("gr_afm", "ΑΦΜ 094259216", "094259216"),
    ("cn_ric", "11010519491231002X", "11010519491231002X"),
    ("kr_rrn", "주민등록번호 971013-9019902", "971013-9019902"),
    ("jp_my_number", "マイナンバー 123456789018", "123456789018"),
    ("hk_id", "A123456(3)", "A123456(3)"),
    ("tw_id", "身分證字號 A123456789", "A123456789"),
    ("sg_nric", "NRIC S1234567D", "S1234567D"),
    ("mx_curp", "BOXW310820HNERXN09", "BOXW310820HNERXN09"),
    ("in_pan", "PAN: ACUPA7085R", "ACUPA7085R"),
    ("in_aadhaar", "2341 2341 2346", "2341 2341 2346"),
    ("ae_id", "784-1980-1234567-9", ""),
    ("de_kvnr", "Krankenversichertennummer A123456780", "A123456780"),
    ("us_dea", "DEA number AP5836727", "AP5836727"),
    ("us_npi", "NPI 1234567893", "1234567893"),
    ("imei", "IMEI 490154203237518", "490154203237518"),
    ("vin", "1M8GDM9AXKP042788", "1M8GDM9AXKP042788"),
    ("mac", "00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E"),
    ("mrz", "L898902C36UTO7408122F1204159ZE184226B<<<<<10", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"),
    ("bitcoin", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("bech32", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
    ("birth_date", "Date of birth: 12 March 1984", "12 March 1984"),
    ("birth_date", "geb. am 03.05.1990", "03.05.1990"),
    ("plate", "Kennzeichen: M AB 1234", "M AB 1234"),
    ("passport", "passport number C01X00T47", "C01X00T47"),
    ("driving_licence", "driving licence: MORGA657054SM9IJ", "MORGA657054SM9IJ"),
    ("tr_tckn", "TC Kimlik 10000000146", "10000000146"),
    ("au_medicare", "Medicare 2123 45670 1", "2123 45670 1"),
    ("my_nric", "MyKad 770305-02-1234", "770305-02-1234"),
    ("th_pin", "3-1201-00123-45-6", ""),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "value"), [row for row in EXAMPLES if row[2]])
def test_found_with_its_words(rule: str, text: str, value: str) -> None:
    assert (value, rule) in [(text[f.start : f.end], f.rule) for f in DETECTOR.candidates(text)]


@pytest.mark.parametrize(
    "value", ["7523169263", "094259216", "123456789018", "8071592153", "1234567893", "490154203237518"]
)
def test_a_weak_checksum_alone_says_nothing(value: str) -> None:
    assert [f.rule for f in DETECTOR.find(f"the value {value} of")] == []
    strict = DETECTOR.with_looking(Looking(is_strict=True))
    assert [f.type for f in strict.find(f"the value {value} of")] != []


def test_there_are_many_countries() -> None:
    names = {rule.name for rule in NUMBER_RULES} | {rule.name for rule in LETTER_RULES}
    assert len({name.split("_")[0] for name in names if re.match(r"[a-z]{2}_", name)}) >= 45


def test_other_checks_refuse_what_is_nearly_right() -> None:
    assert not national_checks.is_mx_curp("BOXW310820HNERXN08")
    assert not validators.is_iban("GB29NWBK60161331926818")
    for text in (
        "1M8GDM9A1KP042788",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
    ):
        assert DETECTOR.find(text) == []
