"""The faces: what answers questions about jobs and instances, and what keeps order."""

import logging
from typing import Any

from offload.adoption import Adoption
from offload.feed import Feed
from offload.finder import Finder
from offload.history import History
from offload.housekeeping import Housekeeping
from offload.job import Desk
from offload.leases import watch_s
from offload.node.house.joints import Joints
from offload.peers.transport import LinkUp
from offload.queueing import Queueing
from offload.report import Report
from offload.sightings import Sightings
from offload.statistics import Statistics
from offload.version import VERSION

log = logging.getLogger(__name__)


class Faces(Joints):
    """The rooms that others than rooms talk to."""

    def _build_faces(self) -> None:
        self.feed = Feed(self._bus, self.store)
        self.sightings = Sightings(self._bus, self.clock, lambda: self.membership.view)
        self.statistics = Statistics(self._bus, self.clock, self.store)
        self._build_report()
        self._build_desks()
        self._build_adoption()
        self._build_housekeeping()

    def _build_report(self) -> None:
        """Build what describes this instance and its jobs."""
        self.report = Report(
            data_dir=self._data_dir,
            store=self.store,
            blobs=self.blobs,
            manager=self.manager,
            distributor=self.distributor,
            view=lambda: self.membership.view,
            names=self.names,
            links=self.transport.peers,
            refusals=self.transport.refusals,
            facts=self._facts,
            trust=self.standing.trust,
            policy=self.owner.as_json,
            pulse=self.membership.pulse,
            links_of=self.membership.links_of,
            way_to=self.membership.way_to,
            clock=self.clock,
        )

    def _build_desks(self) -> None:
        """Build what finds jobs and queues, and gives them into people's hands."""
        self.finder = Finder(
            self.store, self.distributor, self.report, self.names, self.clock, self.id
        )
        self.desk = Desk(
            self.store,
            self.blobs,
            self._bus,
            stop=self.distributor.stop,
            describe=self.report.job,
        )
        self.queueing = Queueing(
            self.store,
            self.manager,
            self.clock.now,
            lambda: self._rules.config,
            self.statistics.as_json,
        )

    def _build_adoption(self) -> None:
        """Build what takes over the jobs of a dead machine."""
        self.adoption = Adoption(
            self.store,
            self.blobs,
            self.manager,
            self.clock,
            own=(self.id, self.name),
            lease_over_s=watch_s(self._rules.config.timing.lease_s),
        )
        self._bus.listen(LinkUp, self._back_from_the_dead)

    def _build_housekeeping(self) -> None:
        """Build what throws away what is over and done with."""
        rules, forget = self._rules, self.manager.leftovers.forget
        history = History(self.store, self.clock, forget, rules.retention, rules.keeps)
        self.housekeeping = Housekeeping(
            self.store, self.blobs, self.clock, history, rules.keeping, self._scarce
        )

    def _facts(self) -> dict[str, Any]:
        node = self._rules.config.node
        return {
            "id": self.id,
            "name": self.name,
            "version": VERSION,
            "port": self.transport.port,
            "realm": node.realm,
            "insecure": node.insecure,
            "listen": list(self.standing.listen),
            **self.standing.facts(),
        }

    def _back_from_the_dead(self, link: LinkUp) -> None:
        if link.hello.store_id in self.adoption.stores:
            log.warning(
                "%s is back, though its jobs were adopted here: they may run twice;"
                " give it a new data directory",
                link.hello.name,
            )
