"""The actor of self-play: one vLLM engine that writes draws.

One engine start serves all domains and protocols of a generator and both stages of `self_qa`: the actor keeps thousands
of scripts open at once and feeds the engine whatever any of them asks next, so that no stage waits for another. It
writes finished draws as Parquet shards while it runs and, when it starts on an item, reads what is there already:
if any process is killed, a rerun generates only the missing draws.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vllm import SamplingParams

from engine.inference import chat, vllm_engine
from engine.inference.vllm_engine import Request
from engine.models import catalogue, weights
from engine.monitor import progress
from engine.selfplay import pool as pools
from engine.selfplay import scripts
from engine.selfplay.orders import (
    Generator,
    OpenOrder,
    Order,
    Protocols,
    from_row,
    next_numbers,
    open_order,
    sampling_seed,
)
from engine.selfplay.parsing import CUT_OFF
from engine.selfplay.pool import Draw
from engine.selfplay.protocols import Draft, Script
from engine.selfplay.scripts import ScriptError, is_blank
from engine.storage.ledger import Ledger

SHARD_DRAWS, SHARD_SECONDS = 32, 10.0  # a shard is written after so many draws or seconds, whichever comes first


@dataclass(kw_only=True, slots=True)
class Writing:
    """One draw in work: its script, the prompts that it waits for, what it cost so far (tokens)."""

    open: OpenOrder
    number: int
    script: Script
    stage: int = 0
    answers: list[str | None] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    new_tokens: int = 0


class Writer:
    """A vLLM engine that works on orders. Ray Data calls it with batches of them."""

    def __init__(self, generator: Generator, ledger: Ledger, protocols: Protocols) -> None:
        self.generator, self.ledger, self.protocols = generator, ledger, protocols
        folder = str(weights.pull(catalogue.find(generator.name)))
        self.llm = vllm_engine.start(folder, generator.serving, generator.precision, generator.max_context)
        self.tokenizer = self.llm.get_tokenizer()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Fulfils the orders of a batch (columns as in `to_row`); gives back their pools, items and faults."""
        rows = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
        orders = [from_row(row, self.protocols) for row in rows]
        finished: list[tuple[str, Draw]] = []
        written = time.monotonic()
        jobs = [open_order(order, draws) for order, draws in self.with_draws(orders)]

        def next_requests(tag: tuple[Writing, int], output: Any) -> Iterable[Request]:
            return self.advance(*tag, output, finished)

        for _ in vllm_engine.stream(self.llm, self.first(jobs, finished), next_requests):
            if len(finished) >= SHARD_DRAWS or (finished and time.monotonic() - written > SHARD_SECONDS):
                self.save(finished)
                written = time.monotonic()
        self.save(finished)
        return {
            "pool": [job.order.pool for job in jobs],
            "item": [job.order.item.id for job in jobs],
            "fault": [job.fault for job in jobs],
        }

    def with_draws(self, orders: Sequence[Order]) -> Iterator[tuple[Order, list[Draw]]]:
        """Each order with the draws that its pool has already."""
        there = {name: pools.read_draws(self.ledger, name) for name in {o.pool for o in orders}}
        return ((order, there[order.pool].get(order.item.id, [])) for order in orders)

    def first(self, jobs: Sequence[OpenOrder], finished: list[tuple[str, Draw]]) -> Iterator[Request]:
        """The first requests of all orders; those about the same news are together, for the prefix cache."""
        progress.report(running=len(jobs))
        for job in sorted(jobs, key=lambda j: j.order.item.id):
            yield from self.more(job, finished)

    def more(self, job: OpenOrder, finished: list[tuple[str, Draw]]) -> Iterator[Request]:
        """Requests of the order's next wave of draws, if it needs one."""
        numbers = next_numbers(job)
        if not numbers and not job.running:
            progress.report(done=1, running=-1, work=job.order.wanted - job.reported)
        job.running += len(numbers)
        for number in numbers:
            yield from self.begin(job, number, finished)

    def begin(self, job: OpenOrder, number: int, finished: list[tuple[str, Draw]]) -> Iterable[Request]:
        """Requests of the first stage of one draw, unless another draw has ended its order."""
        if job.fault:
            return self.end(job, job.fault, finished)
        try:
            script = scripts.open_script(job.order.protocol, job.order.item.text, number)
        except ScriptError as error:
            return self.end(job, f"item {job.order.item.id!r}: {error}", finished)
        return self.step(Writing(open=job, number=number, script=script), None, finished)

    def step(self, writing: Writing, answers: list[str] | None, finished: list[tuple[str, Draw]]) -> Iterable[Request]:
        """Gives a script its answers: what it asks next, or what its order needs next if it has ended."""
        job = writing.open
        try:
            step = scripts.advance(job.order.protocol, writing.script, writing.stage, answers)
            return self.close(writing, step, finished) if isinstance(step, Draft) else self.ask(writing, step)
        except ScriptError as error:
            return self.end(job, f"item {job.order.item.id!r}: {error}", finished)

    def end(self, job: OpenOrder, fault: str, finished: list[tuple[str, Draw]]) -> Iterable[Request]:
        """Ends an order by what its script did wrong in one draw. Draws that run already are finished and kept."""
        job.fault = job.fault or fault
        job.running -= 1
        return self.more(job, finished)

    def ask(self, writing: Writing, prompts: Sequence[str]) -> list[Request]:
        """Requests for the prompts that a script waits for. Raises ScriptError for one that leaves no room."""
        writing.answers = [None] * len(prompts)
        tokens = [chat.prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        most, longest = self.generator.max_context - 1, max(map(len, tokens))
        if longest > most:
            what = f"yields a prompt of {longest} tokens; {self.generator.name} takes at most {most}"
            raise scripts.script_error(writing.open.order.protocol, what, scripts.current_line(writing.script))
        writing.prompt_tokens += sum(map(len, tokens))
        return [
            Request(tag=(writing, place), ids=ids, params=self.params(writing, place))
            for place, ids in enumerate(tokens)
        ]

    def params(self, writing: Writing, place: int) -> SamplingParams:
        """vLLM's sampling parameters for one prompt, with its own seed."""
        order = writing.open.order
        revision = self.generator.revision
        seed = sampling_seed(revision, order.source, order.item.id, writing.number, writing.stage, place)
        s = order.sampling
        return SamplingParams(temperature=s.temperature, top_p=s.top_p, max_tokens=s.max_tokens, seed=seed)

    def advance(self, writing: Writing, place: int, output: Any, finished: list[tuple[str, Draw]]) -> Iterable[Request]:
        """Takes one completion; gives what the script asks next, or what its order needs next if it has ended."""
        writing.answers[place] = text_of(output)
        writing.new_tokens += len(output.outputs[0].token_ids)
        progress.report(tokens=len(output.outputs[0].token_ids))
        if None in writing.answers:
            return ()
        answers = [a for a in writing.answers if a is not None]
        writing.completions += answers
        writing.stage += 1
        return self.step(writing, answers, finished)

    def close(self, writing: Writing, draft: Draft, finished: list[tuple[str, Draw]]) -> Iterable[Request]:
        """Files a finished draw, without the elements that have no text."""
        job = writing.open
        draft = drop_blank(draft)
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
        gained = min(len(draft.elements), job.order.wanted - job.reported)
        job.reported += gained
        progress.report(work=gained)
        finished.append((job.order.pool, draw))
        return self.more(job, finished)

    def save(self, finished: list[tuple[str, Draw]]) -> None:
        """Writes the finished draws, one shard per pool."""
        for name in {pool for pool, _ in finished}:
            self.ledger.add_draws(name, pools.draws_table([draw for pool, draw in finished if pool == name]))
        finished.clear()


def drop_blank(draft: Draft) -> Draft:
    """The draft, its elements without text counted as dropped: any model writes nothing now and then."""
    kept = [element for element in draft.elements if not is_blank(element)]
    if len(kept) < len(draft.elements):
        draft = Draft(elements=kept, dropped=draft.dropped + Counter({"no text": len(draft.elements) - len(kept)}))
    return draft


def text_of(output: Any) -> str:
    """What the engine answered, with “…” where the limit of tokens cut it off."""
    [answer] = output.outputs
    return str(answer.text) + (CUT_OFF if answer.finish_reason == "length" else "")
