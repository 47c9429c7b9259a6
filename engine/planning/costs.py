"""What a study costs on the nodes of a cluster file: GPU-hours by phase and size, time, money, and what fits nowhere.

Each piece of work, such as all fine-tunes of one size, is counted on the instance where it costs least at the price on
demand, at that instance's speed. Of a node it pays for the GPUs that it takes: nodes that wait are counted only where
the file keeps them up. Time is a lower bound: in each phase, all GPUs of an instance share its work evenly.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TypeVar

from engine.cluster import policy
from engine.cluster.files import NodeGroup
from engine.cluster.machines import GIB, Cluster, NodeType, ServingPlacement
from engine.cluster.nodes import KNOWN_GIB
from engine.cluster.policy import Need
from engine.cluster.rates import Rates
from engine.planning import estimate, prices, room
from engine.planning.estimate import Speeds
from engine.planning.plan import place_trial
from engine.planning.prices import PhaseCost
from engine.storage.records import Planned

PHASES = ("self-play", "fine-tune", "evaluate")
SYSTEM_GIB = 60.0  # of a node's disk: its operating system, the image, Ray's logs and spilled objects
NODE_START_H = 0.25  # until the first nodes are rented, set up and have their weights
NODES_TO_SUGGEST = ((1, "L4"), (1, "H100"), (8, "H100"), (8, "H200"))  # GPUs of one node, the smallest first
MOST_SUGGESTED = 4  # such nodes
Price = Callable[[Sequence[Planned]], PhaseCost]
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Work of one phase on one model for some trials: all of its jobs need the same GPUs. `price`: its GPU-hours."""

    phase: str
    model: str
    need: Need
    planned: tuple[Planned, ...]
    price: Price


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A piece on an instance: its GPU-hours there, and the hours of its longest fine-tune."""

    piece: Piece
    group: NodeGroup
    hours: float
    longest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """What the nodes of one instance cost. The money is None where the price table has no price."""

    instance: str
    fewest: int
    most: int
    gpu_hours: float
    node_hours: float
    on_demand: float | None
    spot: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What remains of a study on a cluster: pieces with their instance, pieces without, each with why and what would
    help, the hours until all is done, at least, and the bills by instance."""

    placed: list[Placed]
    unplaced: list[tuple[Piece, str]]
    hours: float
    bills: list[Bill]


def count(planned: Sequence[Planned], groups: Sequence[NodeGroup], rates: Rates, speeds: Speeds) -> Costs:
    """The costs of what remains of a study."""
    instances = merge([group for group in groups if group.most])
    with_gpus = [group for group in instances if group.n_gpus]
    placed: list[Placed] = []
    unplaced: list[tuple[Piece, str]] = []
    for piece in split(planned):
        able = [place(piece, group, speeds) for group in with_gpus if piece.need.fits and not why_not(piece, group)]
        if able:
            placed.append(min(able, key=lambda one: rank(one, rates)))
        else:
            unplaced.append((piece, explain(piece, with_gpus)))
    hours = shortest_hours(placed)
    bills = [bill(group, groups, placed, hours, rates) for group in instances]
    return Costs(placed=placed, unplaced=unplaced, hours=hours, bills=[b for b in bills if b.node_hours])


def merge(groups: Sequence[NodeGroup]) -> list[NodeGroup]:
    """One group per instance, with the nodes of all: those on spot and on demand are the same machines."""
    return [
        alike[0].model_copy(update={name: sum(getattr(g, name) for g in alike) for name in ("fewest", "most")})
        for alike in group_by(groups, lambda group: group.instance).values()
    ]


def group_by(items: Sequence[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items in groups of equal key, in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


# ---- the work --------------------------------------------------------------------------------------------------------


def split(planned: Sequence[Planned]) -> Iterator[Piece]:
    """What remains of a study in pieces, whose hours add up to what `prices.price_phases` counts."""
    unscored = [p for p in planned if p.state not in ("done", "stale", "damaged")]
    untrained = [p for p in unscored if p.state != "trained"]
    for model, some in group_by(untrained, lambda p: p.trial.writer).items():
        largest = max((p.writing for p in some), key=policy.n_devices)
        piece = Piece(phase="self-play", model=model, need=largest, planned=tuple(some), price=price_pools(planned))
        if piece.price(some).hours:
            yield piece
    for some in group_by(untrained, name_fine_tune).values():
        model, place = some[0].trial.trainee, some[0].training
        yield Piece(phase="fine-tune", model=model, need=place, planned=tuple(some), price=prices.price_training)
    for (model, need), some in group_by(unscored, lambda p: (p.trial.trainee, p.serving)).items():
        yield Piece(phase="evaluate", model=model, need=need, planned=tuple(some), price=prices.price_evaluation)


def name_fine_tune(p: Planned) -> tuple[object, ...]:
    """Equal for fine-tunes of one model that need the same GPUs."""
    return p.trial.trainee, p.training.n_workers, p.training.accelerator, p.training.fits


def price_pools(planned: Sequence[Planned]) -> Price:
    """The price of the pools that trials need, without what was written for other trials of the study."""
    written = [p for p in planned if p.state in ("trained", "done")]
    return lambda untrained: prices.price_selfplay([*untrained, *written], untrained)


def place(piece: Piece, group: NodeGroup, speeds: Speeds) -> Placed:
    """A piece at the speed of a group's GPUs."""
    there = [pin(p, group.accelerator, speeds) for p in piece.planned]
    longest = max(p.estimate.seconds for p in there) / 3600 if piece.phase == "fine-tune" else 0.0
    return Placed(piece=piece, group=group, hours=piece.price(there).hours, longest=longest)


def pin(p: Planned, accelerator: str, speeds: Speeds) -> Planned:
    """A trial that runs on GPUs of one kind."""
    training = replace(p.training, accelerator=accelerator)
    return replace(
        p,
        training=training,
        serving=replace(p.serving, accelerator=accelerator),
        writing=replace(p.writing, accelerator=accelerator),
        estimate=estimate.estimate(p.trial, p.items, training, speeds),
    )


def rank(placed: Placed, rates: Rates) -> tuple[bool, bool, float]:
    """The less, the better: on one node before several, with a price before without, then cheap before dear."""
    group, rate = placed.group, rates.hourly.get(placed.group.instance)
    cost = placed.hours / group.n_gpus * rate.on_demand if rate else placed.hours
    return policy.n_devices(placed.piece.need) > group.n_gpus, rate is None, cost


# ---- what fits -------------------------------------------------------------------------------------------------------


def why_not(piece: Piece, group: NodeGroup) -> str:
    """Why nodes of a group cannot run a piece, and what to change; empty if they can."""
    need, n = piece.need, policy.n_devices(piece.need)
    if need.accelerator not in ("", group.accelerator):
        return f"{group.name} has no {need.accelerator}"
    if n > (group.n_gpus if isinstance(need, ServingPlacement) else group.n_gpus * group.most):
        return f"{group.name} has {group.most} nodes of {group.n_gpus} GPUs, {n} GPUs are needed: use larger nodes"
    n_here = min(n, group.n_gpus)
    if n_here > group.n_cpus:
        return f"{group.name} has {group.n_cpus} CPUs for {n_here} processes: use an instance with more"
    if (needed := disk_gib(piece, group.n_gpus // n_here)) > group.disk_gib:
        return f"{group.name} has a disk of {group.disk_gib:.0f} GiB, {needed:.0f} GiB are needed: use a larger disk"
    return ""


def disk_gib(piece: Piece, at_once: int) -> float:
    """What a node's disk holds: the system, the weights, and of fine-tunes that run at once, two checkpoints each."""
    trials = [p.trial for p in piece.planned]
    weights = max(prices.weight_bytes(piece.model, trial.precision) for trial in trials)
    checkpoints = 2 * at_once * max(map(room.checkpoint_bytes, trials)) if piece.phase == "fine-tune" else 0.0
    return SYSTEM_GIB + (weights + checkpoints) / GIB


def explain(piece: Piece, groups: Sequence[NodeGroup]) -> str:
    """Why a piece has no place, and what would make it fit."""
    if piece.need.fits:
        return "; ".join(why_not(piece, group) for group in groups)
    return f"{piece.need.reason}; {suggest(piece)}"


def suggest(piece: Piece) -> str:
    """The nodes that would hold a piece: as few as possible, then as small as possible."""
    fitting = [(n, n_gpus, kind) for n_gpus, kind in NODES_TO_SUGGEST if (n := count_nodes(piece, n_gpus, kind))]
    if not fitting:
        return f"not even {MOST_SUGGESTED} nodes with 8 × H200 hold it: use LoRA, or a smaller model"
    n_nodes, n_gpus, kind = min(fitting, key=lambda one: one[0])
    return f"would fit {n_nodes} node(s) with {n_gpus} × {kind} ({KNOWN_GIB[kind]:.0f} GiB each)"


def count_nodes(piece: Piece, n_gpus: int, kind: str) -> int:
    """How many nodes with so many GPUs of a kind a piece would take; 0 if `MOST_SUGGESTED` do not hold it."""
    node = NodeType(device="gpu", n_cpus=64, n_gpus=n_gpus, device_gib=KNOWN_GIB[kind], count=MOST_SUGGESTED)
    need = need_on(piece, Cluster(nodes=(node,)))
    return ceil(policy.n_devices(need) / n_gpus) if need.fits else 0


def need_on(piece: Piece, cluster: Cluster) -> Need:
    """What a piece would need on another cluster."""
    p = piece.planned[0]
    training, serving, writing = place_trial(p.trial, p.items, cluster)
    needs: dict[str, Need] = {"self-play": writing, "fine-tune": training, "evaluate": serving}
    return needs[piece.phase]


# ---- time and money --------------------------------------------------------------------------------------------------


def shortest_hours(placed: Sequence[Placed]) -> float:
    """Hours until all is done, at least: the phases follow one another, the instances work side by side."""
    phases = [shortest_phase([one for one in placed if one.piece.phase == phase]) for phase in PHASES]
    return sum(phases) + NODE_START_H if placed else 0.0


def shortest_phase(placed: Sequence[Placed]) -> float:
    """Hours of one phase, at least."""
    shares = group_by(placed, lambda one: one.group)
    even = [sum(one.hours for one in some) / (group.most * group.n_gpus) for group, some in shares.items()]
    return max([*even, *(one.longest for one in placed)], default=0.0)


def bill(
    instance: NodeGroup, groups: Sequence[NodeGroup], placed: Sequence[Placed], hours: float, rates: Rates
) -> Bill:
    """What an instance costs: its share of nodes for the work, and all of the nodes that are always up.

    The head and other nodes that no group rents on spot are paid for on demand.
    """
    gpu_hours = sum(one.hours for one in placed if one.group == instance)
    node_hours = max(gpu_hours / max(1, instance.n_gpus), instance.fewest * hours)
    rate = rates.hourly.get(instance.instance)
    has_spot = any(group.spot for group in groups if group.instance == instance.instance)
    on_demand = rate.on_demand if rate else None
    spot = rate.spot if rate and has_spot else on_demand
    return Bill(
        instance=instance.instance,
        fewest=instance.fewest,
        most=instance.most,
        gpu_hours=gpu_hours,
        node_hours=node_hours,
        on_demand=on_demand and node_hours * on_demand,
        spot=spot and node_hours * spot,
    )
