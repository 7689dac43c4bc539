"""What the probes have seen, and the rules judge: plain values, without a judgement."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from offload.peers.discovery.looking import Shown
from offload.peers.discovery.soundings import Heard
from offload.peers.topology import Address
from offload.peers.transport import LinkRefused
from offload.peers.transport.visit import Visit


@dataclass(frozen=True, slots=True)
class Instance:
    """
    The own instance, as far as it is known.

    Attributes:
        id: "" if it was never started.
        life: Which life of it runs; "" if none does.
        pid: The process that has its folder, also one that does not answer; None: nobody.
        versions: Of the protocol, the lowest and the highest.
        insecure: Whether its links are plain.
        group: What its group is known by; "" for none.
        group_name: What people call that group; "" if no person made it.
        trouble: Why it may not take part in its group, or "".
        twins: What it was told of others with its id.
    """

    data_dir: str
    id: str = ""
    name: str = ""
    life: str = ""
    running: bool = False
    pid: int | None = None
    realm: str = "default"
    versions: tuple[int, int] = (1, 1)
    insecure: bool = False
    group: str = ""
    group_name: str = ""
    trouble: str = ""
    twins: tuple[str, ...] = ()

    def could_link(self, realm: str, group: str) -> bool:
        """Say whether such a one could be a peer; of any group, if ours is unknown."""
        return realm == self.realm and (group == self.group or not self.id)


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder; ``owner`` and ``mode`` None: it is not there."""

    path: str
    owner: int | None
    mode: int | None
    writable: bool
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds the data directory; ``kind``: as the system calls it, or ""."""

    free_bytes: int
    free_inodes: int | None
    kind: str
    read_only: bool
    least_bytes: int


@dataclass(frozen=True, slots=True)
class Platform:
    """
    What machine this is.

    Attributes:
        system: As Python names it, such as ``linux``.
        kernel: Its release.
        marks: What tells of a container, such as ``/.dockerenv``.
        uid: Who asks.
        default_interface: By which interface other networks are reached; "" if that is not known.
    """

    system: str
    kernel: str = ""
    marks: tuple[str, ...] = ()
    uid: int = 0
    default_interface: str = ""


@dataclass(frozen=True, slots=True)
class Interface:
    """
    A network interface.

    Attributes:
        networks: Its addresses with the length of their networks, such as ``192.0.2.1/24``.
        used: Whether mDNS goes by it.
        virtual: Whether its name is that of a bridge or tunnel.
    """

    name: str
    up: bool
    networks: tuple[str, ...]
    used: bool
    virtual: bool


@dataclass(frozen=True, slots=True)
class Port:
    """
    The port of the link.

    Attributes:
        number: Which; 0: any free one.
        wanted: Which one the configuration names; None: none.
        listen: The addresses that it is, or would be, listened on.
        local: Whether these are of this machine only.
        trouble: Why it cannot be had, or is not answered here; "" if all is well.
    """

    number: int
    wanted: int | None
    listen: tuple[str, ...]
    local: bool
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Firewall:
    """
    The packet filter of this machine.

    Attributes:
        tool: What its rules were read by; "" if they were not.
        rules: The text of the rules, as the tool prints them.
        reason: Why they were not read.
        services: Programs that keep a firewall, and are here.
    """

    tool: str
    rules: str = ""
    reason: str = ""
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sounding:
    """
    What came of soundings on one way.

    Attributes:
        address: Our address there.
        unsent: Why it was not sent, or "".
        deaf: Why nothing can be heard, or "".
        returned: Whether our own packet came back, as the system does with multicast.
        near: Names of linked peers in the same network that were asked.
        heard_us: Those of them that heard us.
        heard: Those of them that we heard.
    """

    interface: str
    address: str
    unsent: str = ""
    deaf: str = ""
    returned: bool = True
    near: tuple[str, ...] = ()
    heard_us: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a peer answered when it was asked to sound.

    Attributes:
        reason: Why it could not; "" if it has.
        heard: Where it heard our sounding.
        unsent: By interface, why it could not sound itself.
        knocked: Our addresses, and what came of its knocking there: "" if we answered.
    """

    reason: str = ""
    heard: tuple[Heard, ...] = ()
    unsent: Mapping[str, str] = field(default_factory=dict)
    knocked: Mapping[Address, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """
    A member of the topology other than us.

    Attributes:
        linked: Whether we have a link to it.
        dialled: Whether we have dialled that.
        ahead_s: By how much its clock is ahead of ours; None: not measured.
        answer: What it answered; None: it was not asked.
    """

    id: str
    name: str
    addresses: tuple[Address, ...]
    linked: bool
    dialled: bool = False
    silent: bool = False
    ahead_s: float | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """
    Somebody who was visited.

    Attributes:
        address: Where.
        asked: Whether the person asked for it.
        fixed: Whether the configuration names it.
        visit: What came of it.
        shown: What mDNS shows there.
        near: Whether it is in a network of ours.
        greeted: Whether its hello was asked for; else only its port was tried.
    """

    address: Address
    asked: bool
    fixed: bool
    visit: Visit
    shown: Shown | None
    near: bool
    greeted: bool = True


@dataclass(frozen=True, slots=True)
class Mdns:
    """
    A look around by mDNS.

    Attributes:
        on: Whether the configuration wants mDNS.
        trouble: Why nobody could be looked for, or "".
        shown: Who showed themselves.
    """

    on: bool
    trouble: str = ""
    shown: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """
    All of it.

    Attributes:
        refused: Who was reached and not linked with, for its version.
        unknown_interfaces: Those that the configuration names, and nobody has.
    """

    instance: Instance
    platform: Platform
    places: tuple[Place, ...]
    disk: Disk | None
    interfaces: tuple[Interface, ...]
    port: Port
    firewall: Firewall
    mdns: Mdns
    soundings: tuple[Sounding, ...] = ()
    peers: tuple[Peer, ...] = ()
    targets: tuple[Target, ...] = ()
    refused: tuple[LinkRefused, ...] = ()
    unknown_interfaces: tuple[str, ...] = ()
