"""Where we can be reached, on which interfaces we look for others, and address texts."""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import psutil

from offload.errors import ConfigError
from offload.peers.topology import Address
from offload.traits import is_host

DEFAULT_PORT: Final = 4711
LOOPBACK: Final = "127.0.0.1"
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - each for its own family
# Bridges to containers and tunnels lead to no machine of this LAN, unless a person names them.
_VIRTUAL: Final = (
    *("docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "podman", "cni", "flannel", "cali"),
    *("lxc", "lxd", "incusbr", "tun", "utun", "tap", "tailscale", "wg", "zt", "nordlynx", "ppp"),
    *("ipsec", "gif", "stf", "sit", "ip6tnl", "awdl", "llw", "vEthernet (WSL", "vEthernet (Def"),
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104 (compared with, never bound here)


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How an instance shows itself.

    Attributes:
        interfaces: Addresses of the interfaces that speak mDNS.
        hosts: Addresses in its mDNS record.
        addresses: Host and port pairs in its announcement; link-local ones without a scope, which
            means nothing elsewhere.
        networks: Those that it is in itself.
        scopes: The interfaces that have a link-local IPv6 address.
    """

    interfaces: tuple[str, ...]
    hosts: tuple[str, ...]
    addresses: tuple[Address, ...]
    networks: tuple[Network, ...] = ()
    scopes: tuple[str, ...] = ()

    def ways(self, addresses: Iterable[Address]) -> list[Address]:
        """Return where to try what others announce: a link-local address, on every interface."""
        ways: list[Address] = []
        for host, port in addresses:
            plain = host.partition("%")[0]
            local = _is_link_local(plain)
            ways += [(f"{plain}%{s}", port) for s in self.scopes] if local else [(host, port)]
        return ways

    def is_near(self, host: str) -> bool:
        """Say whether ``host`` is an address of a network that we are in."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self.networks)


class _Own(NamedTuple):
    """An address of this machine."""

    interface: str
    host: str
    network: Network | None


def is_loopback(host: str) -> bool:
    """Say whether ``host`` is of this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_virtual(name: str) -> bool:
    """Say whether an interface of this name is a bridge to containers, or a tunnel."""
    return name.startswith(_VIRTUAL)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def make_plan(
    listen: Sequence[str],
    *,
    port: int,
    interfaces: Sequence[str] = (),
    advertise: Sequence[str] = (),
) -> Plan:
    """
    Return how to show an instance that listens on ``listen``; blocks for some milliseconds.

    Args:
        listen: Hosts that are listened on; ``0.0.0.0`` and ``::`` stand for all addresses.
        port: The port that is listened on.
        interfaces: Names or addresses of interfaces; none: all that are no bridges or tunnels.
        advertise: ``host`` or ``host:port`` to be announced beside the own ones.
    """
    named = tuple(parse_address(text, port, key="node.advertise") for text in advertise)
    if all(is_loopback(host) for host in listen):
        hosts = tuple(LOOPBACK if host == "localhost" else host for host in listen)
        return Plan((LOOPBACK,), hosts, (*named, *((host, port) for host in hosts)))
    local = list(_local_addresses(interfaces))
    reached = [own.host for own in local]
    hosts = tuple(dict.fromkeys(_listened(listen, reached)))
    if not hosts:  # without a network, instances of this machine may still meet
        reached = [LOOPBACK]
        hosts = tuple(_listened(listen, reached))
    plain = (host.partition("%")[0] for host in sorted(hosts, key=lambda host: "%" in host))
    return Plan(
        interfaces=tuple(reached),
        hosts=tuple(host for host in hosts if _is_ip(host)),
        addresses=(*named, *((host, port) for host in dict.fromkeys(plain))),
        networks=tuple(dict.fromkeys(own.network for own in local if own.network)),
        scopes=tuple(dict.fromkeys(own.interface for own in local if "%" in own.host)),
    )


def check_interfaces(named: Iterable[str]) -> None:
    """Raise ``ConfigError`` for a name or address that no interface of this machine has."""
    there = psutil.net_if_addrs()
    known = {*there, *(entry.address for entries in there.values() for entry in entries)}
    for name in named:
        if name not in known:
            raise ConfigError(
                "discovery.interfaces", f"no interface {name} here; there are {', '.join(there)}"
            )


def parse_address(text: str, default_port: int, *, key: str) -> Address:
    """Read ``host``, ``host:port`` or ``[v6]:port``; raise ``ConfigError`` for anything else."""
    host, port = text.strip(), str(default_port)
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else port
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if not is_host(host) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(key, f"{text!r} is no address; write host, host:port or [v6]:port")
    return host, int(port)


def _listened(listen: Iterable[str], local: Iterable[str]) -> Iterable[str]:
    """Yield what can be dialled of that which is listened on."""
    for host in listen:
        if host in _WILDCARDS:
            # an IPv6 wildcard socket is IPv6 only, as asyncio opens it
            yield from (a for a in local if not host or (":" in a) is (":" in host))
        else:
            yield host


def _local_addresses(named: Sequence[str]) -> Iterable[_Own]:
    """Yield the addresses of the interfaces that are up, loopback ones only if named."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    for name, entries in psutil.net_if_addrs().items():
        if name not in up:
            continue
        if not named and is_virtual(name):
            continue
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if named and name not in named and entry.address not in named:
                continue
            if not is_loopback(entry.address) or named:
                yield _Own(name, entry.address, _network(entry.address, entry.netmask))


def _network(host: str, mask: str | None) -> Network | None:
    """Return the network of an address; None if nobody else is in it, or it is not known."""
    try:
        bits = int(ipaddress.ip_address(mask or "")).bit_count()
        network = ipaddress.ip_network((host.partition("%")[0], bits), strict=False)
    except ValueError:
        return None
    return network if network.num_addresses > 1 else None


def _is_link_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == 6 and address.is_link_local
