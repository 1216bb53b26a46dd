"""The numbers by which states, tax offices and health services know people: digits alone, with their telling words.

A checksum that lets more than one in a hundred random numbers pass is not enough by itself: such a number needs a word
of its country before it, or a formatted shape. Kinds with letters are in `guard.letter_ids`. Adding a kind is adding a
row, with a check in `guard.national_checks`.
"""

from __future__ import annotations

from typing import Final

from roadbed.guard import national_checks as checks
from roadbed.guard import validators
from roadbed.guard.finding import CARD, DEVICE, NATIONAL_ID
from roadbed.guard.number_rules import NumberRule, NumberRules

_CARD_SHAPES = ("9999 9999 9999 9999", "9999 999999 99999", "9999 999999 9999", "9999 9999 9999 9999 999",
                "9999 9999 9999 9", "999999 9999999999999", "9999 9999 99999", "9999 9999 99999999")  # fmt: skip
_CARD_FORMATS = " ".join(shape.replace(" ", sign) for shape in _CARD_SHAPES for sign in "_-./")

_CARD = NumberRule(
    "card", CARD, validators.is_card, tuple(range(12, 20)), _CARD_FORMATS, "",
    "card, cards, creditcard, maestro, visa, mastercard, amex, karte, kreditkarte, carte, kort, kortnummer, tarjeta, "
    "carta, cartao, cc, pan, カード, 卡号, 카드, карта", True, 0.95,
)  # fmt: skip

# name, check, lengths, formats that speak, other shapes, words, whether the bare number is enough
_ROWS: tuple[tuple[str, object, tuple[int, ...], str, str, str, bool], ...] = (
    ("us_ssn", validators.is_us_ssn, (9,), "999-99-9999", "",
     "ssn, ssns, social security, soc sec, social, tax id, taxpayer, tin, seguro social", False),
    ("us_itin", checks.is_us_itin, (9,), "999-99-9999", "", "itin, tax id, taxpayer, tin", False),
    ("us_ein", checks.is_us_ein, (9,), "", "99-9999999", "ein, fein, employer identification, tax id", False),
    ("us_npi", checks.is_us_npi, (10,), "", "", "npi, provider identifier, national provider", False),
    ("ca_sin", checks.is_ca_sin, (9,), "999-999-999", "999_999_999",
     "sin, social insurance, assurance sociale, nas", False),
    ("br_cpf", checks.is_br_cpf, (11,), "999.999.999-99", "999_999_999_99", "cpf, cadastro, contribuinte", False),
    ("br_cnpj", checks.is_br_cnpj, (14,), "99.999.999/9999-99", "", "cnpj, cadastro, empresa", False),
    ("ar_cuit", checks.is_ar_cuit, (11,), "99-99999999-9", "", "cuit, cuil, cuit cuil, afip", False),
    ("cl_rut", checks.is_cl_rut, (8, 9), "99.999.999-9 9.999.999-9 99999999-9", "", "rut, run, rol unico", False),
    ("co_nit", checks.is_co_nit, (9, 10), "999.999.999-9", "999999999-9", "nit, tributaria, dian", False),
    ("ec_ci", checks.is_ec_ci, (10,), "", "999999999-9", "cedula, ci, identidad, ecuador", False),
    ("uk_nhs", validators.is_uk_nhs, (10,), "", "999_999_9999",
     "nhs, national health, patient, health service", False),
    ("uk_utr", checks.is_uk_utr, (10,), "", "99999_99999", "utr, taxpayer reference, unique taxpayer, hmrc", False),
    ("de_steuer_id", validators.is_de_steuer_id, (11,), "99_999_999_999 99/999/999/999", "99.999.999.999",
     "steuer, steuer-id, steuerid, idnr, steuernummer, tax, tin, identifikationsnummer, "
     "steueridentifikationsnummer", True),
    ("fr_nir", validators.is_fr_nir, (15,),
     "9_99_99_99_999_999_99 9.99.99.99.999.999.99 9999999999999_99 9999999999999.99", "",
     "nir, insee, sécu, sécurité sociale", True),
    ("pt_nif", checks.is_pt_nif, (9,), "", "999_999_999 999.999.999",
     "nif, contribuinte, fiscal, identificacao fiscal", False),
    ("nl_bsn", validators.is_nl_bsn, (9,), "", "9999.99.999 999.999.999 999_99_9999 9999_999_99 9999_99_999",
     "bsn, burgerservicenummer, sofi, sofinummer, citizen service, burgerservice", False),
    ("be_national", checks.is_be_national, (11,), "99.99.99-999.99", "999999-999-99 999999_999_99",
     "rijksregister, rijksregisternummer, insz, niss, registre national, national number, nationaal nummer, "
     "numero national", False),
    ("at_svnr", checks.is_at_svnr, (10,), "", "9999_999999 9999_99_99_99",
     "svnr, sozialversicherung, sozialversicherungsnummer, versicherungsnummer, sv, vsnr", False),
    ("ch_ahv", checks.is_ch_ahv, (13,), "999.9999.9999.99", "999_9999_9999_99",
     "ahv, avs, ahvn, navs, sozialversicherungsnummer", True),
    ("gr_amka", checks.is_gr_amka, (11,), "", "999999_99999", "αμκα, amka", True),
    ("gr_afm", checks.is_gr_afm, (9,), "", "", "αφμ, afm, tin, vat", False),
    ("pl_pesel", checks.is_pl_pesel, (11,), "", "999999_99999", "pesel, ewidencyjny", False),
    ("pl_nip", checks.is_pl_nip, (10,), "", "999-999-99-99 999-99-99-999", "nip, podatkowy, vat", False),
    ("cz_rodne", checks.is_cz_rodne, (9, 10), "999999/9999", "999999/999",
     "rodné číslo, rodne cislo, rc, rodné, narodenia", False),
    ("hu_tax", checks.is_hu_tax, (10,), "", "", "adoazonosito, adóazonosító, adószám, ado, adóazonosító jel", False),
    ("hu_taj", checks.is_hu_taj, (9,), "", "999_999_999 999-999-999", "taj, tajszam, tajszám, taj szám", False),
    ("hr_oib", checks.is_hr_oib, (11,), "", "", "oib, osobni identifikacijski, identifikacijski", False),
    ("emso_jmbg", checks.is_emso, (13,), "", "", "emšo, emso, jmbg, јмбг, matični broj, maticni, matični, embg, ембг",
     False),
    ("ro_cnp", checks.is_ro_cnp, (13,), "", "", "cnp, cod numeric, numeric personal, codul numeric", False),
    ("bg_egn", checks.is_bg_egn, (10,), "", "", "егн, egn, единен граждански, граждански номер", False),
    ("ee_lt_code", checks.is_baltic, (11,), "", "",
     "isikukood, asmens kodas, asmens, personal code, isikukoodi, ik", False),
    ("lv_code", checks.is_lv_code, (11,), "999999-99999", "", "personas kods, personas, personal code", False),
    ("se_personnummer", validators.is_se_personnummer, (10, 12), "999999-9999 99999999-9999", "",
     "personnummer, personnr, pnr, samordningsnummer, personnumret", False),
    ("no_fodselsnummer", validators.is_no_fodselsnummer, (11,), "999999_99999 999999-99999", "",
     "fødselsnummer, foedselsnummer, fnr, personnummer, fødselsnr, d nummer, personnr", True),
    ("dk_cpr", checks.is_dk_cpr, (10,), "999999-9999", "999999_9999", "cpr, personnummer, cprnr", False),
    ("is_kennitala", checks.is_is_kennitala, (10,), "999999-9999", "", "kennitala, kt", False),
    ("ua_rntrc", checks.is_ua_rntrc, (10,), "", "", "рнокпп, іпн, ідентифікаційний, rntrc, податків", False),
    ("ru_inn", checks.is_ru_inn, (10, 12), "", "", "инн, inn, налогоплательщика", False),
    ("ru_snils", checks.is_ru_snils, (11,), "999-999-999_99 999-999-999-99", "", "снилс, snils", False),
    ("kz_iin", checks.is_kz_iin, (12,), "", "", "иин, жсн, iin, бин", False),
    ("tr_tckn", checks.is_tr_tckn, (11,), "", "",
     "tckn, tc kimlik, kimlik, kimlik no, tc, t.c., vatandaşlık, kimlik numarası", False),
    ("il_id", checks.is_luhn_id, (9,), "", "99999999-9", "תעודת זהות, ת.ז, teudat zehut, teudat, israeli id", False),
    ("za_id", checks.is_za_id, (13,), "", "999999_9999_999 999999_9999_99_9",
     "id number, identity number, sa id, south african, identiteitsnommer, idno", False),
    ("ae_id", checks.is_ae_id, (15,), "999-9999-9999999-9", "", "emirates id, emirates, الهوية", True),
    ("sa_id", checks.is_sa_id, (10,), "", "", "iqama, national id, saudi, رقم الهوية, الهوية", False),
    ("eg_id", checks.is_eg_id, (14,), "", "", "الرقم القومي, national id, raqm qawmi", False),
    ("in_aadhaar", checks.is_in_aadhaar, (12,), "9999_9999_9999 9999-9999-9999", "",
     "aadhaar, aadhar, adhaar, uidai, uid, आधार", False),
    ("pk_cnic", checks.is_pk_cnic, (13,), "99999-9999999-9", "", "cnic, nic, nadra, شناختی", False),
    ("cn_ric", checks.is_cn_ric, (18,), "", "999999_99999999_9999",
     "身份证, 身份證, 公民身份号码, resident id, identity card",
     True),
    ("kr_rrn", checks.is_kr_rrn, (13,), "999999-9999999", "",
     "주민등록번호, 주민번호, resident registration, rrn", False),
    ("jp_my_number", checks.is_jp_my_number, (12,), "", "9999_9999_9999 9999-9999-9999",
     "マイナンバー, 個人番号, my number, kojin bango, mynumber", False),
    ("th_pin", checks.is_th_pin, (13,), "9-9999-99999-99-9", "9_9999_99999_99_9",
     "บัตรประชาชน, เลขประจำตัว, thai id, citizen id, บัตรประจำตัว", False),
    ("my_nric", checks.is_my_nric, (12,), "999999-99-9999", "", "mykad, nric, kad pengenalan, ic, no kp", False),
    ("id_nik", checks.is_id_nik, (16,), "", "", "nik, ktp, induk kependudukan, kependudukan", False),
    ("au_tfn", checks.is_au_tfn, (9,), "", "999_999_999 999-999-999", "tfn, tax file, tax file number", False),
    ("au_medicare", checks.is_au_medicare, (10,), "", "9999_99999_9 9999-99999-9", "medicare", False),
    ("au_abn", checks.is_au_abn, (11,), "99_999_999_999", "", "abn, business number, australian business", False),
    ("nz_ird", checks.is_nz_ird, (8, 9), "", "99-999-999 999-999-999 999_999_999", "ird, inland revenue", False),
)  # fmt: skip

NUMBER_RULES: Final = (
    _CARD,
    NumberRule(
        "imei", DEVICE, checks.is_luhn_id, (15,), "99-999999-999999-9", "99_999999_999999_9",
        "imei, imeis, meid", False,
        0.9,
    ),
    *(
        NumberRule(name, NATIONAL_ID, check, lengths, formats, shapes, words, is_bare_enough, 0.85)  # type: ignore[arg-type]
        for name, check, lengths, formats, shapes, words, is_bare_enough in _ROWS
    ),
)  # fmt: skip
RULES: Final = NumberRules(NUMBER_RULES)
