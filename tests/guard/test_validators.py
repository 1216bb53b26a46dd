"""Checksums: valid examples pass, and every single wrong digit that the scheme can notice fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from roadbed.guard import validators as v

Check = Callable[[str], bool]

VALID: list[tuple[Check, list[str]]] = [
    (v.is_card, ["4111111111111111", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117",
                 "3530111333300000", "30569309025904", "4222222222222", "4012888888881881"]),
    (v.is_iban, ["GB29NWBK60161331926819", "DE89370400440532013000", "NO9386011117947", "FR1420041010050500013M02606",
                 "MT84MALT011000012345MTLCAST001S", "ES9121000418450200051332", "NL91ABNA0417164300"]),
    (v.is_us_ssn, ["536904399", "001010001", "899999999"]),
    (v.is_uk_nino, ["AB123456C", "JG103759A"]),
    (v.is_uk_nhs, ["9434765919", "4010232137"]),
    (v.is_de_steuer_id, ["86095742719", "65929970489"]),
    (v.is_fr_nir, ["255081416802538", "269054958815780", "185012A00100110"]),
    (v.is_es_dni, ["12345678Z", "54362315K"]),
    (v.is_es_nie, ["X1234567L", "X2482300W"]),
    (v.is_it_codice_fiscale, ["RSSMRA85T10A562S", "RCCMNL83S18D969H"]),
    (v.is_no_fodselsnummer, ["15108695088", "01010750160"]),
    (v.is_se_personnummer, ["8803200016", "198803200016", "6403273813"]),
    (v.is_nl_bsn, ["111222333", "123456782"]),
]  # fmt: skip

INVALID: list[tuple[Check, list[str]]] = [
    (v.is_card, ["4111111111111112", "0000000000000000", "9999999999999995", "41111111111111", "123456789012"]),
    (v.is_iban, ["GB29NWBK60161331926818", "GB29NWBK601613319268", "XX29NWBK60161331926819", "GBXXNWBK60161331926819"]),
    (v.is_us_ssn, ["000123456", "666123456", "900123456", "123004567", "123450000", "078051120", "111111111"]),
    (v.is_uk_nino, ["BG123456A", "DA123456A", "AO123456A", "AB123456E"]),
    (v.is_uk_nhs, ["9434765918", "0000000000", "9876543212"]),
    (v.is_de_steuer_id, ["86095742718", "06095742719", "12345678901", "11111111111"]),
    (v.is_fr_nir, ["255081416802539", "555081416802538", "255131416802538"]),
    (v.is_es_dni, ["12345678A", "1234567AZ"]),
    (v.is_es_nie, ["A1234567L", "X1234567T"]),
    (v.is_it_codice_fiscale, ["RSSMRA85T10A562T", "RSSMRA85Z10A562S", "RSSMRA85T35A562S"]),
    (v.is_no_fodselsnummer, ["15108695089", "41139695088", "15138695088"]),
    (v.is_se_personnummer, ["8803200017", "8813200016", "178803200016", "8802300016"]),
    (v.is_nl_bsn, ["111222334", "000000000"]),
]


def cases(table: list[tuple[Check, list[str]]]) -> list[tuple[Check, str]]:
    return [(check, value) for check, values in table for value in values]


@pytest.mark.parametrize(("check", "value"), cases(VALID))
def test_valid(check: Check, value: str) -> None:
    assert check(value)


@pytest.mark.parametrize(("check", "value"), cases(INVALID))
def test_invalid(check: Check, value: str) -> None:
    assert not check(value)


NOTICES_EVERY_DIGIT = (v.is_card, v.is_uk_nhs, v.is_nl_bsn, v.is_no_fodselsnummer, v.is_fr_nir, v.is_es_dni)


@pytest.mark.parametrize(("check", "value"), [case for case in cases(VALID) if case[0] in NOTICES_EVERY_DIGIT])
def test_one_wrong_digit_is_noticed(check: Check, value: str) -> None:
    for index, character in enumerate(value):
        if character.isdigit():
            for digit in "0123456789".replace(character, ""):
                assert not check(value[:index] + digit + value[index + 1 :]), index
