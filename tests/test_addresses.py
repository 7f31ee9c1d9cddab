"""A stranger cannot write himself an address; a proxy of ours can pass one on."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.addresses import origin

OURS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9,10.0.0.2", "203.0.113.9"),
        ("fd00::1", " 2001:db8::1 ", "2001:db8::1"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", ", ,", "10.0.0.1"),
    ],
)
def test_the_last_address_that_no_proxy_vouches_for(
    peer: str, forwarded: str, expected: str
) -> None:
    assert origin(peer, forwarded, OURS) == ip_address(expected)


@pytest.mark.parametrize(
    ("peer", "forwarded"),
    [("", ""), ("testclient", ""), ("10.0.0.1", "unknown"), ("10.0.0.1", "1.2.3.4:80")],
)
def test_what_is_no_address_is_none(peer: str, forwarded: str) -> None:
    assert origin(peer, forwarded, OURS) is None


@given(st.text(max_size=40))
def test_without_trusted_proxies_no_header_counts(forwarded: str) -> None:
    assert origin("203.0.113.9", forwarded, []) == ip_address("203.0.113.9")
