"""Texts and rights of MySQL sources, without a server: places, executed comments, addresses, ``SHOW GRANTS``."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.kernel.errors import ConfigError
from roadbed.sources.errors import QueryRefused
from roadbed.sources.mysql_rights import mysql_warning, rights_of
from roadbed.sources.mysql_text import parse_address, placed, quoted_name


@pytest.mark.parametrize(
    ("sql", "places"),
    [
        ("SELECT ?", 1),
        ("SELECT '?', \"?\", `?`, ? /* ? */ -- ?\n # ?\n, ?", 2),
        ("SELECT 'it\\'s ?', 'it''s ?', \"a\\\"?\", ?", 1),
        ("SELECT 1--?", 1),  # no comment without a space
        ("SELECT 'a\\\\', ?", 1),
    ],
)
def test_places_are_those_that_the_server_sees(sql: str, places: int) -> None:
    done = placed(sql, ["«»"] * places)
    assert done.count("«»") == places
    with pytest.raises(QueryRefused, match="places"):
        placed(sql, ["x"] * (places + 1))


@pytest.mark.parametrize(
    "sql",
    ["SELECT /*!50000 1 */", "SELECT /*M!100000 1 */", "SELECT /*! 1*/", "SELECT 'a", "SELECT `a", 'SELECT "a',
     "SELECT /* a", "SELECT 'a\\'", "SELECT 'a''", "SELECT \x00"],
)  # fmt: skip
def test_what_cannot_be_read_surely_is_refused(sql: str) -> None:
    with pytest.raises(QueryRefused):
        placed(sql, [])


def test_an_executed_comment_within_a_string_is_text() -> None:
    assert placed("SELECT '/*! x */'", []) == "SELECT '/*! x */'"


@given(text=st.text(max_size=60))
def test_a_statement_without_places_is_unchanged_or_refused(text: str) -> None:
    with suppress(QueryRefused):
        assert placed(text, []) == text


@given(text=st.text(max_size=30))
def test_a_quoted_text_holds_no_place(text: str) -> None:
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\x00", "") + "'"
    assert placed(f"SELECT {quoted}, ?", ["7"]) == f"SELECT {quoted}, 7"


def test_names_are_quoted() -> None:
    assert quoted_name("a.b`c") == "`a`.`b``c`"


@pytest.mark.parametrize(
    ("dsn", "is_tls"),
    [
        ("mysql://u:p%40@db.example/shop", True),
        ("mariadb://u:p@127.0.0.1:3307/shop", False),
        ("mysql://u@localhost/shop?socket=/run/s.sock", False),
        ("mysql://u:p@db/shop?tls=off", False),
        ("mysql://u:p@localhost/shop?tls=on&ca=/etc/ca.pem", True),
    ],
)
def test_tls_is_on_but_for_this_machine(dsn: str, is_tls: bool) -> None:
    address = parse_address(dsn, "x")
    assert (address.is_tls, address.database, address.user) == (is_tls, "shop", "u")
    assert "p%40" not in repr(address)


@pytest.mark.parametrize(
    "dsn", ["", "postgresql://u:p@h/d", "mysql://h/d", "mysql://u:secret@h", "mysql://u:secret@h/d?tls=maybe",
            "mysql://u:secret@h/d?local_infile=1", "mysql://u:secret@h:x/d"],
)  # fmt: skip
def test_an_address_that_is_none_is_told_without_its_password(dsn: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_address(dsn, "sources.shop.dsn")
    assert "secret" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    ("grants", "excess"),
    [
        (["GRANT USAGE ON *.* TO `r`@`%` IDENTIFIED BY PASSWORD '*D8'", "GRANT SELECT ON `shop`.* TO `r`@`%`"], ()),
        (["GRANT SELECT (`a`, `b`), SHOW VIEW ON `shop`.`t` TO `r`@`%`"], ()),
        (["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], ("ALL PRIVILEGES", "GRANT OPTION")),
        (["GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION"], ("PROXY", "GRANT OPTION")),
        (["GRANT SELECT, INSERT (`a`), FILE ON *.* TO `w`@`%`"], ("INSERT", "FILE")),
        (["GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `w`@`%`"], ("EXECUTE",)),
        (["GRANT `writers`@`%` TO `w`@`%`"], ("rights of a role",)),
        (["GRANT SELECT ON `shop`.* TO `r`@`%`", "REVOKE SELECT ON `shop`.`x` FROM `r`@`%`"], ()),
        (["something new"], ("rights that are not known here",)),
    ],
)
def test_grants_beyond_reading_are_found(grants: list[str], excess: tuple[str, ...]) -> None:
    rights = rights_of("r@%", "shop", grants)
    assert rights.excess == excess
    warning = mysql_warning(rights, ["t", "other.u"])
    assert (warning is None) == (not excess)
    if warning is not None:
        assert "GRANT SELECT ON `shop`.`t` TO 'roadbed_reader'@'%';" in warning.fix
        assert "GRANT SELECT ON `other`.`u` TO 'roadbed_reader'@'%';" in warning.fix
