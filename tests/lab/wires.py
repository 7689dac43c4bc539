"""
What lies between the hosts: bridges, a wire that delays and loses, routers.

All of it is in namespaces of its own. Where a kernel has no ``tc netem``, CI's for one, only a
switch of our own can delay packets (``switch``).
"""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SWITCH: Final = Path(__file__).with_name("switch.py")
FORWARDING: Final = "echo 1 > /proc/sys/net/ipv4/ip_forward"


@dataclass(frozen=True, slots=True)
class Plug:
    """Where an interface (``device``) of host ``number`` is plugged in."""

    number: int
    device: str
    bridge: int

    @property
    def address(self) -> str:
        """The IPv4 address there."""
        return f"10.99.{self.bridge}.{self.number}"

    @property
    def socket(self) -> str:
        """Its name at the switch."""
        return f"p{self.number}s{self.bridge}"


@dataclass(frozen=True, slots=True)
class Weather:
    """What becomes of packets, each way."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0


class Wires:
    """The switch and the routers of one LAN; the names of their namespaces begin with ``name``."""

    def __init__(self, name: str, *, ipv4: bool, weather: Weather | None) -> None:
        self.switch = f"{name}-switch"
        self.spaces = [self.switch]
        self._ipv4 = ipv4
        self._weather = weather
        self._sockets: list[str] = []
        self._worker: subprocess.Popen[str] | None = None

    def up(self, plugs: Iterable[Plug]) -> None:
        """Create the switch."""
        ip("netns", "add", self.switch)
        if self._weather is None:
            for bridge in sorted({plug.bridge for plug in plugs}):
                ip("-n", self.switch, "link", "add", f"bridge{bridge}", "type", "bridge")
                ip("-n", self.switch, "link", "set", f"bridge{bridge}", "up")

    def connect(self, space: str, plug: Plug) -> None:
        """Give the host in ``space`` an interface, and plug it in."""
        link = ("link", "add", plug.socket, "type", "veth")
        ip("-n", self.switch, *link, "peer", "name", plug.device, "netns", space)
        if self._weather is None:
            ip("-n", self.switch, "link", "set", plug.socket, "master", f"bridge{plug.bridge}")
        ip("-n", self.switch, "link", "set", plug.socket, "up")
        if self._weather is not None:
            whole = [sys.executable, str(SWITCH), "--whole", plug.device]
            run("ip", "netns", "exec", space, *whole)
        if self._ipv4:
            where = (f"{plug.address}/24", "brd", "+", "dev", plug.device)
            ip("-n", space, "address", "add", *where)
        ip("-n", space, "link", "set", plug.device, "up")
        if self._ipv4 and plug.device == "eth0":
            ip("-n", space, "route", "add", "224.0.0.0/4", "dev", "eth0")
        self._sockets.append(plug.socket)

    def begin(self) -> None:
        """Let packets through, in what weather there is."""
        if self._weather is None:
            return
        self._worker = subprocess.Popen(
            ["ip", "netns", "exec", self.switch, sys.executable, str(SWITCH), *self._sockets],
            stdin=subprocess.PIPE,
            text=True,
        )
        self.change(self._weather)

    def change(self, weather: Weather) -> None:
        """Have another weather."""
        assert self._worker is not None
        assert self._worker.stdin is not None
        line = f"{weather.delay_s} {weather.jitter_s} {weather.loss}\n"
        self._worker.stdin.write(line)
        self._worker.stdin.flush()

    def pull(self, plug: Plug) -> None:
        """Take a cable out."""
        ip("-n", self.switch, "link", "set", plug.socket, "down")

    def push(self, plug: Plug) -> None:
        """Put a cable back."""
        ip("-n", self.switch, "link", "set", plug.socket, "up")

    def route(self, one: int, other: int, hosts: Iterable[tuple[str, Plug]], *, nat: bool) -> None:
        """
        Put a router between two bridges, and tell the hosts of it.

        With ``nat`` those of bridge ``one`` can dial the others, whom the router's address is
        shown, and cannot be dialled.
        """
        space = f"{self.switch}-router"
        self.spaces.append(space)
        ip("netns", "add", space)
        for device, bridge in (("eth0", one), ("eth1", other)):
            self.connect(space, Plug(1, device, bridge))
        run("ip", "netns", "exec", space, "sh", "-c", FORWARDING)
        for host, plug in hosts:
            if not nat or plug.bridge == one:
                ip("-n", host, "route", "add", "default", "via", f"10.99.{plug.bridge}.1")
        if nat:
            hide = "add chain ip lab out { type nat hook postrouting priority 100; }"
            rule = "add rule ip lab out oifname eth1 masquerade"
            run("ip", "netns", "exec", space, "nft", f"add table ip lab; {hide}; {rule}")

    def down(self) -> None:
        """End what runs."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()


def ip(*words: str) -> str:
    """Run ``ip``; return what it prints."""
    return run("ip", *words)


def run(*words: str) -> str:
    """Run a program, which must succeed; return what it prints."""
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{' '.join(words)}: {told.stderr.strip()}"
    return told.stdout
