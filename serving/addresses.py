"""Where a request comes from: the address that a vendor's allow-list is compared with."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from serving.settings import Network

Address = IPv4Address | IPv6Address


def origin(peer: str, forwarded_for: str, trusted: Iterable[Network]) -> Address | None:
    """Return who sent a request: the last address that no trusted proxy vouches for; None if unreadable.

    X-Forwarded-For is read from its end, and only as far as each address is that of a proxy of ours:
    whatever stands before was written by a stranger.

    >>> from ipaddress import ip_network
    >>> origin("10.0.0.2", "6.6.6.6, 203.0.113.9, 10.0.0.1", [ip_network("10.0.0.0/8")])
    IPv4Address('203.0.113.9')
    >>> origin("198.51.100.7", "203.0.113.9", [ip_network("10.0.0.0/8")])
    IPv4Address('198.51.100.7')
    """
    trusted = tuple(trusted)
    before = [part for part in forwarded_for.split(",") if part.strip()]
    address = _read(peer)
    while address is not None and before and any(address in network for network in trusted):
        address = _read(before.pop())
    return address


def _read(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address  # ::ffff:203.0.113.9 is 203.0.113.9
