"""The own machine: does the instance run, may it use its folders, what stands in its way."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Final

from offload.doctor.facts import Facts, Firewall, Place
from offload.doctor.findings import Check, Finding
from offload.doctor.firewall import MDNS_PORT, Rule, read, stops
from offload.peers.discovery.addresses import DEFAULT_PORT
from offload.sizes import size_text

_START: Final = "start it: offload run app.py"
_REMOTE: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afpfs", "fuse.sshfs")
_LEAST_INODES: Final = 1000
SHORT_ID: Final = 8


def instance(facts: Facts) -> Iterator[Finding]:
    """Does it run?"""
    own = facts.instance
    check = Check("instance", f"who runs on {own.data_dir}")
    if own.running:
        yield check.ok(f"{own.name} ({own.id[:SHORT_ID]}) runs as process {own.pid}")
    elif own.pid is not None:
        who = f"process {own.pid}" if own.pid else "a process"
        yield check.fault(
            f"{who} has the data directory, and does not answer",
            "look into its log; if it hangs, end it and start it again",
        )
    elif not own.id:
        yield check.warning("no instance was ever started there", _START)
    else:
        yield check.warning(f"{own.name} ({own.id[:SHORT_ID]}) does not run", _START)


def data_directory(facts: Facts) -> Iterator[Finding]:
    """May it use its folders, and nobody else?"""
    check = Check("permissions", "the instance's folders and keys")
    uid = facts.platform.uid
    there = [place for place in facts.places if place.mode is not None]
    for place in facts.places:
        if place.trouble:
            yield check.fault(f"{place.path}: {place.trouble}", "look at the folders above it")
            return
    for place in there:
        if uid not in (0, place.owner):
            yield check.fault(
                f"{place.path} belongs to another user (uid {place.owner})",
                f"run as that user, or: chown -R {uid} {place.path}",
            )
            return
    for place in facts.places:
        if not place.writable:
            what = "cannot be written" if place.mode is not None else "cannot be made"
            yield check.fault(f"{place.path} {what}", "chmod u+w, or choose another: --data-dir")
            return
    open_ones = [place for place in there if _is_open(place, there)]
    if open_ones:
        paths = ", ".join(place.path for place in open_ones)
        yield check.warning(f"others may look into {paths}", f"chmod go-rwx {paths}")
    elif there:
        yield check.ok("they are the instance's alone")
    else:
        yield check.ok("there are none yet, and they can be made")


def disk(facts: Facts) -> Iterator[Finding]:
    """Is there room, on a disk that can be trusted?"""
    check, found = Check("disk", "where the data directory is"), facts.disk
    if found is None:
        yield check.not_tested("the folder cannot be looked at")
        return
    free = f"{size_text(found.free_bytes)} free"
    if found.read_only:
        yield check.fault("it can only be read", "mount it for writing, or choose another folder")
    elif found.free_bytes < found.least_bytes:
        least = f"limits.disk_free ({size_text(found.least_bytes)})"
        yield check.fault(
            f"{free}: less than {least}, so no jobs of others are taken",
            "make room: offload jobs --state succeeded, results and blobs in the data directory",
        )
    elif found.free_inodes is not None and found.free_inodes < _LEAST_INODES:
        yield check.fault(f"only {found.free_inodes} more files fit on it", "remove some files")
    elif found.kind in _REMOTE:
        yield check.warning(
            f"{free}, but it is a network disk ({found.kind}), where a power cut can lose jobs",
            "a local folder: node.data_dir",
        )
    elif found.kind == "tmpfs":
        yield check.warning(
            f"{free}, but it is memory: jobs are lost when the machine restarts",
            "a folder on a disk: node.data_dir",
        )
    else:
        yield check.ok(free)


def machine(facts: Facts) -> Iterator[Finding]:
    """Is it one whose network is not that of the LAN?"""
    check, found = Check("machine", "container, WSL, VPN"), facts.platform
    tunnels = [i.name for i in facts.interfaces if i.up and i.virtual and i.networks]
    out = found.default_interface
    if facts.port.local:
        yield check.ok("the instance is reached from this machine only, so it does not matter")
    elif "microsoft" in found.kernel.lower():
        yield check.warning(
            "this is WSL: its network is one of its own behind that of Windows",
            "networkingMode=mirrored in .wslconfig; or name the peers: [discovery] peers",
        )
    elif found.marks:
        yield check.warning(
            f"this is a container ({', '.join(found.marks)}): its network may end at a bridge",
            "give it the host's network; or node.advertise, and name the peers: [discovery] peers",
        )
    elif out and any(i.name == out and i.virtual for i in facts.interfaces):
        yield check.warning(
            f"a VPN or bridge ({out}) is the way to all other networks",
            "if the LAN is not reached: end it, or name the LAN's: [discovery] interfaces",
        )
    elif tunnels:
        yield check.ok(f"none that is in the way; {', '.join(tunnels)} is not used")
    else:
        yield check.ok("none of them")


def firewall(facts: Facts) -> Iterator[Finding]:
    """Does the packet filter stop us?"""
    port = facts.port.number or DEFAULT_PORT
    wanted = [("tcp", port)]
    if facts.mdns.on:
        wanted.append(("udp", MDNS_PORT))
    names = " and ".join(f"{protocol.upper()} {number}" for protocol, number in wanted)
    check, found = Check("firewall", f"rules about {names}"), facts.firewall
    if not found.tool:
        hint = _hint(found, port)
        yield check.not_tested(found.reason, hint)
        return
    rules = read(found.tool, found.rules)
    found_any = False
    for protocol, number in wanted:
        for rule in stops(rules, protocol, number)[:3]:
            found_any = True
            yield check.warning(
                f"{protocol.upper()} {number} is stopped by {rule.chain}: {rule.text}",
                f"if others are not seen: {_remedy(found.tool, rule, protocol, number)}",
            )
    if not found_any:
        yield check.ok(f"{found.tool} has no rule that stops them")


def _is_open(place: Place, there: Sequence[Place]) -> bool:
    """Say whether others may look into it: neither it nor what it lies in keeps them out."""
    above = {str(path) for path in PurePath(place.path).parents}
    return all(p.mode and p.mode & 0o077 for p in there if p is place or p.path in above)


def _hint(found: Firewall, port: int) -> str:
    if "ufw" in found.services:
        return f"if others are not seen: ufw allow {MDNS_PORT}/udp; ufw allow {port}/tcp"
    if "firewalld" in found.services:
        words = f"--add-service=mdns --add-port={port}/tcp"
        return f"if others are not seen: firewall-cmd --permanent {words}; firewall-cmd --reload"
    return (
        f"if others are not seen, as root: nft list ruleset | grep -E '{MDNS_PORT}|{port}|policy'"
    )


def _remedy(tool: str, rule: Rule, protocol: str, port: int) -> str:
    if tool == "nft":
        return f"nft insert rule {rule.chain} {protocol} dport {port} accept"
    return f"iptables -I {rule.chain} -p {protocol} --dport {port} -j ACCEPT"
