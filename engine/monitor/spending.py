"""What a study takes of its cluster: node-hours, kept while phases run, and their money by a price table.

All nodes that are up count, at work or not: a cloud charges for both. What a node cost before the first phase and after
the last one is not seen.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.cluster import nodes, session
from engine.cluster.files import NodeGroup
from engine.cluster.nodes import Node
from engine.cluster.rates import Rates
from engine.storage.ledger import Ledger
from engine.storage.records import Spent


class Meter:
    """Adds the nodes that are up to what the study has taken before."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.hours, self.last = ledger, dict(ledger.spent().node_hours), time.monotonic()

    def tick(self) -> None:
        """Counts the time since the last call for each node that is up now, and keeps the sum."""
        self.add(session.live_nodes(), time.monotonic())
        self.ledger.put_spent(Spent(node_hours=dict(self.hours)))

    def add(self, up: Sequence[Node], now: float) -> None:
        """`now` in seconds of the clock that the meter began with."""
        for node in up:
            kind = nodes.describe_node(node)
            self.hours[kind] = self.hours.get(kind, 0.0) + (now - self.last) / 3600
        self.last = now


class Cost(NamedTuple):
    """Hours of nodes of one kind, and their money between all on spot and all on demand; None without a price."""

    kind: str
    hours: float
    spot: float | None
    on_demand: float | None


def price(node_hours: Mapping[str, float], groups: Sequence[NodeGroup], rates: Rates | None) -> list[Cost]:
    """What nodes cost on the instances of a cluster's file; of several of one kind, the cheapest."""
    return [price_kind(kind, hours, groups, rates) for kind, hours in sorted(node_hours.items())]


def price_kind(kind: str, hours: float, groups: Sequence[NodeGroup], rates: Rates | None) -> Cost:
    """Nodes of one kind."""
    alike = {group.instance for group in groups if nodes.name_node(group.n_gpus, group.accelerator) == kind}
    known = [rates.hourly[name] for name in sorted(alike) if rates and name in rates.hourly]
    if not known:
        return Cost(kind, hours, None, None)
    rate = min(known, key=lambda rate: rate.on_demand)
    return Cost(kind, hours, hours * (rate.spot or rate.on_demand), hours * rate.on_demand)
