"""The peers of former days, in one small file: where to try when nothing else tells."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from offload.errors import Malformed
from offload.peers.topology import Address, check_id
from offload.traits import is_host

KEEP_S: Final = 30 * 86_400.0
PEER_LIMIT: Final = 256


@dataclass(frozen=True, slots=True)
class Remembered:
    """Where a peer was, and at which wall time it was seen last."""

    addresses: tuple[Address, ...]
    seen: float


def load(path: Path, wall: float) -> dict[str, Remembered]:
    """Return the peers of the last 30 days; a file that is missing or broken holds none."""
    try:
        content = json.loads(path.read_text("utf-8"))
        peers = {check_id(i): _entry(entry) for i, entry in content["peers"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Malformed):
        return {}
    # a wall clock that was ahead must not make a peer immortal
    return {i: p for i, p in peers.items() if abs(wall - p.seen) < KEEP_S}


def save(path: Path, peers: Mapping[str, Remembered]) -> None:
    """Write the peers seen last in place of the former file, whole or not at all."""
    latest = sorted(peers.items(), key=lambda item: item[1].seen, reverse=True)[:PEER_LIMIT]
    content = {"peers": {i: {"addresses": p.addresses, "seen": p.seen} for i, p in latest}}
    partial = path.with_name(path.name + ".new")
    partial.write_text(json.dumps(content, indent=1), "utf-8")
    partial.replace(path)


def _entry(entry: Any) -> Remembered:
    addresses = tuple((str(host), int(port)) for host, port in entry["addresses"])
    if not all(is_host(host) for host, _ in addresses):
        raise Malformed("peers: not an address")
    return Remembered(addresses, float(entry["seen"]))
