"""Which draws to make: pure functions, and what an actor is asked for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.cluster.machines import ServingPlacement
from engine.news.items import NewsItem
from engine.selfplay import pool
from engine.selfplay.pool import Draw
from engine.selfplay.protocols import Protocol
from engine.study import Precision, Sampling

Row = dict[str, Any]  # an order as plain data: what Ray Data keeps and sends
Protocols = Mapping[str, Protocol]  # by name
SPARE = 4  # an item gets at most this many times the draws that it would need if nothing were dropped


@dataclass(frozen=True, kw_only=True, slots=True)
class Generator:
    """The model that writes: its name and revision, how it runs. Each machine pulls it once."""

    name: str
    revision: str
    precision: Precision
    serving: ServingPlacement
    max_context: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """`wanted` distinct elements about one item under one protocol, into one pool.

    `source`: what seeds the sampling, see `Trial.source`.
    """

    item: NewsItem
    protocol: Protocol
    sampling: Sampling
    pool: str
    source: str
    wanted: int


def to_row(order: Order) -> Row:
    """An order as a row; its protocol is a name there."""
    item = {"id": order.item.id, "domain": order.item.domain, "text": order.item.text}
    into = {"protocol": order.protocol.name, "pool": order.pool, "source": order.source, "wanted": order.wanted}
    return item | into | asdict(order.sampling)


def from_row(row: Row, protocols: Protocols) -> Order:
    """The order of a row, without the questions about its item."""
    return Order(
        item=NewsItem(id=str(row["id"]), domain=str(row["domain"]), text=str(row["text"]), questions=()),
        protocol=protocols[row["protocol"]],
        sampling=Sampling(
            temperature=float(row["temperature"]), top_p=float(row["top_p"]), max_tokens=int(row["max_tokens"])
        ),
        pool=str(row["pool"]),
        source=str(row["source"]),
        wanted=int(row["wanted"]),
    )


def protocols_of(orders: Sequence[Order]) -> Protocols:
    """The protocols that orders name."""
    return {order.protocol.name: order.protocol for order in orders}


@dataclass(kw_only=True, slots=True)
class OpenOrder:
    """An order in work: its finished draws, how many draws run, and which numbers come next.

    `fault`: what its protocol's script did wrong; no draw is started after it. `reported`: elements, as progress.
    """

    order: Order
    draws: list[Draw]
    running: int = 0
    next_number: int = 0
    holes: list[int] = field(default_factory=list)
    fault: str = ""
    reported: int = 0


def n_more_draws(kept: int, n_draws: int, wanted: int, per_draw: int) -> int:
    """How many more draws an item needs, from what its draws gave so far; 0 if it has enough or tried enough."""
    most = SPARE * -(-wanted // per_draw) + SPARE
    if kept >= wanted or n_draws >= most:
        return 0
    rate = max(kept / n_draws, per_draw / SPARE) if n_draws else per_draw
    return int(min(-(-(wanted - kept) // max(rate, 1e-9)), most - n_draws))


def open_order(order: Order, draws: list[Draw]) -> OpenOrder:
    """The order with the draws that it has; numbers that are missing among them come first."""
    there = {d.number for d in draws}
    following = max(there, default=-1) + 1
    holes = [n for n in range(following) if n not in there]
    return OpenOrder(order=order, draws=draws, next_number=following, holes=holes)


def next_numbers(job: OpenOrder) -> list[int]:
    """Numbers of the draws to start now: holes left by a killed run, else a new wave once the last one has finished."""
    if job.running or job.fault:
        return []
    if job.holes:
        numbers, job.holes = job.holes, []
        return numbers
    kept, _ = pool.elements_of(job.draws, job.order.protocol)
    n = n_more_draws(len(kept), len(job.draws), job.order.wanted, job.order.protocol.per_draw)
    job.next_number += n
    return list(range(job.next_number - n, job.next_number))


def sampling_seed(revision: str, source: str, item: str, draw: int, stage: int, place: int) -> int:
    """The sampling seed of one prompt, from what it is and nothing else."""
    return int.from_bytes(hashlib.sha256(repr((revision, source, item, draw, stage, place)).encode()).digest()[:4])
