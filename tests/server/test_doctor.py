"""What `roadbed doctor` says of the Python that runs."""

from __future__ import annotations

import pytest

from roadbed.server.doctor import is_optimized, python_check


@pytest.mark.parametrize(
    ("arguments", "flag", "verdict"),
    [
        ("'--prefix=/usr/local' '--enable-optimizations'", "-fprofile-use -fprofile-correction", True),
        ("'--prefix=/home/me/.pyenv/versions/3.11.7'", "-fprofile-use -fprofile-correction", False),
        ("'--prefix=/usr' '--with-system-expat'", "", True),  # Debian's own
        (None, None, None),
    ],
)
def test_a_python_without_optimizations_is_known(arguments: str | None, flag: str | None, verdict: bool | None) -> None:
    assert is_optimized(arguments, flag) is verdict


def test_what_is_not_well_with_python_comes_with_what_to_do() -> None:
    assert [python_check((3, 12, 1), known).verdict for known in (True, None)] == ["ok", "ok"]
    slow = python_check((3, 11, 7), False)
    assert (slow.verdict, slow.message) == ("note", "Python 3.11.7 was built without optimizations: 1.8 times slower")
    assert "--enable-optimizations" in slow.fix
    assert python_check((3, 10, 9), False).verdict == "wrong"
