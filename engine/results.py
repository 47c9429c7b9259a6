"""The results tables, collected from the trials' files: what `analysis` reads.

`results/trials.parquet`, one row per trial, condition and moment; what was not asked is null:
    study, trial, domain, protocol, context_mode, trainee, generator, method, label, seed, pool_seed, precision
    condition             closed_book | icl
    moment                before | after fine-tuning
    budget                replay elements per item
    learning_rate, lora_rank, epochs, batch_size
    params, params_non_embedding, params_trained          counts
    train_tokens, unique_tokens                           tokens of all steps; of the distinct elements
    train_flops, selfplay_flops                           operations; self-play of the budget's share of the pool
    selfplay_tokens                                       tokens that the generator wrote for that share
    n_items, n_questions                                  of the choice questions
    accuracy                                              share of the choice questions
    accuracy_letter                                       share of the choice questions, asked by letter
    accuracy_statement, accuracy_task                     shares of the statement pairs (chance: a half) and free tasks
    accuracy_held_out                                     share of the choices made from the items' references
    accuracy_general                                      share of the questions without news (closed-book only)
    p_correct                                             mean probability of the right option among the options
    nll_correct                                           nats per token of the right option
    train_loss                                            nats per learned token, last epoch
    train_seconds, evaluate_seconds, gpu_seconds          seconds
    device, device_name, n_workers, zero_stage, tensor_parallel, versions    where it ran, and by which versions
    estimated_train_tokens, estimated_train_flops, estimated_selfplay_flops   before the run
    estimated_seconds                                     before the run, of the fine-tune with its start

An accuracy is null where a form was not asked.

`results/questions.parquet`, one row per trial, condition, moment, form and question: kind (what the question needs),
form (choice | letter | statement | task | held_out | general), correct, p_correct, nll_correct, answer, the raw
option_logprobs (nats), option_tokens, letter_probabilities, reply.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, partial
from importlib.metadata import version
from typing import Any

import polars as pl

from engine import UserError
from engine.evaluation import marks
from engine.evaluation.questions import CHOICE, FORMS
from engine.models import arithmetic, catalogue
from engine.models.architecture import n_params, n_params_lora, n_params_non_embedding
from engine.selfplay import pool
from engine.storage.fingerprint import fingerprint
from engine.storage.ledger import AnotherTrial, Ledger, name_untrained
from engine.storage.records import Begun, Failure, RecordError
from engine.study import Trial, slug

TAKEN = ("train_tokens", "unique_tokens", "train_flops", "train_loss", "train_seconds", "gpu_seconds")
RAN_ON = ("device", "device_name", "n_workers", "zero_stage")
ESTIMATED = ("train_tokens", "train_flops", "selfplay_flops", "seconds")
OTHER_FORMS = tuple(name for name in FORMS if name != CHOICE.name)
# Null for all trials of a study, unless somebody asked or named something, or trained adapters.
TYPES = {f"accuracy_{form}": pl.Float64 for form in OTHER_FORMS} | {"label": pl.String, "lora_rank": pl.Int64}
# What makes a row: this release, with the columns that the text above names (a test holds that it names all).
MADE_BY = [version("engram"), __doc__]
SHARED_TABLES = 64  # of untrained models and of pools, kept while they may be needed again


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A trial that is done: what was begun, its questions before and after, and what its rows are made from."""

    key: str
    begun: Begun
    questions: pl.DataFrame
    source: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """Rows of both tables, by trial in the order of their keys, and what they were made from."""

    trials: pl.DataFrame
    questions: pl.LazyFrame
    sources: pl.DataFrame


class Shared:
    """What many trials have in common, read once."""

    def __init__(self, ledger: Ledger) -> None:
        self.questions_before = lru_cache(SHARED_TABLES)(ledger.questions_before)
        self.pool_costs = lru_cache(SHARED_TABLES)(partial(pool.read_costs, ledger))
        self.stamp_pool = cache(ledger.stamp_pool)


def is_current(ledger: Ledger) -> bool:
    """Are the tables readable, of all trials that are done as they are now, and of no others?"""
    keys, shared = set(ledger.done_keys()), Shared(ledger)
    try:
        _, _, sources = ledger.results_with_sources()
    except RecordError:
        return not keys
    return set(sources["trial"]) == keys and all(is_unchanged(row, ledger, shared) for row in sources.to_dicts())


def collect(ledger: Ledger) -> list[Failure]:
    """Writes the tables of all trials that are done, if there are any; gives those that are left out, and why.

    The rows of trials whose files have not changed since are taken from the tables that are there.
    """
    shared = Shared(ledger)
    kept = find_kept(ledger, shared)
    known = set(kept.sources["trial"]) if kept else set()
    new, left_out = read_all((f for f in ledger.scored_folders() if f not in known), ledger, shared)
    if parts := [part for part in (kept, new) if part and part.sources.height]:
        trials = pl.concat([part.trials for part in parts], how="vertical_relaxed").sort("trial", maintain_order=True)
        sources = pl.concat([part.sources for part in parts]).sort("trial")
        ledger.put_results(trials, merge([part.questions for part in parts]), sources)
    return left_out


def merge(tables: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """One or two tables that are in the order of their trials, as one that is."""
    first, *others = tables
    return first.merge_sorted(others[0], key="trial") if others else first


def find_kept(ledger: Ledger, shared: Shared) -> Collected | None:
    """The rows of the present tables whose trials have not changed since; None without tables."""
    try:
        trials, questions, sources = ledger.results_with_sources()
    except RecordError:
        return None
    sources = sources.filter(
        pl.Series([is_unchanged(row, ledger, shared) for row in sources.to_dicts()], dtype=pl.Boolean)
    )
    are_kept = pl.col("trial").is_in(sources["trial"].to_list())
    return Collected(trials=trials.filter(are_kept), questions=questions.filter(are_kept), sources=sources)


def is_unchanged(source: Mapping[str, str], ledger: Ledger, shared: Shared) -> bool:
    """Are the files of a trial still those that its rows were made from?"""
    return source["stamp"] == stamp(source["trial"], source["untrained"], source["pool"], ledger, shared)


def stamp(key: str, untrained: str, pool_name: str, ledger: Ledger, shared: Shared) -> str:
    """What differs whenever a trial's rows might."""
    return fingerprint([MADE_BY, ledger.stamp_trial(key, untrained), shared.stamp_pool(pool_name)])


def read_all(folders: Iterable[str], ledger: Ledger, shared: Shared) -> tuple[Collected | None, list[Failure]]:
    """The rows of these trials, None if there are none; and those that are left out, and why."""
    found: list[tuple[Done, list[dict[str, Any]]]] = []
    left_out: list[Failure] = []
    for folder in folders:
        try:
            done = read_done(ledger, folder, shared)
            found.append((done, trial_rows(ledger, done, shared)))
        except AnotherTrial:
            continue  # a copy that a person made
        except (UserError, pl.exceptions.PolarsError) as error:
            left_out.append(Failure(key=folder, phase="storage", reason=f"not in the results: {explain(error)}"))
    return combine(found), left_out


def combine(found: Sequence[tuple[Done, list[dict[str, Any]]]]) -> Collected | None:
    """Trials with their rows, as tables; None if there are none."""
    if not found:
        return None
    rows = [row for _, of_trial in found for row in of_trial]
    return Collected(
        trials=pl.DataFrame(rows, schema_overrides=TYPES, infer_schema_length=None),
        questions=pl.concat(done.questions for done, _ in found).lazy(),
        sources=pl.DataFrame([done.source for done, _ in found]),
    )


def explain(error: Exception) -> str:
    """What is wrong with a trial's files. Tables of other columns are readable, and only found to be so in use."""
    if isinstance(error, UserError):
        return str(error)
    return f"a table of another version of Engram ({error}); remove its folder, so that it is made again"


def read_done(ledger: Ledger, key: str, shared: Shared) -> Done:
    """A trial with its questions before and after, with its key and its cell of the grid."""
    begun = ledger.begun(key)
    trial, untrained = begun.trial, name_untrained(begun.identity)
    made_from = stamp(key, untrained, trial.pool, ledger, shared)  # before its files are read
    moments = {"before": shared.questions_before(untrained), "after": ledger.questions(key)}
    about = {name: pl.lit(getattr(trial, name)) for name in ("domain", "protocol", "context_mode")}
    tables = [
        t.match_to_schema(marks.SCHEMA).with_columns(moment=pl.lit(m), trial=pl.lit(key)) for m, t in moments.items()
    ]
    return Done(
        key=key,
        begun=begun,
        questions=pl.concat(tables).with_columns(**about),
        source={"trial": key, "untrained": untrained, "pool": trial.pool, "stamp": made_from},
    )


def trial_rows(ledger: Ledger, done: Done, shared: Shared) -> list[dict[str, Any]]:
    """A trial's rows of the table: what it was, what it cost, what it scored."""
    fixed = describe(ledger, done) | costs(ledger, done, shared)
    return [fixed | row for row in scores(done.questions).iter_rows(named=True)]


def scores(questions: pl.DataFrame) -> pl.DataFrame:
    """One row per condition and moment, from the rows of the question table."""
    choice = pl.col("form") == CHOICE.name
    others = {f"accuracy_{form}": pl.col("correct").filter(pl.col("form") == form).mean() for form in OTHER_FORMS}
    return questions.group_by("condition", "moment", maintain_order=True).agg(
        n_items=pl.col("item").filter(choice).n_unique(),
        n_questions=choice.sum(),
        accuracy=pl.col("correct").filter(choice).mean(),
        **others,
        p_correct=pl.col("p_correct").filter(choice).mean(),
        nll_correct=pl.col("nll_correct").filter(choice).mean(),
    )


def describe(ledger: Ledger, done: Done) -> dict[str, Any]:
    """What the trial is."""
    trial = done.begun.trial
    arch = catalogue.find(trial.trainee).architecture
    training = trial.training
    lora = training.method == "lora"
    return {
        "study": ledger.store.root.rstrip("/").rsplit("/", 1)[-1],
        "trial": done.key,
        "domain": trial.domain,
        "protocol": trial.protocol,
        "context_mode": trial.context_mode,
        "trainee": slug(trial.trainee),
        "generator": slug(trial.writer),
        "method": training.method,
        "label": trial.label or None,
        "precision": trial.precision,
        "budget": trial.budget,
        "seed": trial.seed,
        "pool_seed": trial.writer_seed,
        "learning_rate": training.learning_rate,
        "lora_rank": training.lora_rank if lora else None,
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "params": n_params(arch),
        "params_non_embedding": n_params_non_embedding(arch),
        "params_trained": n_params_lora(arch, training.lora_rank) if lora else n_params(arch),
    }


def costs(ledger: Ledger, done: Done, shared: Shared) -> dict[str, Any]:
    """What the trial took and where it ran, and what had been estimated."""
    trained, scored = asdict(ledger.trained(done.key)), ledger.scored(done.key)
    estimated = asdict(done.begun.estimate)
    return (
        {name: trained[name] for name in TAKEN}
        | selfplay_cost(done.begun.trial, shared)
        | {"evaluate_seconds": scored.evaluate_seconds}
        | {name: trained[name] for name in RAN_ON}
        | {"tensor_parallel": scored.tensor_parallel}
        | {"versions": " ".join(f"{part} {v}" for part, v in sorted(done.begun.versions.items()))}
        | {f"estimated_{name}": estimated[name] for name in ESTIMATED}
    )


def selfplay_cost(trial: Trial, shared: Shared) -> dict[str, float]:
    """Tokens and operations of the draws that the trial's budget needed; a pool may have more, for larger budgets."""
    draws = pool.draws_needed(*shared.pool_costs(trial.pool), trial.budget)
    prompts, new = int(draws["prompt_tokens"].sum()), int(draws["new_tokens"].sum())
    context = (prompts + new) / max(int(draws["completions"].sum()), 1) / 2
    arch = catalogue.find(trial.writer).architecture
    return {"selfplay_tokens": new, "selfplay_flops": arithmetic.selfplay_flops(arch, prompts, new, context)}
