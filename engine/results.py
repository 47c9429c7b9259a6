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
    estimated_train_tokens, estimated_train_flops, estimated_selfplay_flops, estimated_seconds   made before the run

An accuracy is null where a form was not asked.

`results/questions.parquet`, one row per trial, condition, moment, form and question: kind (what the question needs),
form (choice | letter | statement | task | held_out | general), correct, p_correct, nll_correct, answer, the raw
option_logprobs (nats), option_tokens, letter_probabilities, reply.
"""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from engine import UserError
from engine.evaluation.questions import CHOICE, FORMS
from engine.models import arithmetic, catalogue
from engine.models.architecture import n_params, n_params_lora, n_params_non_embedding
from engine.selfplay import pool
from engine.storage.ledger import AnotherTrial, Ledger
from engine.storage.records import Begun, Failure, RecordError
from engine.storage.store import concat
from engine.study import Trial, slug

TAKEN = ("train_tokens", "unique_tokens", "train_flops", "train_loss", "train_seconds", "gpu_seconds")
RAN_ON = ("device", "device_name", "n_workers", "zero_stage")
ESTIMATED = ("train_tokens", "train_flops", "selfplay_flops", "seconds")
OTHER_FORMS = tuple(name for name in FORMS if name != CHOICE.name)
# Null for all trials of a study, unless somebody asked or named something.
TYPES = {f"accuracy_{form}": pl.Float64 for form in OTHER_FORMS} | {"label": pl.String}


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A trial that is done: what was begun, and its questions before and after."""

    key: str
    begun: Begun
    questions: pl.DataFrame


def is_current(ledger: Ledger) -> bool:
    """Are the tables readable, of all trials that are done and no others, and newer than all of them?"""
    keys = ledger.done_keys()
    try:
        trials, _ = ledger.results()
    except RecordError:
        return not keys
    return set(trials["trial"]) == set(keys) and ledger.results_are_newer_than(keys)


def collect(ledger: Ledger) -> list[Failure]:
    """Writes the tables of all trials that are done, if there are any; gives those that are left out, and why."""
    rows: list[dict[str, Any]] = []
    questions: list[pl.DataFrame] = []
    left_out: list[Failure] = []
    for folder in ledger.scored_folders():
        try:
            done = read_done(ledger, folder)
            rows += trial_rows(ledger, done)
            questions.append(done.questions)
        except AnotherTrial:
            continue  # a copy that a person made
        except (UserError, pl.exceptions.PolarsError) as error:
            left_out.append(Failure(key=folder, phase="storage", reason=f"not in the results: {explain(error)}"))
    if rows:
        trials = pl.DataFrame(rows, schema_overrides=TYPES, infer_schema_length=None)
        ledger.put_results(trials, concat(questions))
    return left_out


def explain(error: Exception) -> str:
    """What is wrong with a trial's files. Tables of other columns are readable, and only found to be so in use."""
    if isinstance(error, UserError):
        return str(error)
    return f"a table of another version of Engram ({error}); remove its folder, so that it is made again"


def read_done(ledger: Ledger, key: str) -> Done:
    """A trial with its questions before and after, with its key and its cell of the grid."""
    begun = ledger.begun(key)
    moments = {"before": ledger.untrained_questions(begun.identity), "after": ledger.questions(key)}
    about = {name: getattr(begun.trial, name) for name in ("domain", "protocol", "context_mode")}
    tables = [table.with_columns(moment=pl.lit(m), trial=pl.lit(key)) for m, table in moments.items()]
    return Done(
        key=key, begun=begun, questions=pl.concat(tables).with_columns(**{k: pl.lit(v) for k, v in about.items()})
    )


def trial_rows(ledger: Ledger, done: Done) -> list[dict[str, Any]]:
    """A trial's rows of the table: what it was, what it cost, what it scored."""
    fixed = describe(ledger, done) | costs(ledger, done)
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


def costs(ledger: Ledger, done: Done) -> dict[str, Any]:
    """What the trial took and where it ran, and what had been estimated."""
    trained, scored = asdict(ledger.trained(done.key)), ledger.scored(done.key)
    estimated = asdict(done.begun.estimate)
    return (
        {name: trained[name] for name in TAKEN}
        | selfplay_cost(ledger, done.begun.trial)
        | {"evaluate_seconds": scored.evaluate_seconds}
        | {name: trained[name] for name in RAN_ON}
        | {"tensor_parallel": scored.tensor_parallel}
        | {"versions": " ".join(f"{part} {v}" for part, v in sorted(done.begun.versions.items()))}
        | {f"estimated_{name}": estimated[name] for name in ESTIMATED}
    )


def selfplay_cost(ledger: Ledger, trial: Trial) -> dict[str, float]:
    """Tokens and operations of the draws that the trial's budget needed; a pool may have more, for larger budgets."""
    elements = ledger.read_elements(trial.pool)
    draws = pool.draws_needed(pool.read_table(ledger, trial.pool), elements, trial.budget)
    prompts, new = int(draws["prompt_tokens"].sum()), int(draws["new_tokens"].sum())
    context = (prompts + new) / max(int(draws["completions"].list.len().sum()), 1) / 2
    arch = catalogue.find(trial.writer).architecture
    return {"selfplay_tokens": new, "selfplay_flops": arithmetic.selfplay_flops(arch, prompts, new, context)}
