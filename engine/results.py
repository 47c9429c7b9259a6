"""The results tables, collected from the trials' files: what `analysis` reads.

`results/trials.parquet`, a row a trial, condition and moment:
    study, trial, domain, protocol, context_mode, trainee, generator, method, seed
    condition             closed_book | icl
    moment                before | after fine-tuning
    budget                replay elements an item
    learning_rate, epochs
    params, params_non_embedding, params_trained          counts
    train_tokens, unique_tokens                           tokens of all steps; of the distinct elements
    train_flops, selfplay_flops                           operations; self-play of the budget's share of the pool
    selfplay_tokens                                       tokens that the generator wrote for that share
    n_items, n_questions
    accuracy, accuracy_letter                             shares of the choice questions
    accuracy_statement, accuracy_task                     shares of the statement pairs (chance: a half) and free tasks
    accuracy_held_out                                     share of the choices made from the items' references
    accuracy_general                                      share of the questions without news (closed-book only)
                                                          what was not asked is null
    p_correct                                             mean probability of the right option among the options
    nll_correct                                           nats a token of the right option
    train_loss                                            nats a learned token, last epoch
    train_seconds, evaluate_seconds, gpu_seconds          seconds
    estimated_train_tokens, estimated_train_flops, estimated_selfplay_flops, estimated_seconds   made before the run

`results/questions.parquet`, a row a trial, condition, moment and question: form (choice | statement | task | held_out |
general), correct, correct_letter, p_correct, nll_correct, the raw option_logprobs (nats), option_tokens,
letter_probabilities, reply.
"""

from typing import Any

import polars as pl

from engine import cost, models, pool, protocols, study
from engine.architecture import n_params, n_params_lora, n_params_non_embedding
from engine.store import Store, concat
from engine.study import Sampling, Training, Trial

COUNTED = ("train_tokens", "unique_tokens", "train_flops", "train_loss", "train_seconds", "gpu_seconds")
OTHER_FORMS = ("statement", "task", "held_out", "general")


def collect(store: Store) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Writes and gives the tables (trials, questions) of all trials that are done; nothing is written for none."""
    keys = [path.split("/")[1] for path in store.list("trials/*/result.json")]
    if not keys:
        return pl.DataFrame(), pl.DataFrame()
    parts = [question_rows(store, key) for key in keys]
    questions = concat(parts)
    rows = [row for key, part in zip(keys, parts, strict=True) for row in trial_rows(store, key, part)]
    trials = pl.DataFrame(rows, schema_overrides={f"accuracy_{f}": pl.Float64 for f in ("letter", *OTHER_FORMS)})
    store.write_table("results/trials.parquet", trials)
    store.write_table("results/questions.parquet", questions)
    return trials, questions


def read_trial(store: Store, key: str) -> Trial:
    """The trial as trial.json tells it."""
    fields = store.read_json(f"trials/{key}/trial.json")["trial"]
    nested = {"sampling": Sampling(**fields["sampling"]), "training": Training(**fields["training"])}
    return Trial(**fields | nested | {"forms": tuple(fields["forms"])})


def question_rows(store: Store, key: str) -> pl.DataFrame:
    """A trial's questions before and after, with its key."""
    trial = read_trial(store, key)
    identity = store.read_json(f"trials/{key}/trial.json")["identity"]
    before = store.read_table(f"before/{study.before(identity)}/questions.parquet")
    after = store.read_table(f"trials/{key}/questions.parquet")
    tables = (t.with_columns(moment=pl.lit(m), trial=pl.lit(key)) for t, m in ((before, "before"), (after, "after")))
    return pl.concat(tables).with_columns(
        domain=pl.lit(trial.domain), protocol=pl.lit(trial.protocol), context_mode=pl.lit(trial.context_mode)
    )


def trial_rows(store: Store, key: str, questions: pl.DataFrame) -> list[dict[str, Any]]:
    """A trial's rows of the table: what it was, what it cost, what it scored."""
    fixed = described(store, key) | costs(store, key)
    choice = pl.col("form") == "choice"
    others = {f"accuracy_{form}": pl.col("correct").filter(pl.col("form") == form).mean() for form in OTHER_FORMS}
    scores = questions.group_by("condition", "moment", maintain_order=True).agg(
        n_items=pl.col("item").filter(choice).n_unique(),
        n_questions=choice.sum(),
        accuracy=pl.col("correct").filter(choice).mean(),
        accuracy_letter=pl.col("correct_letter").mean(),
        **others,
        p_correct=pl.col("p_correct").filter(choice).mean(),
        nll_correct=pl.col("nll_correct").filter(choice).mean(),
    )
    return [fixed | row for row in scores.iter_rows(named=True)]


def described(store: Store, key: str) -> dict[str, Any]:
    """What the trial is."""
    trial = read_trial(store, key)
    arch = models.find(trial.trainee).architecture
    lora = trial.training.method == "lora"
    return {
        "study": store.root.rstrip("/").rsplit("/", 1)[-1],
        "trial": key,
        "domain": trial.domain,
        "protocol": trial.protocol,
        "context_mode": trial.context_mode,
        "trainee": study.slug(trial.trainee),
        "generator": study.slug(trial.writer),
        "method": trial.training.method,
        "budget": trial.budget,
        "seed": trial.seed,
        "learning_rate": trial.training.learning_rate,
        "epochs": trial.training.epochs,
        "params": n_params(arch),
        "params_non_embedding": n_params_non_embedding(arch),
        "params_trained": n_params_lora(arch, trial.training.lora_rank) if lora else n_params(arch),
    }


def costs(store: Store, key: str) -> dict[str, Any]:
    """What the trial took, and what had been estimated."""
    trained = store.read_json(f"trials/{key}/trained.json")
    estimated = store.read_json(f"trials/{key}/trial.json")["estimate"]
    return (
        {name: trained[name] for name in COUNTED}
        | selfplay_cost(store, read_trial(store, key))
        | {"evaluate_seconds": store.read_json(f"trials/{key}/result.json")["evaluate_seconds"]}
        | {f"estimated_{n}": estimated[n] for n in ("train_tokens", "train_flops", "selfplay_flops", "seconds")}
    )


def selfplay_cost(store: Store, trial: Trial) -> dict[str, float]:
    """Tokens and operations of the draws that the trial's budget needed; a pool may hold more, for larger budgets."""
    protocol = protocols.find(trial.protocol)
    if protocol.write is None:
        return {"selfplay_tokens": 0, "selfplay_flops": 0.0}
    drawn = [
        d for draws in pool.read_draws(store, trial.pool).values() for d in pool.needed(draws, protocol, trial.budget)
    ]
    read, wrote = sum(d.prompt_tokens for d in drawn), sum(d.new_tokens for d in drawn)
    context = (read + wrote) / max(sum(len(d.completions) for d in drawn), 1) / 2
    arch = models.find(trial.writer).architecture
    return {"selfplay_tokens": wrote, "selfplay_flops": cost.selfplay_flops(arch, read, wrote, context)}
