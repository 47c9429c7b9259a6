"""The driver's speed: seconds to plan, to read and to collect the study `newnews`, from a made store of its size.

The store is made through the ledger, with words in place of news: pools with 1,024 elements per item, records, answers.
Its files are read in one process, which is the worst case for the replay elements: on a cluster many workers read them.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
from cli import terminal

from bench.contest import Measure, apart
from engine import UserError, results
from engine.cluster.machines import ASSUMED, GIB, Cluster
from engine.evaluation import marks, questions
from engine.planning import plan, shipped
from engine.selfplay import pool, protocols
from engine.selfplay.pool import Draw
from engine.selfplay.protocols import Draft, Element
from engine.storage.ledger import Ledger, name_untrained
from engine.storage.records import Planned, Scored, Trained
from engine.storage.store import Store
from engine.study import Study
from engine.training.job import Job, replay

GOALS = {"plan, all to do": 10.0, "plan, all done": 10.0, "all replays": 60.0, "collect": 60.0, "collect again": 5.0}
GOAL_GIB = 2.0
N_WORDS, WORDS_PER_TEXT, DUPLICATES = 3000, 25, 0.05  # a vocabulary; of an element; the share made twice
KIB = 1024


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    parser.add_argument("--share", type=float, default=1.0, help="of the study's pools, for a quick try (default: all)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the store, measures, prints, writes."""
    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share}: above 0 and at most 1")
    with tempfile.TemporaryDirectory() as folder:
        apart(make_store, folder, args.share, env={})
        (taken, gib), _ = apart(measure, folder, args.share, env={})
    measures = [Measure(what=f"{step}, seconds", value=taken[step], goal=GOALS[step], at_most=True) for step in GOALS]
    measures.append(Measure(what="peak memory, GiB", value=gib, goal=GOAL_GIB, at_most=True))
    print(f"driver, {len(choose(args.share).trials)} trials of newnews")
    for one in measures:
        print(one.line())
    if args.out:
        Path(args.out).write_text(json.dumps({one.what: one.value for one in measures}, indent=1))
        print(f"Written: {args.out}")
    return 0


def choose(share: float) -> Study:
    """The study, or those of its trials that use a share of its pools, whichever they are."""
    study = shipped.newnews()
    pools = sorted({t.pool for t in study.trials}, key=lambda name: Random(name).random())
    chosen = set(pools[: max(1, round(share * len(pools)))])
    return replace(study, trials=tuple(t for t in study.trials if t.pool in chosen))


def plan_all(study: Study, ledger: Ledger) -> list[Planned]:
    """The plan on a node of 8 GPUs, whatever this machine has."""
    return plan.plan(study, ledger, Cluster(nodes=(ASSUMED,)))


# ---- what is measured ------------------------------------------------------------------------------------------------


def measure(folder: str, share: float) -> tuple[dict[str, float], float]:
    """Seconds of each step, and peak memory in GiB. One trial of the store is not done until the last step."""
    study, ledger = choose(share), Ledger(Store(f"{folder}/newnews"))
    taken: dict[str, float] = {}

    def timed(step: str, function: Callable[[], Any]) -> Any:
        terminal().print(f"[dim]{step} …", highlight=False)
        began = time.monotonic()
        value = function()
        taken[step] = time.monotonic() - began
        return value

    timed("plan, all to do", lambda: plan_all(study, Ledger(Store(f"{folder}/empty"))))
    planned = timed("plan, all done", lambda: plan_all(study, ledger))
    timed("all replays", lambda: read_replays(planned, ledger))
    timed("collect", lambda: check_left_out(results.collect(ledger)))
    [last] = [p for p in planned if p.state != "done"]
    score(last, ledger, make_answers(last))
    timed("collect again", lambda: check_left_out(results.collect(ledger)))
    return taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / GIB


def read_replays(planned: Sequence[Planned], ledger: Ledger) -> None:
    """What the first worker of each trial does before it trains."""
    for p in planned:
        job = Job(trial=p.trial, items=p.items, placement=p.training, ledger=ledger)
        n_elements = sum(1 for _ in replay(job))
        if n_elements != p.trial.budget * len(p.items):
            raise RuntimeError(f"{job.key}: {n_elements} elements")


def check_left_out(failures: Sequence[Any]) -> None:
    """A trial that is left out costs nothing, and measures nothing."""
    if failures:
        raise RuntimeError(failures[0].reason)


# ---- the store -------------------------------------------------------------------------------------------------------


def make_store(folder: str, share: float) -> None:
    """A store in which all trials are done, but for the scores of the last one."""
    ledger = Ledger(Store(f"{folder}/newnews"))
    planned = sorted(plan_all(choose(share), ledger), key=lambda p: p.trial.pool)
    made: dict[tuple[str, str], tuple[pl.DataFrame, pl.DataFrame]] = {}
    for number, p in enumerate(planned):
        if not number % 100:
            terminal().print(f"[dim]made {number} of {len(planned)} trials …", highlight=False)
        if ledger.elements(p.trial.pool) is None:
            cell = (p.trial.domain, p.trial.protocol)
            if cell not in made:
                made[cell] = make_pool(p)
            put_pool(p, *made[cell], ledger)
        finish(p, ledger, is_last=number == len(planned) - 1)


def make_pool(p: Planned) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The draws of a domain and a protocol, and the elements in them; all generators write the same here."""
    protocol, budget = protocols.find(p.trial.protocol), 1024
    draws = {} if protocol.write is None else {i.id: list(make_draws(i.id, protocol.per_draw, budget)) for i in p.items}
    table = pool.draws_table([draw for of_item in draws.values() for draw in of_item])
    return table, pool.elements_table(draws, protocol, p.items, budget)


def put_pool(p: Planned, draws: pl.DataFrame, elements: pl.DataFrame, ledger: Ledger) -> None:
    """Writes what self-play would have written."""
    ledger.claim_pool(p.trial.pool, p.identity["pool"])
    if draws.height:
        ledger.add_draws(p.trial.pool, draws)
    ledger.put_elements(p.trial.pool, elements)


def make_draws(item: str, per_draw: int, budget: int) -> Iterator[Draw]:
    """As many draws of an item as give enough elements, some of which were there before."""
    random = Random(item)
    words = ["".join(random.choices("abcdefghijklmnoprstuvwy", k=random.randint(2, 9))) for _ in range(N_WORDS)]
    texts: list[str] = []
    for number in range(round(budget * (1 + 2 * DUPLICATES) / per_draw)):
        new = [" ".join(random.choices(words, k=WORDS_PER_TEXT)) for _ in range(per_draw)]
        texts += [random.choice(texts) if texts and random.random() < DUPLICATES else text for text in new]
        draft = Draft(elements=[Element(user=f"{text[:60]}?", assistant=text) for text in texts[-per_draw:]])
        written = ["\n".join(f"{n}. {text}" for n, text in enumerate(texts[-per_draw:], 1))]
        tokens = 2 * WORDS_PER_TEXT * per_draw
        yield Draw(
            item=item, number=number, draft=draft, completions=written, prompt_tokens=2 * tokens, new_tokens=tokens
        )


def finish(p: Planned, ledger: Ledger, is_last: bool) -> None:
    """Writes what all phases would have written; of the last trial all but its scores."""
    ledger.begin(p, {"python": "3.11", "ray": "2.60"})
    ledger.mark_trained(p.trial.key, pl.DataFrame({"step": range(640), "loss": [1.0] * 640}), TRAINED)
    if not ledger.has_untrained(p.identity):
        ledger.mark_untrained(p, make_answers(p))
    if not is_last:
        score(p, ledger, make_answers(p))


def score(p: Planned, ledger: Ledger, answers: pl.DataFrame) -> None:
    ledger.mark_done(p.trial.key, answers, SCORED)


def make_answers(p: Planned) -> pl.DataFrame:
    """Answers to all that a trial is asked, by guessing."""
    random = Random(f"{p.trial.key} {name_untrained(p.identity)}")
    rows = []
    for form in (questions.FORMS[name] for name in p.trial.forms):
        for item in p.items if form.about_news else (questions.NO_ITEM,):
            for condition in questions.CONDITIONS if form.about_news else ("closed_book",):
                for subject in form.subjects(item):
                    asked = questions.Asked(item=item.id, form=form, subject=subject, condition=condition, parts=())
                    rows.append(asked.row(guess(form.name, subject, random)))
    return marks.table(rows)


def guess(form: str, subject: Any, random: Random) -> list[Any]:
    """Answers to the parts of one question: log-probabilities, or a reply."""
    if form == "task":
        return [f"It is said that {random.random()} ferries sail at night, and that bicycles travel free of charge."]
    n_options = len(getattr(subject, "options", (0, 0)))
    tokens = n_options if form == "letter" else random.randint(2, 8)
    return [[-10 * random.random() for _ in range(tokens)] for _ in range(n_options)]


TRAINED = Trained(
    train_tokens=1_000_000,
    unique_tokens=1_000_000,
    train_flops=1e15,
    untrained_loss=2.5,
    train_loss=1.5,
    steps=640,
    train_seconds=100.0,
    gpu_seconds=100.0,
    device="gpu",
    device_name="NVIDIA H100",
    zero_stage=1,
    n_workers=1,
    weight_files={},
)
SCORED = Scored(accuracy_closed_book=0.5, accuracy_icl=0.5, evaluate_seconds=6.0, tensor_parallel=1)
