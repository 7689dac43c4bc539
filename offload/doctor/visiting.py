"""Visits to those who could be linked: whom to visit, and what came of it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from offload.config import split_address
from offload.doctor.facts import Facts, Target
from offload.doctor.subject import Subject, is_in
from offload.errors import UsageError
from offload.peers.discovery.addresses import DEFAULT_PORT, Plan
from offload.peers.discovery.looking import Shown
from offload.peers.topology import Address
from offload.peers.transport.visit import Visit, knock, visit

VISIT_LIMIT: Final = 16


def wanted_by(subject: Subject, plan: Plan, asked: str) -> Address | None:
    """Return the address that a person means; port 0: none was said."""
    if not asked:
        return None
    for peer in subject.peers:
        if asked in (peer.name, peer.id) and peer.addresses:
            return _nearest(plan, plan.ways(peer.addresses) or peer.addresses)
    try:
        said = split_address(asked, 1)
        return said if said == split_address(asked, 2) else (said[0], 0)
    except ValueError as error:
        raise UsageError(str(error)) from None


async def visited(
    subject: Subject, plan: Plan, facts: Facts, wanted: Address | None
) -> tuple[Target, ...]:
    """Visit who was asked for, who is configured, and who shows itself and is not linked."""
    shown = {address: s for s in facts.mdns.shown for address in s.addresses}
    linked = {peer.id for peer in facts.peers if peer.linked}
    reached = {address for p in facts.peers if p.linked for address in p.addresses}
    fixed = [split_address(text) for text in subject.config.discovery.peers]
    own = facts.instance
    targets: dict[Address, None] = {}
    if wanted is not None:
        wanted = _with_port(wanted, shown)
        targets[wanted] = None
    targets |= {address: None for address in fixed if address not in reached}
    for found in facts.mdns.shown:
        ours = own.could_link(found.realm, found.group)
        new = found.id not in {own.id, *linked} and not set(found.addresses) & targets.keys()
        if new and ours and found.addresses:
            targets[_nearest(plan, found.addresses)] = None
    chosen = list(targets)[:VISIT_LIMIT]
    visits = await asyncio.gather(*(_visit(subject, address) for address in chosen))
    networks = [n for interface in facts.interfaces if interface.up for n in interface.networks]
    return tuple(
        Target(
            address=address,
            asked=address == wanted,
            fixed=address in fixed,
            visit=told,
            shown=shown.get((told.knock.host, address[1])) or shown.get(address),
            near=is_in(told.knock.host or address[0], networks),
            greeted=subject.greets,
        )
        for address, told in zip(chosen, visits, strict=True)
    )


def _nearest(plan: Plan, addresses: Sequence[Address]) -> Address:
    """Return the first one in a network of ours, or else the first one."""
    return next((a for a in addresses if plan.is_near(a[0])), addresses[0])


async def _visit(subject: Subject, address: Address) -> Visit:
    if subject.greets:
        return await visit(*address, subject.credentials)
    return Visit(await knock(*address))


def _with_port(address: Address, shown: Mapping[Address, Shown]) -> Address:
    """Return the address with the port that mDNS shows there, or the usual one, if none is said."""
    host, port = address
    if port:
        return address
    return next((known for known in shown if known[0] == host), (host, DEFAULT_PORT))
