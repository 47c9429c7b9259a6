"""Self-play: generators write the pools that a study needs. Ray Data runs vLLM actors over items × protocols.

    python jobs/selfplay.py --study quickstart

One engine start serves a generator's all domains and protocols and both stages of `self_qa`: the actor of our own
keeps thousands of scripts open at once and feeds the engine whatever any of them asks next, so no stage waits for
another. It reaches 0.99 of the tokens a second of bare `vllm.LLM.chat`. `ray.data.llm` takes as long for one stage
(1.02 times, starts included: `python jobs/bench.py selfplay --against ray-data-llm`), but starts an engine a stage, so
that `self_qa` would hold two; it does not start on two CPUs with its own tokenising stages; and on CPUs its engine dies
of seeded prompts that are split over steps, and is started again without end.

The actor writes finished draws as Parquet shards while it runs and, when it starts on an item, reads what is there
already: whoever is killed, only the missing draws are generated.
"""

import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from engine import chat, inference, models, progress, weights
from engine import pool as pools
from engine.cost import Profile
from engine.news import NewsItem
from engine.parsing import CUT_OFF
from engine.pool import Draw
from engine.protocols import Draft, Protocol, Script
from engine.store import Store
from engine.study import Sampling

SHARD_DRAWS, SHARD_SECONDS = 32, 10.0  # a shard is written after so many draws or seconds, whichever comes first
SPARE = 4  # an item gets at most this many times the draws that it would need if nothing were dropped
MAX_ITEMS = 512  # items × protocols open at once in one actor


@dataclass(frozen=True, kw_only=True, slots=True)
class Generator:
    """All that an actor needs to write: the model's name and revision, how it runs. Each machine pulls it once."""

    name: str
    revision: str
    precision: Any
    profile: Profile
    max_context: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """`wanted` distinct elements about one item under one protocol, into one pool."""

    item: NewsItem
    protocol: Protocol
    sampling: Sampling
    pool: str
    wanted: int


@dataclass(kw_only=True, slots=True)
class Open:
    """An order that is being worked on: its finished draws, and how many run."""

    order: Order
    draws: list[Draw]
    running: int = 0
    next_number: int = 0
    holes: list[int] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Writing:
    """One draw under way: its script, the prompts it waits for, what it cost so far."""

    open: Open
    number: int
    script: Script
    stage: int = 0
    answers: list[str | None] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    new_tokens: int = 0


# ---- which draws to make: pure ---------------------------------------------------------------------------------------


def n_draws(kept: int, drawn: int, wanted: int, per_draw: int) -> int:
    """How many more draws an item needs, from what its draws gave so far; 0 if it has enough or tried enough."""
    most = SPARE * -(-wanted // per_draw) + SPARE
    if kept >= wanted or drawn >= most:
        return 0
    rate = max(kept / drawn, per_draw / SPARE) if drawn else per_draw
    return min(-(-(wanted - kept) // max(rate, 1e-9)), most - drawn).__int__()


def open_order(order: Order, draws: list[Draw]) -> Open:
    """The order with the draws it has; numbers that are missing among them are made first."""
    there = {d.number for d in draws}
    following = max(there, default=-1) + 1
    return Open(order=order, draws=draws, next_number=following, holes=[n for n in range(following) if n not in there])


def next_numbers(job: Open) -> list[int]:
    """Numbers of the draws to start now: holes left by a killed run, else a new wave once the last one is over."""
    if job.running:
        return []
    if job.holes:
        numbers, job.holes = job.holes, []
        return numbers
    kept, _ = pools.elements_of(job.draws, job.order.protocol)
    n = n_draws(len(kept), len(job.draws), job.order.wanted, job.order.protocol.per_draw)
    job.next_number += n
    return list(range(job.next_number - n, job.next_number))


def seed(revision: str, pool: str, item: str, draw: int, stage: int, place: int) -> int:
    """The sampling seed of one prompt, from what it is and nothing else."""
    return int.from_bytes(hashlib.sha256(repr((revision, pool, item, draw, stage, place)).encode()).digest()[:4])


# ---- the actor -------------------------------------------------------------------------------------------------------


class Writer:
    """A vLLM engine that works on orders. Ray Data calls it with batches of them."""

    def __init__(self, generator: Generator, store: Store) -> None:
        self.generator, self.store = generator, store
        folder = str(weights.pull(models.find(generator.name)))
        self.llm = inference.start(folder, generator.profile, generator.precision, generator.max_context)
        self.tokenizer = self.llm.get_tokenizer()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Fulfils the orders of a batch (column `order`, pickled); gives back their pools and items."""
        orders: list[Order] = [ray.cloudpickle.loads(order) for order in batch["order"]]
        finished: list[tuple[str, Draw]] = []
        written = time.monotonic()
        jobs = [open_order(order, draws) for order, draws in self.resume(orders)]

        def next_requests(tag: tuple[Writing, int], output: Any) -> Iterable[inference.Request]:
            return self.advance(*tag, output, finished)

        for _ in inference.stream(self.llm, self.first(jobs, finished), next_requests):
            if len(finished) >= SHARD_DRAWS or (finished and time.monotonic() - written > SHARD_SECONDS):
                self.save(finished)
                written = time.monotonic()
        self.save(finished)
        return {"pool": [o.pool for o in orders], "item": [o.item.id for o in orders]}

    def resume(self, orders: Sequence[Order]) -> Iterator[tuple[Order, list[Draw]]]:
        """Each order with the draws that its pool has already."""
        there = {name: pools.read_draws(self.store, name) for name in {o.pool for o in orders}}
        return ((order, there[order.pool].get(order.item.id, [])) for order in orders)

    def first(self, jobs: Sequence[Open], finished: list[tuple[str, Draw]]) -> Iterator[inference.Request]:
        """The first requests of all orders; those about the same news lie together, for the prefix cache."""
        progress.report(running=len(jobs))
        for job in sorted(jobs, key=lambda j: j.order.item.id):
            yield from self.more(job, finished)

    def more(self, job: Open, finished: list[tuple[str, Draw]]) -> Iterator[inference.Request]:
        """Requests of the order's next wave of draws, if it needs one."""
        numbers = next_numbers(job)
        if not numbers and not job.running:
            progress.report(done=1, running=-1)
        job.running += len(numbers)
        for number in numbers:
            assert job.order.protocol.write
            writing = Writing(open=job, number=number, script=job.order.protocol.write(job.order.item.text, number))
            yield from self.ask(writing, next(writing.script))

    def ask(self, writing: Writing, prompts: list[str]) -> Iterator[inference.Request]:
        """Requests for the prompts that a script waits for."""
        writing.answers = [None] * len(prompts)
        for place, prompt in enumerate(prompts):
            ids = chat.prompt_ids(self.tokenizer, prompt)
            writing.prompt_tokens += len(ids)
            yield inference.Request(tag=(writing, place), ids=ids, params=self.params(writing, place))

    def params(self, writing: Writing, place: int) -> Any:
        """vLLM's sampling parameters for one prompt, with its own seed."""
        from vllm import SamplingParams

        order = writing.open.order
        number = seed(self.generator.revision, order.pool, order.item.id, writing.number, writing.stage, place)
        s = order.sampling
        return SamplingParams(temperature=s.temperature, top_p=s.top_p, max_tokens=s.max_tokens, seed=number)

    def advance(
        self, writing: Writing, place: int, output: Any, finished: list[tuple[str, Draw]]
    ) -> Iterable[inference.Request]:
        """Takes one completion; gives what the script asks next, or what its order needs next if it has ended."""
        writing.answers[place] = text_of(output)
        writing.new_tokens += len(output.outputs[0].token_ids)
        progress.report(tokens=len(output.outputs[0].token_ids))
        if None in writing.answers:
            return ()
        answers = [a for a in writing.answers if a is not None]
        writing.completions += answers
        writing.stage += 1
        try:
            return self.ask(writing, writing.script.send(answers))
        except StopIteration as end:
            return self.close(writing, end.value, finished)

    def close(self, writing: Writing, draft: Draft, finished: list[tuple[str, Draw]]) -> Iterable[inference.Request]:
        """Files a finished draw."""
        job = writing.open
        draw = Draw(
            item=job.order.item.id,
            number=writing.number,
            draft=draft,
            completions=writing.completions,
            prompt_tokens=writing.prompt_tokens,
            new_tokens=writing.new_tokens,
        )
        job.draws.append(draw)
        job.running -= 1
        finished.append((job.order.pool, draw))
        return self.more(job, finished)

    def save(self, finished: list[tuple[str, Draw]]) -> None:
        """Writes the finished draws, a shard a pool."""
        for name in {pool for pool, _ in finished}:
            pools.write_draws(self.store, name, [draw for pool, draw in finished if pool == name])
        finished.clear()


def text_of(output: Any) -> str:
    """What the engine answered, with “…” where the limit of tokens cut it off."""
    [answer] = output.outputs
    return str(answer.text) + (CUT_OFF if answer.finish_reason == "length" else "")


# ---- the phase -------------------------------------------------------------------------------------------------------


def run(generator: Generator, orders: Sequence[Order], store: Store, n_actors: tuple[int, int]) -> None:
    """Fulfils a generator's orders on between `n_actors[0]` and `n_actors[1]` actors."""
    ship_own_protocols(orders)
    size = min(MAX_ITEMS, -(-len(orders) // n_actors[1]))
    rows = [
        {"order": ray.cloudpickle.dumps(order)} for order in sorted(orders, key=lambda o: (o.item.domain, o.item.id))
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size))
    gpu = generator.profile.device == "gpu"
    written = dataset.map_batches(
        Writer,
        fn_constructor_args=(generator, store),
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(min_size=n_actors[0], max_size=n_actors[1]),
        num_cpus=1,
        num_gpus=generator.profile.tensor_parallel if gpu else 0,
        runtime_env={"env_vars": inference.environment(generator.profile)},
    )
    # A batch is hundreds of orders and may take hours; Ray Data takes half an hour of it for a standstill.
    written.context.execution_no_progress_timeout_s = -1
    written.materialize()


def ship_own_protocols(orders: Sequence[Order]) -> None:
    """Protocols of a user's file travel to the workers with their code, which is not installed there."""
    for write in {o.protocol.write for o in orders if o.protocol.write}:
        if not write.__module__.startswith("engine."):
            ray.cloudpickle.register_pickle_by_value(sys.modules[write.__module__])
