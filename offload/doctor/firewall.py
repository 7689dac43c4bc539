"""
Which rules of a packet filter stop us: from what ``nft`` and ``iptables`` print. Pure.

It is a reading of the rules, not a run of them: what they say of addresses, interfaces and states
is not weighed.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MDNS_PORT: Final = 5353
ACCEPT: Final = "accept"
_ENTRANCES: Final = ("input", "output", "prerouting", "ingress")
_NFT_BLOCK: Final = re.compile(r"^\s*(table|chain) (.+) \{$")
_NFT_HOOK: Final = re.compile(r"hook (\w+) .*?priority [^;]*;(?: policy (\w+);)?")
_NFT_PORT: Final = re.compile(r"\b(tcp|udp|th) dport (\{[^}]*\}|\S+)")
_NFT_VERDICT: Final = re.compile(r"\b(accept|drop|reject)\b")
_NFT_PLAIN: Final = re.compile(r"^(meta l4proto (tcp|udp) )?(counter \S+ \d+ \S+ \d+ )?")
_MULTIPORT: Final = ("--dport", "--dports", "--destination-port", "--destination-ports")
_HARMLESS: Final = ("-A", "-j", "-m", "-p", "--comment", "--reject-with", *_MULTIPORT)
_SAME_AS_PROTOCOL: Final = ("tcp", "udp", "multiport", "comment")


@dataclass(frozen=True, slots=True)
class Rule:
    """
    A rule that accepts or drops.

    Attributes:
        chain: In which table and chain.
        entrance: Whether all packets of a direction come through that chain.
        protocol: ``tcp``, ``udp``, or "" for any.
        ports: Such as ``22,80-90``; "" for any.
        narrow: Whether it asks for more than protocol and port.
    """

    chain: str
    entrance: bool
    text: str
    verdict: str
    protocol: str = ""
    ports: str = ""
    narrow: bool = False

    def is_about(self, protocol: str, port: int) -> bool:
        """Say whether packets to this port may come under it."""
        if self.protocol not in ("", protocol):
            return False
        return _covers(self.ports, port) if self.ports else self.entrance and not self.narrow


def read(tool: str, text: str) -> list[Rule]:
    """Return the rules, and the policies that drop as the last ones of their chains."""
    return list(_nft(text) if tool == "nft" else _iptables(text))


def stops(rules: Iterable[Rule], protocol: str, port: int) -> list[Rule]:
    """Return the rules that stop packets to this port, unless an earlier one accepts them."""
    accepted: set[str] = set()
    found: list[Rule] = []
    about = [rule for rule in rules if rule.is_about(protocol, port)]
    named = any(rule.verdict == ACCEPT and rule.ports for rule in about)  # maybe jumped to
    for rule in about:
        if rule.verdict == ACCEPT:
            accepted.add(rule.chain)
        elif rule.chain not in accepted and (rule.ports or not named):
            found.append(rule)
    return found


# --- nft ---------------------------------------------------------------------------------------


def _nft(text: str) -> Iterator[Rule]:
    table = chain = hook = policy = ""
    for line in text.splitlines():
        block, words = _NFT_BLOCK.match(line), line.strip()
        if block is not None and block.group(1) == "table":
            table = block.group(2)
        elif block is not None:
            chain, hook, policy = f"{table} {block.group(2)}", "", ""
        elif (entrance := _NFT_HOOK.search(words)) is not None:
            hook, policy = entrance.group(1), entrance.group(2) or ""
        elif words == "}" and chain:
            if policy == "drop" and hook in _ENTRANCES:
                yield Rule(chain, True, "policy drop", policy)
            chain = ""
        elif chain and hook in ("", *_ENTRANCES):
            yield from _nft_rule(chain, hook != "", words)


def _nft_rule(chain: str, entrance: bool, words: str) -> Iterator[Rule]:
    verdict = _NFT_VERDICT.search(words)
    if verdict is None:
        return
    named = _NFT_PORT.search(words)
    if named is not None:
        protocol = "" if named.group(1) == "th" else named.group(1)
        ports = named.group(2).strip("{} ").replace(" ", "")
        yield Rule(chain, entrance, words, verdict.group(1), protocol, ports)
        return
    plain = _NFT_PLAIN.match(words)
    rest = words[plain.end() :] if plain else words
    protocol = (plain.group(2) or "") if plain else ""
    narrow = _NFT_VERDICT.match(rest) is None
    yield Rule(chain, entrance, words, verdict.group(1), protocol, narrow=narrow)


# --- iptables ----------------------------------------------------------------------------------


def _iptables(text: str) -> Iterator[Rule]:
    policies: list[Rule] = []
    for line in text.splitlines():
        match _words(line):
            case ["-P", ("INPUT" | "OUTPUT") as chain, "DROP"]:
                policies.append(Rule(chain, True, line, "drop"))
            case ["-A", chain, *rest] if chain != "FORWARD":
                yield from _iptables_rule(chain, rest, line)
    yield from policies


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a remark with an apostrophe
        return []


def _iptables_rule(chain: str, words: list[str], line: str) -> Iterator[Rule]:
    said = dict(pairwise(words))
    verdict = said.get("-j", "").lower()
    if verdict not in (ACCEPT, "drop", "reject"):
        return
    ports = next((said[name] for name in _MULTIPORT if name in said), "")
    modules = {b for a, b in pairwise(words) if a == "-m"}
    options = {word for word in words if word.startswith("-") or word == "!"}
    narrow = bool(options - set(_HARMLESS)) or bool(modules - set(_SAME_AS_PROTOCOL))
    protocol = said.get("-p", "")
    entrance = chain in ("INPUT", "OUTPUT")
    yield Rule(chain, entrance, line, verdict, protocol, ports.replace(":", "-"), narrow)


def _covers(ports: str, port: int) -> bool:
    for part in ports.split(","):
        low, _, high = part.partition("-")
        first = _number(low)
        if first is not None and first <= port <= (_number(high) or first):
            return True
    return False


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else MDNS_PORT if text == "mdns" else None
