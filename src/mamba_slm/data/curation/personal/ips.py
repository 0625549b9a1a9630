"""Addresses of the Internet Protocol that lead to one machine on the public network."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator

from mamba_slm.data.curation.personal import context
from mamba_slm.data.curation.personal.span import Span

OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = re.compile(rf"(?<![\w.])(?<!\w-){OCTET}(?:\.{OCTET}){{3}}(?!\w)(?!\.[0-9])(?!-[A-Za-z])")
IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?:::?[0-9A-Fa-f]{1,4}){1,7}(?:::)?(?![\w:])")
NETWORK = re.compile("/[0-9]{1,2}(?![0-9])")
GROUPS = 8

SPECIAL_NETWORKS = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/3", "::/8", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7"),
    *("fe80::/9", "ff00::/8"),
)
"""What IANA's registries of special-purpose addresses keep from the public network; written down here, because Python's
`is_global` has changed between versions. Netmasks are in 224.0.0.0/3."""


def is_public(address: str) -> bool:
    """Whether an address can be somebody's.

    >>> [is_public(one) for one in ("81.2.69.142", "192.168.0.1", "203.0.113.9", "2606:4700::6810:85e5", "fe80::1:2:3")]
    [True, False, False, True, False]
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    number = int(parsed)
    return not any(first <= number <= last for first, last in special_ranges()[parsed.version])


@functools.cache
def special_ranges() -> dict[int, list[tuple[int, int]]]:
    """First and last address of each special network, as numbers, by version: comparing them is what costs least."""
    networks = [ipaddress.ip_network(network) for network in SPECIAL_NETWORKS]
    return {
        version: [
            (int(network.network_address), int(network.broadcast_address))
            for network in networks
            if network.version == version
        ]
        for version in (4, 6)
    }


def find_ipv4(text: str, start: int, end: int) -> Iterator[Span]:
    """Public addresses of version 4 in the run of digits and full stops `text[start:end]`.

    Numbers of versions and sections look the same: what a word names a version is none, and without a word that names
    an address one number must be at least 100, as in 98% of all addresses. A whole network, as 54.231.0.0/16, is
    nobody's.

    >>> list(find_ipv4("from 81.2.69.142.", 5, 17))
    [Span(start=5, end=16, kind='ip')]
    """
    for match in IPV4.finditer(text, start, min(end + 2, len(text))):
        if not is_public(match[0]):
            continue
        if match[0].endswith(".0") and NETWORK.match(text, match.end()):
            continue
        said = context.before(text, match.start())
        is_named = context.IP.search(said) is not None or said.endswith("//")
        if context.VERSION.search(said) or not (is_named or max(map(int, match[0].split("."))) >= 100):
            continue
        yield Span(match.start(), match.end(), "ip")


def find_ipv6(text: str, start: int, end: int) -> Iterator[Span]:
    """Public addresses of version 6 in the run of hexadecimal digits and colons `text[start:end]`.

    All eight groups, or three and more with the gap in 2000::/3, which is all that is given out.

    >>> list(find_ipv6("2606:4700::6810:85e5", 0, 20))
    [Span(start=0, end=20, kind='ip')]
    """
    for match in IPV6.finditer(text, start, min(end + 1, len(text))):
        groups = match[0].count(":") - match[0].count("::") + 1
        is_given_out = match[0][0] in "23" and match[0].index(":") == 4
        if (groups == GROUPS or ("::" in match[0] and is_given_out)) and is_public(match[0]):
            yield Span(match.start(), match.end(), "ip")
