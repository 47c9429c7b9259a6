"""Self-play: generators write the pools that a study needs. Ray Data runs vLLM actors over items × protocols.

    python jobs/selfplay.py --study quickstart

Each generator runs once for all of its pools, beside the others where there is room. Afterwards the elements of each
pool are read from its draws and kept beside them: what training takes is a slice of that table.
"""

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import ray

from engine.cluster import engines, policy, reach, session
from engine.inference import settings
from engine.models import catalogue, weights
from engine.models.architecture import n_params
from engine.monitor import progress
from engine.news.items import NewsItem
from engine.selfplay import pool, protocols
from engine.selfplay.orders import Generator, Order, Protocols, protocols_of, to_row
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned

MAX_ITEMS = 512  # items × protocols in work at once in one actor
BATCHES = 4  # that an actor takes one after the other if there are several: those that are faster take more
Pools = dict[str, list[Planned]]  # by the pool's name, the trials that learn from it
Faults = dict[tuple[str, str], str]  # by pool and item, what the protocol's script did wrong


def run(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Writes what is missing in the pools of these trials; gives the trials whose pools stay too small.

    Raises UserError if a pool was begun with other settings.
    """
    pools: Pools = {}
    for p in planned:
        pools.setdefault(p.trial.pool, []).append(p)
    for name, users in pools.items():
        ledger.claim_pool(name, users[0].identity["pool"])
    short = {name: users for name, users in pools.items() if missing_items(name, users, ledger)}
    faults = write_all(by_generator(short, ledger), ledger)
    for name, users in short.items():
        keep_elements(name, users, ledger)
    return [failure for name, users in short.items() for failure in failures(name, users, ledger, faults)]


def write_all(generators: Sequence[tuple[Generator, list[Order]]], ledger: Ledger) -> Faults:
    """Has each generator fulfil its orders, unless no node can run it; gives why what was not written."""
    reasons = reach.wait_for_nodes({n: generator.serving for n, (generator, _) in enumerate(generators)})
    waiting = [one for n, one in enumerate(generators) if n not in reasons]
    faults = {(order.pool, order.item.id): why for n, why in reasons.items() for order in generators[n][1]}
    if waiting:
        everything = [order for _, orders in waiting for order in orders]
        with progress.shown("self-play", len(everything), ledger, sum(order.wanted for order in everything)):
            while waiting:
                counts = share_engines(waiting)
                faults |= write_at_once([(*one, n) for one, n in zip(waiting, counts, strict=True) if n], ledger)
                waiting = [one for one, n in zip(waiting, counts, strict=True) if not n]
    return faults


def share_engines(generators: Sequence[tuple[Generator, list[Order]]]) -> list[int]:
    """How many engines each generator gets now; none if it has to wait for others."""
    most = [reach.count_engines(generator.serving) for generator, _ in generators]
    work = [work_of(generator, orders) for generator, orders in generators]
    if generators[0][0].serving.device == "cpu":
        return engines.share_engines(work, [1] * len(work), most[0])
    devices = [generator.serving.tensor_parallel for generator, _ in generators]
    counts = engines.share_engines(work, devices, int(session.largest_resources().get("GPU", 1)))
    return [min(count, limit) for count, limit in zip(counts, most, strict=True)]


def work_of(generator: Generator, orders: Sequence[Order]) -> float:
    """How long it takes, compared with others."""
    return float(n_params(catalogue.find(generator.name).architecture) * sum(order.wanted for order in orders))


def write_at_once(shares: Sequence[tuple[Generator, list[Order], int]], ledger: Ledger) -> Faults:
    """Has generators fulfil their orders at the same time, each on so many engines."""
    if len(shares) == 1:
        [(generator, orders, n_engines)] = shares
        return write(generator, orders, ledger, n_engines)
    for _, orders, _ in shares:
        ship_own_protocols(orders)
    # In tasks, not threads: a thread would go on with Ray Data after Ctrl-C.
    task: Any = ray.remote(num_cpus=0, max_retries=0)(write)
    written = ray.get([task.remote(generator, orders, ledger, n) for generator, orders, n in shares])
    return {place: fault for faults in written for place, fault in faults.items()}


def missing_items(name: str, users: Sequence[Planned], ledger: Ledger) -> list[NewsItem]:
    """The items of which a pool has fewer elements than the largest budget takes."""
    return pool.items_short_of(ledger.elements(name), users[0].items, max(p.trial.budget for p in users))


def by_generator(short: Pools, ledger: Ledger) -> list[tuple[Generator, list[Order]]]:
    """What each generator has to write. One that runs in two precisions is two generators."""
    groups: dict[tuple[str, str], tuple[Generator, list[Order]]] = {}
    for name in sorted(short):
        first = short[name][0]
        orders = missing_orders(name, short[name], ledger)
        if orders:
            key = (first.trial.writer, first.trial.precision)
            groups.setdefault(key, (generator_of(first), []))[1].extend(orders)
    return [groups[key] for key in sorted(groups)]


def missing_orders(name: str, users: Sequence[Planned], ledger: Ledger) -> list[Order]:
    """One order for each item of which a pool's draws give fewer elements than the largest budget takes."""
    trial, wanted = users[0].trial, max(p.trial.budget for p in users)
    protocol = protocols.find(trial.protocol)
    if protocol.write is None:
        return []
    draws = pool.read_draws(ledger, name)
    return [
        Order(item=item, protocol=protocol, sampling=trial.sampling, pool=name, source=trial.source, wanted=wanted)
        for item in users[0].items
        if len(pool.elements_of(draws.get(item.id, []), protocol)[0]) < wanted
    ]


def generator_of(p: Planned) -> Generator:
    """The model that writes, as an actor needs it."""
    model = catalogue.find(p.trial.writer)
    return Generator(
        name=p.trial.writer,
        revision=weights.revision(model),
        precision=p.trial.precision,
        serving=p.writing,
        max_context=min(settings.MAX_CONTEXT, model.architecture.max_context),
    )


def keep_elements(name: str, users: Sequence[Planned], ledger: Ledger) -> None:
    """Reads the elements of a pool from its draws, and keeps them."""
    budget = max(p.trial.budget for p in users)
    protocol = protocols.find(users[0].trial.protocol)
    table = pool.elements_table(pool.read_draws(ledger, name), protocol, users[0].items, budget)
    ledger.put_elements(name, table)


def failures(name: str, users: Sequence[Planned], ledger: Ledger, faults: Faults) -> Iterable[Failure]:
    """The trials whose budget a pool does not reach: what the script did wrong, or what was written, on one item."""
    elements, protocol = ledger.elements(name), protocols.find(users[0].trial.protocol)
    for p in users:
        short = [item.id for item in pool.items_short_of(elements, p.items, p.trial.budget)]
        for item in sorted(short, key=lambda i: (name, i) not in faults)[:1]:
            draws = pool.read_draws(ledger, name).get(item, [])
            fault = faults.get((name, item))
            why = fault or pool.why_too_small(draws, protocol, item, p.trial.budget)
            yield Failure(key=p.trial.key, phase="self-play", reason=why)


# ---- on the cluster --------------------------------------------------------------------------------------------------


class Writer:
    """The actor that Ray Data starts. Its engine's code is imported where it runs, and nowhere else."""

    def __init__(self, generator: Generator, ledger: Ledger, protocols: Protocols) -> None:
        from engine.selfplay import writer

        self.write = writer.Writer(generator, ledger, protocols)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        orders = [f"{pool}/{item}" for pool, item in zip(batch["pool"], batch["id"], strict=True)]
        with progress.at_work(f"{orders[0]}, {len(orders)} orders in all"):
            return self.write(batch)


def write(generator: Generator, orders: Sequence[Order], ledger: Ledger, n_engines: int) -> Faults:
    """Fulfils a generator's orders on so many engines; gives what their scripts did wrong.

    `ray.data.llm` took a quarter longer for one stage on two cores, its start included, and starts one engine per
    stage, so that `self_qa` would hold two (`python jobs/bench selfplay --against ray-data-llm`).
    """
    ship_own_protocols(orders)
    quiet_ray_data()
    n_engines = min(n_engines, len(orders))
    size = min(MAX_ITEMS, -(-len(orders) // (BATCHES * n_engines if n_engines > 1 else 1)))
    rows = [to_row(order) for order in sorted(orders, key=lambda o: (o.item.domain, o.item.id))]
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size))
    serving = generator.serving
    [takes] = policy.list_bundles(serving)
    written = dataset.map_batches(
        Writer,
        fn_constructor_args=(generator, ledger, protocols_of(orders)),
        batch_size=size,
        # Ray Data would queue two batches for whichever actor is up first, and none for the others.
        compute=ray.data.ActorPoolStrategy(size=n_engines, max_tasks_in_flight_per_actor=1),
        num_cpus=takes.get("CPU", 0),
        num_gpus=takes.get("GPU", 0),
        accelerator_type=serving.accelerator or None,
        runtime_env={"env_vars": settings.environment(serving)},
    )
    # A batch is hundreds of orders and may take hours; Ray Data takes half an hour of it for a standstill.
    written.context.execution_no_progress_timeout_s = -1
    rows = written.take_all()
    return {(row["pool"], row["item"]): row["fault"] for row in rows if row["fault"]}


def ship_own_protocols(orders: Sequence[Order]) -> None:
    """Protocols of a user's file travel to the workers with their code, which is not installed there.

    In a worker they came with their code, no module is loaded, and they travel on as they came.
    """
    for name in {o.protocol.write.__module__ for o in orders if o.protocol.write}:
        if not name.startswith("engine.") and name in sys.modules:
            ray.cloudpickle.register_pickle_by_value(sys.modules[name])


def quiet_ray_data() -> None:
    """Ray Data's own progress bars and plans are not for our users, who see one line."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
