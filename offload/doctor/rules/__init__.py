"""Facts in, findings out. Pure: ``here`` judges the machine, ``network`` its ways, ``others``."""

from collections.abc import Callable, Iterable
from typing import Final

from offload.doctor.facts import Facts
from offload.doctor.findings import Finding
from offload.doctor.rules import here, network, others

_ALL: Final[tuple[Callable[[Facts], Iterable[Finding]], ...]] = (
    here.instance,
    here.data_directory,
    here.disk,
    here.machine,
    network.interfaces,
    network.port,
    here.firewall,
    network.multicast,
    others.group,
    others.identity,
    others.mdns,
    others.members,
    others.refused,
    others.clock,
    others.targets,
)


def judged(facts: Facts) -> list[Finding]:
    """Return what the facts mean, in the order in which one looks for a fault."""
    return [finding for rule in _ALL for finding in rule(facts)]
