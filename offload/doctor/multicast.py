"""Who hears whom by multicast: soundings of ours, and of peers that are reachable otherwise."""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from offload.doctor.facts import Answer, Mdns, Peer, Sounding
from offload.doctor.probes import machine, ports
from offload.doctor.subject import Subject, is_in
from offload.peers.discovery.addresses import Plan
from offload.peers.discovery.looking import look
from offload.peers.discovery.soundings import Soundings, Way, ways
from offload.peers.topology import Address
from offload.peers.transport.visit import Knock, knock

LOOK_S: Final = 2.0
ASKED_LIMIT: Final = 16
_ANYWHERE: Final = ("fe80:", "169.254.")  # the same on every network


async def looked(subject: Subject, plan: Plan) -> Mdns:
    """Look who shows himself."""
    if not subject.config.discovery.mdns:
        return Mdns(False)
    shown, trouble = await look(plan, LOOK_S)
    return Mdns(True, trouble, tuple(shown))


async def sounded(subject: Subject, plan: Plan) -> tuple[tuple[Sounding, ...], tuple[Peer, ...]]:
    """Send and hear soundings, and have linked peers do so too; return the peers with that."""
    our_ways = _ways(subject, plan)
    asked = [peer for peer in subject.peers if peer.linked][:ASKED_LIMIT]
    token, tokens = secrets.token_hex(8), {p.id: secrets.token_hex(8) for p in asked}
    async with Soundings(our_ways) as soundings:
        sent, answers = await asyncio.gather(
            soundings.say(token),
            asyncio.gather(*(subject.ask(p.id, token, tokens[p.id]) for p in asked)),
        )
    told = {peer.id: answer for peer, answer in zip(asked, answers, strict=True)}
    peers = tuple(replace(peer, answer=told.get(peer.id)) for peer in subject.peers)
    near = await asyncio.to_thread(_near, our_ways, [p for p in peers if _has_sounded(p)])
    found = tuple(
        Sounding(
            interface=way.interface,
            address=_plain(way.address),
            unsent=sent.get(way, ""),
            deaf=soundings.deaf.get(way, ""),
            returned=_came_in(soundings, token, way),
            near=tuple(p.name for p in near[way]),
            heard_us=tuple(p.name for p in near[way] if _has_heard(p, way)),
            heard=tuple(p.name for p in near[way] if _came_in(soundings, tokens[p.id], way)),
        )
        for way in our_ways
    )
    return found, peers


async def listen_for(subject: Subject, hear: str, say: str, doors: Sequence[Address]) -> Answer:
    """Do what a peer asks for by SOUND: listen, send, and knock at its doors."""
    plan = await subject.plan()
    our_ways, doors = _ways(subject, plan), plan.ways(doors)
    async with Soundings(our_ways) as soundings:
        sent, knocks = await asyncio.gather(soundings.say(say), _knocks(doors))
    return Answer(
        reason="" if subject.config.discovery.mdns else "mDNS is switched off there",
        heard=soundings.heard(hear),
        unsent={way.interface: why for way, why in sent.items() if why},
        knocked={door: found.reason for door, found in zip(doors, knocks, strict=True)},
    )


async def _knocks(doors: Iterable[Address]) -> list[Knock]:
    return await asyncio.gather(*(knock(host, port, ports.KNOCK_S) for host, port in doors))


def _ways(subject: Subject, plan: Plan) -> tuple[Way, ...]:
    return ways(plan.interfaces) if subject.config.discovery.mdns else ()


def _near(our_ways: Iterable[Way], peers: Iterable[Peer]) -> dict[Way, list[Peer]]:
    """Return, by way, the peers that have an address in the networks of its interface."""
    networks = {i.name: i.networks for i in machine.look_at_interfaces(())}
    return {
        way: [p for p in peers if _lives_in(p, networks.get(way.interface, ()))] for way in our_ways
    }


def _lives_in(peer: Peer, networks: Sequence[str]) -> bool:
    hosts = [host for host, _ in peer.addresses]
    telling = [host for host in hosts if not host.startswith(_ANYWHERE)] or hosts
    return any(is_in(host, networks) for host in telling)


def _has_sounded(peer: Peer) -> bool:
    return peer.answer is not None and not peer.answer.reason


def _has_heard(peer: Peer, way: Way) -> bool:
    heard = peer.answer.heard if peer.answer else ()
    return any(h.host == _plain(way.address) for h in heard)


def _came_in(soundings: Soundings, token: str, way: Way) -> bool:
    return any(h.interface == way.interface for h in soundings.heard(token))


def _plain(address: str) -> str:
    return address.partition("%")[0]
