"""Which network addresses this program may speak to, and the only place where a host name becomes addresses.

A name is resolved once; every address of the answer is judged, and callers connect to the judged addresses and to
nothing else, so a name that changes its mind between the check and the connection (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Thread
from typing import Literal

from gitstore import errors

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Sequence[str]]
Kind = Literal["loopback", "private", "link-local", "multicast", "reserved", "unspecified", "metadata", "embedded"]


class RefusedAddress(errors.Invalid):
    """The host is written in a way that is never accepted, or one of its addresses is not allowed."""


class Unresolved(errors.Unavailable):
    """The name has no address, or the resolver failed."""


class Deadline:
    """A moment on the monotonic clock that a whole piece of work must keep, whatever its parts do."""

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        self._end = self._start + seconds

    def left(self) -> float:
        """The seconds that remain, more than 0; raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time allowed has passed")
        return left

    def spent(self) -> int:
        """Milliseconds since the start."""
        return int((time.monotonic() - self._start) * 1000)


# Cloud metadata and credential services: AWS (instance, ECS, EKS), Azure, Alibaba, Oracle, Google.
METADATA: frozenset[Address] = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)

# The IANA special-purpose registries (RFC 6890 and its successors). They are spelled out because `ipaddress` answers
# differently from one Python release to the next.
_BY_KIND: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")),
    ("link-local", ("169.254.0.0/16", "fe80::/10", "fec0::/10")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    # IPv4 in another dress: mapped and compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, RFC 8215),
    # Teredo (RFC 4380), 6to4 (RFC 3056).
    (
        "embedded",
        ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
    ),
    (
        "reserved",
        (
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
            "2001::/23",
            "2001:db8::/32",
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    ),
)
_SPECIAL: tuple[tuple[Network, Kind], ...] = tuple(
    (ip_network(text), sort) for sort, texts in _BY_KIND for text in texts
)
_GLOBAL6 = IPv6Network("2000::/3")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ADDRESSES_MAX = 4


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be reached. By default only public unicast addresses.

    `allow_private` adds private (RFC 1918, RFC 6598, RFC 4193) and loopback addresses. `allow` adds networks
    (`10.1.0.0/16`, `fd12::/16`, or one address) whatever their kind, and host names, for which private and loopback
    addresses are allowed. Cloud metadata services are reached only if their one address is itself in `allow`; an
    address with an IPv4 address inside (NAT64 and the like) only if its network is in `allow` and the inner address
    would be allowed too. Raises errors.Invalid for an entry that is neither a network nor a host name.
    """

    allow_private: bool = False
    allow: tuple[str, ...] = ()
    _networks: tuple[Network, ...] = field(init=False, repr=False, compare=False, default=())
    _names: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        networks: list[Network] = []
        names: set[str] = set()
        for entry in self.allow:
            try:
                networks.append(ip_network(entry.strip("[]")))
                continue
            except ValueError as error:
                if "/" in entry:
                    raise errors.Invalid(f"`{entry}` is not a network: {error}") from None
            try:
                names.add(str(canonical(entry)))
            except RefusedAddress:
                raise errors.Invalid(f"`{entry}` is neither a network nor a host name") from None
        object.__setattr__(self, "_networks", tuple(networks))
        object.__setattr__(self, "_names", frozenset(names))

    def refusal(self, address: Address, host: str | None = None) -> Kind | None:
        """Why `address`, found under the name `host`, may not be reached; None if it may."""
        sort = kind(address)
        if sort is None:
            return None
        if sort == "metadata":
            return None if self._listed(address, alone=True) else sort
        if sort == "embedded":
            inner = embedded(address)
            if inner is None or not self._listed(address):
                return sort
            return self.refusal(inner, host)
        if self._listed(address):
            return None
        if sort in ("private", "loopback") and (self.allow_private or host in self._names):
            return None
        return sort

    def named(self, address: Address, host: str | None) -> bool:
        """Whether `allow` itself names the host or a network with the address: somebody vouched for this very one."""
        return host in self._names or self._listed(address)

    def _listed(self, address: Address, *, alone: bool = False) -> bool:
        return any(
            address in network and (not alone or network.num_addresses == 1)
            for network in self._networks
            if network.version == address.version
        )


def kind(address: Address) -> Kind | None:
    """What makes an address special; None for a public unicast one."""
    if address in METADATA:
        return "metadata"
    if isinstance(address, IPv6Address) and _isatap(address):
        return "embedded"
    for network, sort in _SPECIAL:
        if network.version == address.version and address in network:
            return sort
    return "reserved" if isinstance(address, IPv6Address) and address not in _GLOBAL6 else None


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address carries and that a gateway or the kernel would reach for it, if any."""
    if isinstance(address, IPv4Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in IPv6Network("64:ff9b:1::/48"):
        return None  # where the IPv4 address stands depends on the local prefix length: not to be judged
    return IPv4Address(int(address) & 0xFFFFFFFF)


def _isatap(address: IPv6Address) -> bool:
    return (int(address) >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE)  # RFC 5214


def canonical(host: str) -> str | Address:
    """`host` as written in a URL: an address, or a lower-case name without a final dot.

    Raises RefusedAddress for anything that one program could read as a name and another as an address: IPv4 in
    octal, hexadecimal, short or integer form, IPv6 with a zone, percent-encoding, and letters outside ASCII (an
    international name must be given in its `xn--` form).
    """
    text = host.lower()
    if ":" in text or "[" in text or "]" in text:
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        try:
            if "%" in inner:
                raise ValueError
            return IPv6Address(inner)
        except ValueError:
            raise RefusedAddress("the host is not a plain IPv6 address") from None
    text = text.removesuffix(".")
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise RefusedAddress("the host is not a plain host name (an international name is written in its xn-- form)")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return IPv4Address(text)
        except ValueError:
            raise RefusedAddress("the host is an IPv4 address in an unusual spelling; write it as 192.0.2.1") from None
    return text


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses that the operating system's resolver gives for a name, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def resolve(
    host: str, port: int, policy: AddressPolicy, *, deadline: Deadline, resolver: Resolver = system_resolver
) -> tuple[Address, ...]:
    """The addresses of `host`, one to four, in the resolver's order and all of them allowed by `policy`.

    The resolver is asked at most once, and not at all for a host that is an address. One refused address anywhere in
    the answer refuses the host. Raises RefusedAddress, Unresolved, or TimeoutError at the deadline. The messages name
    the kind of address, never the address, so that they tell nothing about a network that the caller cannot see.
    """
    name = canonical(host)
    if isinstance(name, str):
        found = _parsed(_asked(resolver, name, port, deadline))
    else:
        found = (name,)
    if not found:
        raise Unresolved("the host name has no address")
    label = name if isinstance(name, str) else None
    for address in found:
        if sort := policy.refusal(address, label):
            raise RefusedAddress(f"the host's address is {_words(sort)}, which this server is not allowed to reach")
    return found[:_ADDRESSES_MAX]


def _words(sort: Kind) -> str:
    if sort == "metadata":
        return "that of a cloud metadata service"
    return "an IPv4 address inside an IPv6 address" if sort == "embedded" else f"a {sort} address"


def _parsed(texts: Sequence[str]) -> tuple[Address, ...]:
    try:
        # A link-local answer carries its zone (`fe80::1%2`); the zone says nothing about whether it is allowed.
        return tuple(dict.fromkeys(ip_address(text.partition("%")[0]) for text in texts))
    except ValueError:
        raise Unresolved("the resolver gave something that is not an address") from None


def _asked(resolver: Resolver, name: str, port: int, deadline: Deadline) -> Sequence[str]:
    # getaddrinfo cannot be given a timeout, so it is waited for from outside; a late answer is dropped with its thread.
    answer: Future[Sequence[str]] = Future()

    def ask() -> None:
        try:
            answer.set_result(resolver(name, port))
        except BaseException as error:  # noqa: BLE001  (nothing is swallowed: the waiting thread raises it)
            answer.set_exception(error)

    Thread(target=ask, name="resolve", daemon=True).start()
    try:
        return answer.result(timeout=deadline.left())
    except TimeoutError:
        raise TimeoutError("the resolver did not answer in time") from None
    except (OSError, UnicodeError):
        raise Unresolved("the host name cannot be resolved") from None
