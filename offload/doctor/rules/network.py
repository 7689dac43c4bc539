"""The ways of the network: interfaces, the port, multicast."""

from collections.abc import Iterable, Iterator
from typing import Final

from offload.doctor.facts import Facts, Interface, Peer, Sounding
from offload.doctor.findings import Check, Finding
from offload.peers.discovery.addresses import DEFAULT_PORT, LOOPBACK, is_loopback
from offload.peers.transport.link import address_of

NAME_THEM: Final = '[discovery] peers = ["HOST:PORT"]'
_LINK_LOCAL: Final = "169.254."


def interfaces(facts: Facts) -> Iterator[Finding]:
    """By which interfaces can others be found?"""
    check = Check("interfaces", "those of this machine, and their addresses")
    used = [i for i in facts.interfaces if i.used and (facts.port.local or _leads_out(i))]
    if facts.unknown_interfaces:
        there = ", ".join(i.name for i in facts.interfaces)
        yield check.fault(
            f"discovery.interfaces names {', '.join(facts.unknown_interfaces)}, which is not here",
            f"there are {there}",
        )
    elif not used:
        yield check.fault(
            f"none is up that leads to others{_skipped(facts.interfaces)}",
            "connect one, or name one: [discovery] interfaces",
        )
    elif all(n.startswith(_LINK_LOCAL) for i in used for n in i.networks if ":" not in n) and any(
        n.startswith(_LINK_LOCAL) for i in used for n in i.networks
    ):
        yield check.warning(
            f"{_named(used)} has only an address that it gave itself",
            "no DHCP server has answered: look at the cable, the Wi-Fi, the router",
        )
    else:
        yield check.ok(f"{_named(used)} is used{_skipped(facts.interfaces)}")


def port(facts: Facts) -> Iterator[Finding]:
    """Can it be reached, from here and from peers?"""
    found, running = facts.port, facts.instance.running
    number = found.number or found.wanted or DEFAULT_PORT
    check = Check("port", f"TCP {number} on {', '.join(found.listen)}")
    if found.trouble and running:
        yield check.fault(f"it does not answer here: {found.trouble}", "start the instance again")
        return
    if found.trouble and facts.instance.pid is not None:
        yield check.not_tested("the instance that does not answer may have it")
        return
    if found.trouble and found.wanted:
        yield check.fault(found.trouble, "end what has it, or choose another: node.port")
        return
    if found.trouble:
        yield check.warning(found.trouble, "a free port will be taken; peers must be told which")
        return
    missed = {p.name: _missed(p) for p in facts.peers}
    unreached = {name: why for name, why in missed.items() if why}
    if unreached:
        yield check.warning(
            "; ".join(f"{name} cannot reach it: {why}" for name, why in unreached.items()),
            f"allow TCP {number} here, and forward it if there is a router between; until then only"
            " those are linked that this instance dials",
        )
    elif found.local:
        yield check.ok(
            "it answers, from this machine only" if running else "it is free, on this machine only",
            "for other machines: offload init here, and offload join there",
        )
    elif not running:
        yield check.ok("it is free")
    else:
        yield from _answered(check, facts, number)


def _answered(check: Check, facts: Facts, number: int) -> Iterator[Finding]:
    reached = [p.name for p in facts.peers if p.answer and p.answer.knocked]
    by = f"by {', '.join(reached)} too" if reached else "no linked peer could try"
    if facts.port.wanted is None and number != DEFAULT_PORT:
        yield check.warning(
            f"it answers ({by}), but is not {DEFAULT_PORT}, which was taken",
            f"where this instance is named as a peer, write HOST:{number}; or choose: node.port",
        )
    else:
        yield check.ok(f"it answers, {by}")


def multicast(facts: Facts) -> Iterator[Finding]:
    """Does multicast go out, come in, and get to the others?"""
    if not facts.mdns.on:
        check = Check("multicast", "UDP 5353")
        yield check.not_tested("mDNS is switched off (discovery.mdns = false)")
    elif not facts.soundings:
        yield Check("multicast", "UDP 5353").not_tested("there is no interface for it")
    for sounding in facts.soundings:
        yield _multicast(sounding)


def _multicast(found: Sounding) -> Finding:
    group = "ff02::fb" if ":" in found.address else "224.0.0.251"
    about = f"{found.interface} ({found.address})"
    check = Check("multicast", f"packets to {group}, UDP 5353, and who hears them", about)
    if found.deaf:
        return check.fault(
            f"nothing can be heard: {found.deaf}",
            f"end the program that keeps port 5353 for itself, or name the peers: {NAME_THEM}",
        )
    if found.unsent:
        return check.fault(
            f"it cannot be sent: {found.unsent}",
            f"allow UDP 5353 out of this machine, or name the peers: {NAME_THEM}",
        )
    if not found.returned:
        return check.fault(
            "what was sent did not even come back to this machine, which drops it",
            f"allow UDP 5353 into this machine, or name the peers: {NAME_THEM}",
        )
    if not found.near:
        where = "on this machine" if found.address == LOOPBACK else "in this network"
        return check.ok(f"it goes out and comes in; no linked peer {where} could be asked")
    return _heard(check, found)


def _heard(check: Check, found: Sounding) -> Finding:
    deaf = [name for name in found.near if name not in found.heard_us]
    mute = [name for name in found.near if name not in found.heard]
    remedy = (
        "look for a switch or Wi-Fi that keeps multicast back (client isolation, IGMP snooping)"
        f" and for UDP 5353 in the firewall there; or name the peers: {NAME_THEM}"
    )
    if not deaf and not mute:
        return check.ok(f"{_list(found.near)} and this machine hear each other")
    words = [f"{_list(deaf)} did not hear us"] if deaf else []
    words += [f"we did not hear {_list(mute)}"] if mute else []
    text = "; ".join(words)
    if len(deaf) == len(found.near) or len(mute) == len(found.near):
        return check.fault(text, remedy)
    return check.warning(text, remedy)


def _missed(peer: Peer) -> str:
    """Return why a peer reached none of our addresses; "" if it reached one, or has not tried."""
    if peer.answer is None or not peer.answer.knocked:
        return ""
    tried = peer.answer.knocked
    if not all(tried.values()):
        return ""
    return ", ".join(f"{address_of(*address)} ({why})" for address, why in tried.items())


def _leads_out(found: Interface) -> bool:
    return not all(is_loopback(network.partition("/")[0]) for network in found.networks)


def _named(found: Iterable[Interface]) -> str:
    return ", ".join(
        f"{i.name} ({', '.join(n.partition('/')[0] for n in i.networks)})" for i in found
    )


def _skipped(found: Iterable[Interface]) -> str:
    virtual = [i.name for i in found if i.virtual and i.up and not i.used]
    down = [i.name for i in found if not i.up]
    words = [f"{', '.join(virtual)} not (bridges and tunnels)"] if virtual else []
    words += [f"{', '.join(down)} is down"] if down else []
    return f"; {'; '.join(words)}" if words else ""


def _list(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
