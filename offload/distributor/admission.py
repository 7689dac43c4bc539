"""Whether this instance takes a job that another offers; asked anew for each."""

from collections.abc import Callable

from offload.blobs import Blobs
from offload.distributor.allowed import Allowed
from offload.distributor.bounds import Gate
from offload.distributor.doors import Doors
from offload.distributor.wire import Offer
from offload.peers.topology import Instance
from offload.work.executors import NOT_KILLABLE
from offload.work.jobs import Delivery
from offload.work.manager import Manager


class Admission:
    """
    All that keeps a job of another out, put together.

    Args:
        manager: Knows what can be run here, and with which resources.
        blobs: Know which files are here already.
        doors: What may start here.
        allowed: Whom the rules let send it.
        gate: How much of others may be here.
        own: This instance as it has announced itself.

    Attributes:
        draining: Nothing is taken any more: the instance is about to end.
    """

    def __init__(
        self,
        manager: Manager,
        blobs: Blobs,
        doors: Doors,
        allowed: Allowed,
        gate: Gate,
        own: Callable[[], Instance],
    ) -> None:
        self.draining = False
        self._runs = manager.runs
        self._blobs = blobs
        self._doors = doors
        self._allowed = allowed
        self._gate = gate
        self._own = own

    def closed(self) -> str:
        """Say why nothing of others starts here now, whatever its topic; "" if it may."""
        return self._doors.reserved() or self._gate.closed()

    def shut(self) -> str:
        """Say why nothing of others is taken now; "" if it is."""
        return "is draining" if self.draining else self.closed()

    def refusal(self, peer: str, offer: Offer, coming: int) -> str:
        """Say why an offer can't be taken now, with so many before it; "" if it can."""
        spec, topic = offer.spec, offer.spec.topic
        return (
            self._allowed.refusal(peer, topic, spec.weight())
            or self.shut()
            or self._gate.shelf(coming)
            or self._doors.closed_to_others(topic, self._runs.queue_name(topic))
            or self._cannot_run(offer)
            or self._has_no_room(offer)
            or self._does_not_share(offer)
            or self._runs.stock.never(spec.needs)
        )

    def _cannot_run(self, offer: Offer) -> str:
        if not self._doors.takes(offer.spec.topic):
            return f"has no consumer for topic {offer.spec.topic}"
        exclusive = offer.spec.delivery is Delivery.EXCLUSIVE
        return NOT_KILLABLE if exclusive and not self._runs.killable(offer.spec.topic) else ""

    def _has_no_room(self, offer: Offer) -> str:
        inputs = offer.spec.inputs()
        return self._gate.room(sum(size for blob, size in inputs if not self._blobs.has(blob)))

    def _does_not_share(self, offer: Offer) -> str:
        own, needed = self._own().shared, offer.spec.shares()
        missing = next((folder for folder in needed if folder not in own), None)
        return "" if missing is None else f"does not have the shared folder '{missing}'"
