"""Looks at this machine: what it is, its disk, files, interfaces and packet filter. Blocks."""

import fcntl
import ipaddress
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from offload.datadir import DataDir
from offload.doctor.facts import Disk, Firewall, Interface, Place, Platform
from offload.peers.discovery.addresses import is_virtual

ROUTES: Final = Path("/proc/net/route")
ADMIN_PATHS: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
TOOL_S: Final = 3.0
RULES_LIMIT: Final = 1_000_000  # characters of them that are read
_MARKS: Final = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
_TOOLS: Final = {"nft": ("-n", "list", "ruleset"), "iptables": ("-S",)}
_SERVICES: Final = ("firewalld", "ufw", "opensnitchd", "pf")


def look_at_platform(root: Path = Path("/")) -> Platform:
    """Return what machine this is."""
    marks = [mark for mark in _MARKS if (root / mark.lstrip("/")).exists()]
    with suppress(OSError, ValueError):
        words = (root / "proc/1/cgroup").read_text("ascii")
        marks += [word for word in ("docker", "kubepods", "lxc") if f"/{word}" in words]
    return Platform(
        sys.platform, platform.release(), tuple(marks), os.geteuid(), _default_interface()
    )


def look_at_disk(folder: Path, least_bytes: int) -> Disk | None:
    """Return how the file system is that holds ``folder``, or will."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), None)
    if there is None:
        return None
    try:
        found = os.statvfs(there)
    except OSError:
        return None
    return Disk(
        free_bytes=found.f_bavail * found.f_frsize,
        free_inodes=found.f_favail if found.f_files else None,  # some file systems do not count
        kind=_kind_of(there.resolve()),
        read_only=bool(found.f_flag & os.ST_RDONLY),
        least_bytes=least_bytes,
    )


def look_at_places(paths: Iterable[Path]) -> tuple[Place, ...]:
    """Return how these files and folders are."""
    return tuple(_place(path) for path in paths)


def look_at_interfaces(used: Collection[str]) -> tuple[Interface, ...]:
    """Return all interfaces; ``used``: the addresses by which mDNS goes."""
    stats = psutil.net_if_stats()
    return tuple(
        Interface(
            name=name,
            up=name in stats and stats[name].isup,
            networks=tuple(_networks(entries)),
            used=any(entry.address in used for entry in entries),
            virtual=is_virtual(name),
        )
        for name, entries in psutil.net_if_addrs().items()
    )


def look_at_firewall() -> Firewall:
    """Return the rules of the packet filter, if they may be read."""
    services = tuple(_firewalls())
    if sys.platform != "linux":
        return Firewall(
            "", reason=f"there is no way to read it on {sys.platform}", services=services
        )
    if os.geteuid() != 0:
        return Firewall("", reason="only root may read its rules", services=services)
    reason = "neither nft nor iptables is here"
    for name, words in _TOOLS.items():
        tool = shutil.which(name, path=ADMIN_PATHS)
        if tool is None:
            continue
        try:
            told = subprocess.run(  # noqa: S603 - a fixed program of the system
                [tool, *words], capture_output=True, text=True, timeout=TOOL_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"{name}: {error}"
            continue
        if told.returncode == 0:
            return Firewall(name, told.stdout[:RULES_LIMIT], services=services)
        reason = f"{name}: {told.stderr.strip()}"
    return Firewall("", reason=reason, services=services)


def holder_of(place: DataDir) -> int | None:
    """Return the process that has the data directory; 0 if that is not known, None: nobody."""
    try:
        handle = os.open(place.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        return int(holder) if holder.isdecimal() else 0
    finally:
        os.close(handle)
    return None


# --- inside --------------------------------------------------------------------------------------


def _place(path: Path) -> Place:
    try:
        found = path.stat()
    except FileNotFoundError:
        above = next((p for p in path.parents if p.exists()), path)
        return Place(str(path), None, None, os.access(above, os.W_OK))
    except OSError as error:
        return Place(str(path), None, None, False, error.strerror or str(error))
    return Place(str(path), found.st_uid, found.st_mode & 0o777, os.access(path, os.W_OK))


def _kind_of(path: Path) -> str:
    """Return the kind of the file system that ``path`` is on; "" if that is not known."""
    with suppress(OSError):
        mounts = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
        return next((mounts[p] for p in (path, *path.parents) if p in mounts), "")
    return ""


def _networks(entries: Iterable[object]) -> Iterator[str]:
    for entry in entries:
        address, mask = getattr(entry, "address", ""), getattr(entry, "netmask", None)
        with suppress(ValueError):  # a hardware address is none
            host = ipaddress.ip_address(address.partition("%")[0])
            bits = int(ipaddress.ip_address(mask)) if mask else (1 << host.max_prefixlen) - 1
            yield f"{host}/{bits.bit_count()}"


def _default_interface() -> str:
    """Return by which interface other networks are reached; "" if that is not known."""
    with suppress(OSError, ValueError, IndexError):
        for line in ROUTES.read_text("ascii").splitlines()[1:]:
            name, destination = line.split()[:2]
            if destination == "00000000":
                return name
    return ""


def _firewalls() -> Iterator[str]:
    with suppress(OSError):
        if "ENABLED=yes" in Path("/etc/ufw/ufw.conf").read_text("utf-8"):
            yield "ufw"
    with suppress(psutil.Error, OSError):
        names = {process.info["name"] for process in psutil.process_iter(["name"])}
        yield from sorted(names & set(_SERVICES))
