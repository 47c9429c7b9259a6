"""The plan, and what self-play yielded, as a person reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from engine.cluster import policy
from engine.cluster.rates import Rates
from engine.models import catalogue
from engine.models.architecture import n_params
from engine.planning import prices
from engine.planning.costs import Costs, Piece
from engine.storage.records import Planned


def plan_table(planned: Sequence[Planned]) -> Table:
    """One row per trainee: the states of its trials and what those to do will cost; stale trials with what differs."""
    table = Table(title="Plan", caption=caption(planned), caption_justify="left")
    for name in ("trainee", "params", "done", "to do", "stale", "train FLOPs", "self-play FLOPs"):
        table.add_column(name, justify="left" if name == "trainee" else "right")
    for name in ("runs on", "GiB per device", "fine-tune"):
        table.add_column(name)
    for trainee in sorted({p.trial.trainee for p in planned}, key=size):
        table.add_row(*plan_row(trainee, [p for p in planned if p.trial.trainee == trainee]))
    return table


def size(trainee: str) -> int:
    """Parameters in all."""
    return n_params(catalogue.find(trainee).architecture)


def plan_row(trainee: str, planned: Sequence[Planned]) -> list[str]:
    """One size's row."""
    todo = [p for p in planned if p.state not in ("done", "stale", "damaged")]
    where = max((p.training for p in planned), key=lambda place: (not place.fits, place.n_workers, place.memory_gib))
    unfit = [place.reason for p in planned for place in (p.training, p.serving, p.writing) if not place.fits]
    untrained = [p for p in todo if p.state != "trained"]
    return [
        trainee,
        f"{size(trainee) / 1e9:.3g} B",
        str(sum(p.state == "done" for p in planned)),
        str(len(todo)),
        str(sum(p.state == "stale" for p in planned)),
        f"{sum(p.estimate.train_flops for p in untrained):.2g}",
        f"{sum(map(prices.flops_of, prices.most_per_pool(untrained).values())):.2g}",
        f"DOES NOT FIT: {unfit[0]}" if unfit else where.reason,
        f"{where.memory_gib:.1f}",
        duration(sum(p.estimate.seconds for p in untrained)),
    ]


def caption(planned: Sequence[Planned]) -> str:
    """What is stale, field by field, what cannot be read, and what failed."""
    lines = [f"{p.state} {p.trial.key}: {escape(d)}" for p in planned for d in p.differs]
    lines += [f"failed before, will be tried again: {p.trial.key}" for p in planned if p.state == "failed"]
    lines += [f"based on: {basis}" for basis in sorted({p.estimate.basis for p in planned})]
    lines.append("fine-tune: of all trials one after the other, starts included; self-play FLOPs: each pool once")
    return "\n".join(lines)


def price_table(planned: Sequence[Planned]) -> Table:
    """One row per phase: the hours that remain, and what they are made of."""
    on_gpus = planned[0].training.device == "gpu"
    table = Table(title="Expected GPU-hours" if on_gpus else "Expected hours on this machine", title_justify="left")
    for name in ("phase", "hours", "of which"):
        table.add_column(name, justify="right" if name == "hours" else "left")
    costs = prices.price_phases(planned)
    for cost in costs:
        table.add_row(cost.phase, f"{cost.hours:,.1f}", cost.basis)
    table.add_row("all", f"{sum(cost.hours for cost in costs):,.1f}", "")
    return table


def work_table(costs: Costs) -> Table:
    """One row per phase and size: the instance where it costs least, and its GPU-hours there; what has no place."""
    table = Table(title="GPU-hours by phase and size", title_justify="left", caption_justify="left")
    for name in ("phase", "model", "trials", "GPUs per job", "instance", "GPU-hours"):
        table.add_column(name, justify="left" if name in ("phase", "model", "instance") else "right")
    for one in costs.placed:
        piece = one.piece
        per_job = str(policy.n_devices(piece.need))
        table.add_row(*name_piece(piece), per_job, one.group.instance, f"{one.hours:,.1f}")
    for piece, why in costs.unplaced:
        table.add_row(*name_piece(piece), "–", "CANNOT BE PLACED", escape(why))
    table.add_row("all", "", "", "", "", f"{sum(one.hours for one in costs.placed):,.1f}")
    return table


def name_piece(piece: Piece) -> tuple[str, str, str]:
    """Its phase, its model, and for how many trials it is."""
    return piece.phase, piece.model, str(len(piece.planned))


def money_table(costs: Costs, rates: Rates) -> Table:
    """One row per instance: what it costs on demand and on spot."""
    table = Table(title=f"Money, in {rates.currency}, at prices of {rates.as_of}", title_justify="left")
    for name in ("instance", "nodes", "GPU-hours", "node-hours", "on demand", "spot"):
        table.add_column(name, justify="left" if name == "instance" else "right")
    for bill in costs.bills:
        hours = f"{bill.gpu_hours:,.1f}" if bill.gpu_hours else "", f"{bill.node_hours:,.1f}"
        table.add_row(bill.instance, f"{bill.fewest}–{bill.most}", *hours, money(bill.on_demand), money(bill.spot))
    on_demand, spot = total(bill.on_demand for bill in costs.bills), total(bill.spot for bill in costs.bills)
    table.add_row("all that has a price", "", "", "", money(on_demand), money(spot))
    return table


def total(amounts: Iterable[float | None]) -> float | None:
    """The sum of those that are known; None if none is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def money(amount: float | None) -> str:
    return "no price" if amount is None else f"{amount:,.0f}"


def yield_table(yields: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row per pool, from what `engine.selfplay.pool.yields` gives of each."""
    table = Table(title="Yields of self-play: elements asked for and kept, tokens written")
    table.add_column("pool", no_wrap=True)
    for name in ("draws", "asked", "kept", "tokens"):
        table.add_column(name, justify="right")
    table.add_column("dropped")
    for pool, got in sorted(yields.items()):
        dropped = sorted(got["dropped"].items(), key=lambda reason: -reason[1])
        reasons = ", ".join(f"{reason} {n}" for reason, n in dropped)
        table.add_row(pool, *(f"{got[name]:,}" for name in ("draws", "asked", "kept", "new_tokens")), reasons)
    return table


def duration(seconds: float) -> str:
    """In the unit a person would choose."""
    for unit, width in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * width:
            return f"{seconds / width:,.0f} {unit}"
    return f"{seconds:.0f} s"
