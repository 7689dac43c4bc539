"""The others: the group, who has our id, who is found and linked, and who is not, and why."""

from collections.abc import Iterator
from typing import Final

from offload.doctor.facts import Facts, Instance, Target
from offload.doctor.findings import Check, Finding, State
from offload.doctor.rules.here import SHORT_ID
from offload.doctor.rules.network import NAME_THEM
from offload.peers.discovery.addresses import is_loopback
from offload.peers.discovery.looking import Shown
from offload.peers.transport.frames import Hello
from offload.peers.transport.link import address_of
from offload.peers.transport.visit import Door

CLOCKS_APART_S: Final = 300.0
_JOIN: Final = "one group for all: offload invite there, offload join CODE here (and no --insecure)"
_NEW_DIR: Final = "end one of the two, and give it a new data directory (--data-dir)"


def group(facts: Facts) -> Iterator[Finding]:
    """Does it belong to a group?"""
    check, own = Check("group", "to whom this instance belongs"), facts.instance
    if own.trouble:
        yield check.fault(own.trouble, "have a keeper run: offload invite; here: offload join CODE")
    elif own.insecure:
        yield check.warning(
            "none, it is insecure: it links only with others that are, and obeys everyone",
            "offload init or offload join, and without --insecure",
        )
    elif own.group_name:
        yield check.ok(f"the group {own.group_name}")
    elif own.group:
        yield check.ok("none that others could join: only this user's instances on this machine")
    else:
        yield check.ok("none yet; the first start makes one for this user on this machine")


def identity(facts: Facts) -> Iterator[Finding]:
    """Does anybody else go by its id?"""
    check, own = Check("identity", "whether another has this instance's id"), facts.instance
    if not own.id:
        yield check.not_tested("it has no id before its first start")
        return
    twins = [*own.twins, *_strange(facts), *_twins_met(facts)]
    if twins:
        yield check.fault(f"this data directory is in use twice: {twins[0]}", _NEW_DIR)
    else:
        yield check.ok("nobody else shows it")


def mdns(facts: Facts) -> Iterator[Finding]:
    """Who shows himself?"""
    check, found, own = Check("mdns", "who shows himself by mDNS"), facts.mdns, facts.instance
    if not found.on:
        return
    if found.trouble:
        yield check.fault(f"nobody can be looked for: {found.trouble}", f"or: {NAME_THEM}")
        return
    others = [shown for shown in found.shown if shown.id != own.id]
    fitting = [s for s in others if own.could_link(s.realm, s.group)]
    if not others:
        yield check.ok("no other instance")
        return
    yield check.ok(f"{_shown(len(others))}, {len(fitting)} of this realm and group")
    for shown in others:
        trouble = _apart(own, shown)
        if trouble and not own.could_link(shown.realm, shown.group):
            yield Check("stranger", "what mDNS shows", _where(shown)).warning(*trouble)


def members(facts: Facts) -> Iterator[Finding]:
    """Who is linked?"""
    check = Check("peers", "the links of the instance")
    if not facts.instance.running:
        yield check.not_tested("the instance does not run")
        return
    linked = [p for p in facts.peers if p.linked]
    silent = [p.name for p in facts.peers if p.silent]
    far = [p.name for p in facts.peers if not p.linked]
    words = [f"linked with {', '.join(p.name for p in linked)}"] if linked else []
    words += [f"known by way of others: {', '.join(far)}"] if far else []
    words += [
        f"{p.name} could not be asked ({p.answer.reason})"
        for p in linked
        if p.answer is not None and p.answer.reason
    ]
    if silent:
        yield check.warning(
            f"nothing is heard of {', '.join(silent)}", "look there: asleep, cut off, too busy?"
        )
    for peer in linked:
        unsent = peer.answer.unsent if peer.answer else {}
        for interface, why in unsent.items():
            yield check.warning(
                f"{peer.name} cannot send multicast on its {interface}: {why}",
                "allow UDP 5353 out of that machine; run the doctor there too",
            )
    if words:
        yield check.ok("; ".join(words))
    else:
        yield check.warning(
            "nobody else is in the topology",
            "start an instance on another machine; if one runs: offload doctor HOST",
        )


def refused(facts: Facts) -> Iterator[Finding]:
    """Who was reached, and has no version of the protocol in common with us?"""
    for other in facts.refused:
        where = " at ".join(filter(None, (other.name, other.address)))
        check = Check("version", "the versions of the protocol that both speak", where)
        yield check.fault(f"no link: {other.reason}", "bring the older one up to date")


def clock(facts: Facts) -> Iterator[Finding]:
    """Do clocks agree?"""
    check = Check("clock", "this one beside those of linked peers")
    measured = {p.name: p.ahead_s for p in facts.peers if p.ahead_s is not None}
    if not measured:
        yield check.not_tested("no linked peer's clock is known")
        return
    apart = {name: ahead_s for name, ahead_s in measured.items() if abs(ahead_s) > CLOCKS_APART_S}
    for name, ahead_s in apart.items():
        how = "ahead of" if ahead_s > 0 else "behind"
        yield check.warning(
            f"that of {name} is {abs(ahead_s):.0f} s {how} this one",
            "set the one that is wrong (timedatectl set-ntp true): schedules go by it",
        )
    if not apart:
        yield check.ok(f"at most {max(map(abs, measured.values())):.1f} s apart")


def targets(facts: Facts) -> Iterator[Finding]:
    """What is with those who could be linked, and perhaps are not?"""
    for target in facts.targets:
        yield _door(target)
        if target.visit.knock.door is Door.OPEN:
            yield _greeting(facts, target)
        somewhere = target.visit.knock.door is not Door.UNKNOWN
        if target.asked and somewhere and facts.mdns.on and not is_loopback(target.address[0]):
            found = _found(facts, target)
            yield found
            if found.state is State.FAULT:
                continue  # that is why they are not linked
        yield from _linked(facts, target)


def _door(target: Target) -> Finding:
    """Is there somebody at the address?"""
    about = address_of(*target.address)
    check = Check("reachable", "a TCP connection to its port", about)
    port = target.address[1]
    reason = target.visit.knock.reason
    match target.visit.knock.door:
        case Door.OPEN:
            return check.ok("somebody answers")
        case Door.UNKNOWN:
            return check.fault(f"the name has no address: {reason}", "write the address instead")
        case Door.NO_WAY:
            return check.fault(
                f"there is no way to it: {reason}",
                "is it on, and in a network that is reached from here? (ping it)",
            )
        case Door.REFUSED:
            return check.fault(
                "the machine is there, and nothing listens on that port",
                "start the instance there; if it runs, offload status there tells where it listens",
            )
        case _:
            return check.fault(
                f"{reason}: a firewall drops what is sent to it, or the machine is off",
                f"allow TCP {port} there, as by: ufw allow {port}/tcp; run the doctor there too",
            )


def _greeting(facts: Facts, target: Target) -> Finding:
    """Does who answers fit to us?"""
    check = Check(
        "fits", "who answers: instance, group, realm, version", address_of(*target.address)
    )
    own, hello = facts.instance, target.visit.hello
    if not target.greeted:
        return check.not_tested(
            "this instance has nothing to show of itself before its first start"
        )
    if hello is None:
        return _turned_away(check, own, target)
    who = f"{hello.name} ({hello.id[:SHORT_ID]})"
    if own.id and hello.id == own.id:
        if _is_itself(own, hello):
            return check.warning("it is this instance itself", "name another one")
        return check.fault(f"{who} has this instance's id", _NEW_DIR)
    if hello.realm != own.realm:
        return check.fault(
            f"{who} is of realm {hello.realm!r}, this one of {own.realm!r}",
            "the same node.realm on both",
        )
    if not _understood(own, hello):
        return check.fault(
            f"{who} speaks versions {_range(hello.versions)} of the protocol, this one"
            f" {_range(own.versions)}",
            "bring the older one up to date",
        )
    return check.ok(f"{who}, realm {hello.realm}, protocol {_range(hello.versions)}")


def _turned_away(check: Check, own: Instance, target: Target) -> Finding:
    shown = target.shown
    trouble = _apart(own, shown) if shown is not None and own.id else None
    if trouble is not None:
        text, remedy = trouble
        return check.fault(f"{target.visit.reason}; {text}", remedy)
    return check.fault(target.visit.reason, _JOIN)


def _linked(facts: Facts, target: Target) -> Iterator[Finding]:
    """Is it linked, if it could be?"""
    hello, own = target.visit.hello, facts.instance
    if hello is None or not own.running or _greeting(facts, target).state is not State.OK:
        return
    check = Check("linked", "whether the two have a link", address_of(*target.address))
    peer = next((p for p in facts.peers if p.id == hello.id), None)
    if peer is not None and peer.linked:
        how = "we dialled" if peer.dialled else "it dialled"
        yield check.ok(f"they have; {how}")
    elif peer is not None:
        yield check.ok("they have not, and know each other by way of others")
    else:
        yield check.warning(
            "they have not, though nothing is in the way now",
            "look again in a moment; if it stays so, look into the logs (offload run -v)",
        )


def _found(facts: Facts, target: Target) -> Finding:
    """Was it found without a person's help?"""
    check = Check("found", "whether mDNS shows it here", address_of(*target.address))
    hello, where = target.visit.hello, address_of(*target.address)
    named = f'[discovery] peers = ["{where}"]'
    linked = hello is not None and any(p.linked and p.id == hello.id for p in facts.peers)
    if target.shown is not None:
        return check.ok("it does")
    if not target.near:
        text = "it is in another network, to which mDNS does not go"
    else:
        text = "it does not, though it is in the same network"
    if linked:
        return check.warning(
            f"{text}; it was found in another way, and is linked", f"lasting: {named}"
        )
    if target.fixed:
        return check.ok(f"{text}; the configuration names it")
    return check.fault(text, f"name it: {named}")


def _apart(own: Instance, shown: Shown) -> tuple[str, str] | None:
    """Return why the two do not link, and the remedy; None if they do."""
    if shown.realm != own.realm:
        return (
            f"it is of realm {shown.realm!r}, this one of {own.realm!r}",
            "if they belong together: the same node.realm on both",
        )
    if shown.group == own.group:
        return None
    if not shown.group:
        return "it is insecure, this one is of a group", _JOIN
    if not own.group:
        return "it is of a group, this one is insecure", _JOIN
    return "it is of another group", _JOIN


def _strange(facts: Facts) -> Iterator[str]:
    """Yield where our id is shown that is not us."""
    hosts = {n.partition("/")[0] for i in facts.interfaces for n in i.networks}
    for shown in facts.mdns.shown:
        if shown.id != facts.instance.id:
            continue
        for host, port in shown.addresses:
            ours = host.partition("%")[0] in hosts and port == facts.port.number
            if not (facts.instance.running and ours):
                yield f"mDNS shows it at {address_of(host, port)} as well"


def _twins_met(facts: Facts) -> Iterator[str]:
    own = facts.instance
    for target in facts.targets:
        hello = target.visit.hello
        if hello is not None and hello.id == own.id and not _is_itself(own, hello):
            yield f"{hello.name} at {address_of(*target.address)} has the same id"


def _shown(count: int) -> str:
    return "one other" if count == 1 else f"{count} others"


def _is_itself(own: Instance, hello: Hello) -> bool:
    return own.running and hello.id == own.id and hello.life in ("", own.life)


def _understood(own: Instance, hello: Hello) -> bool:
    return max(own.versions[0], hello.versions[0]) <= min(own.versions[1], hello.versions[1])


def _range(versions: tuple[int, int]) -> str:
    low, high = versions
    return str(low) if low == high else f"{low} to {high}"


def _where(shown: Shown) -> str:
    return address_of(*shown.addresses[0]) if shown.addresses else shown.id[:SHORT_ID]
