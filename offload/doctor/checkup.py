"""Gathers the facts: has all probes look at the same time."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from offload.datadir import group_folder
from offload.doctor.facts import Facts, Mdns, Port
from offload.doctor.multicast import looked, sounded
from offload.doctor.probes import machine, ports
from offload.doctor.subject import Subject
from offload.doctor.visiting import visited, wanted_by
from offload.peers.discovery.addresses import Plan, is_loopback


async def gather(subject: Subject, asked: str = "") -> Facts:
    """
    Return what there is to be seen.

    Args:
        subject: Who is examined.
        asked: ``host``, ``host:port``, or a member's name or id, to be looked at as well.

    Raises:
        UsageError: If that is no address and nobody's name.
    """
    plan = await subject.plan()
    wanted = wanted_by(subject, plan, asked)
    facts, mdns, (soundings, peers) = await asyncio.gather(
        _of_the_machine(subject, plan), looked(subject, plan), sounded(subject, plan)
    )
    facts = replace(facts, mdns=mdns, soundings=soundings, peers=peers)
    return replace(facts, targets=await visited(subject, plan, facts, wanted))


async def _of_the_machine(subject: Subject, plan: Plan) -> Facts:
    if subject.instance.running:
        trouble = await ports.answers(subject.listen, subject.port)
    else:
        trouble = await asyncio.to_thread(ports.could_be_had, subject.listen, subject.port)
    return await asyncio.to_thread(_machine, subject, plan, trouble)


def _machine(subject: Subject, plan: Plan, trouble: str) -> Facts:
    config, place = subject.config, subject.data_dir
    port = Port(
        number=subject.port,
        wanted=config.node.port or None,
        listen=subject.listen,
        local=all(map(is_loopback, subject.listen)),
        trouble=trouble,
    )
    return Facts(
        instance=subject.instance,
        platform=machine.look_at_platform(),
        places=machine.look_at_places(_places(subject)),
        disk=machine.look_at_disk(place.path, config.limits.disk_free_bytes),
        interfaces=machine.look_at_interfaces(plan.interfaces),
        port=port,
        firewall=machine.look_at_firewall(),
        mdns=Mdns(config.discovery.mdns),
        refused=subject.refused,
        unknown_interfaces=tuple(_unknown(config.discovery.interfaces)),
    )


def _places(subject: Subject) -> Iterator[Path]:
    place = subject.data_dir
    yield from (place.path, place.store, place.identity, place.identity / "key.pem")
    if not subject.config.node.insecure:
        group = group_folder(subject.config.node.group_dir)
        yield from (group, group / "group")


def _unknown(named: Iterable[str]) -> Iterable[str]:
    there = machine.look_at_interfaces(())
    known = {i.name for i in there} | {n.partition("/")[0] for i in there for n in i.networks}
    return (name for name in named if name.partition("%")[0] not in known)
