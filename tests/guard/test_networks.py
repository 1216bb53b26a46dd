"""Where a key may be used from: ranges as people write them, addresses as peers and proxies give them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.keys import KeyRequestInvalid
from roadbed.guard.networks import NETWORKS_MAX, caller_address, check_networks, is_within

TEN = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def test_ranges_are_kept_in_one_form() -> None:
    assert check_networks([" 10.1.2.3/8", "10.0.0.0/8", "192.0.2.1", "2001:DB8::/32"]) == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2001:db8::/32",
    ]
    for wrong in ("", "10.0.0.0/33", "office", "10.0.0.0/8;"):
        with pytest.raises(KeyRequestInvalid):
            check_networks([wrong])
    with pytest.raises(KeyRequestInvalid):
        check_networks(f"10.0.0.{number}" for number in range(NETWORKS_MAX + 1))


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [
        ("10.1.2.3", True),
        ("10.1.2.3:4711", True),
        ("::ffff:10.1.2.3", True),
        ("[2001:db8::1]:443", True),
        ("2001:db8::1", True),
        ("11.1.2.3", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("10.1.2.3, 10.1.2.4", False),
        ("unknown", False),
    ],
)
def test_addresses_as_they_come(address: str, is_inside: bool) -> None:
    assert is_within(address, TEN) is is_inside


@given(st.text(max_size=80))
def test_no_text_is_more_than_an_address(address: str) -> None:
    is_within(address, TEN)


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_within_its_own_range(number: int) -> None:
    address = str(ip_address(number))
    assert is_within(address, [ip_network(text) for text in check_networks([address])])
    assert is_within(address, TEN) is (number >> 24 == 10)


def test_a_header_is_believed_only_behind_a_proxy_and_only_its_end() -> None:
    peer, header = ("192.0.2.9", 4711), b"10.0.0.1, 203.0.113.7"
    assert caller_address(peer, header, behind_proxy=False) == "192.0.2.9"
    assert caller_address(peer, header, behind_proxy=True) == "203.0.113.7"
    assert caller_address(peer, None, behind_proxy=True) == ""
    assert caller_address(None, None, behind_proxy=False) == ""
