"""A study from news to results table: all pools, then all fine-tunes, then all scores.

Each phase reads only what the phase before it wrote, and does only what is not done: it can be run alone, again, or on
another machine.
"""

import logging
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import ray

from engine import inference, models, pool, progress, protocols, results, schedule, study, weights
from engine.cost import Machine
from engine.finetune import Job
from engine.plan import Failure, Planned
from engine.pool import PoolTooSmall
from engine.store import Store

PARTS = ("engram", "ray", "torch", "deepspeed", "transformers", "peft")
MAX_CONTEXT = 2048  # tokens of one prompt with its answer, in self-play and evaluation


def run(planned: Sequence[Planned], store: Store, machine: Machine) -> list[Failure]:
    """Brings all planned trials to their results; gives those that failed. Ray has to be running."""
    prepare(planned, store)
    play(planned, store, machine)
    failures = fine_tune(planned, store)
    failed = {f.key for f in failures}
    failures += evaluate([p for p in planned if p.trial.key not in failed], store)
    results.collect(store)
    return failures


def prepare(planned: Sequence[Planned], store: Store) -> None:
    """Brings the models to this machine and writes each trial's settings; nothing has been computed yet."""
    for name in sorted({m for p in planned for m in (p.trial.trainee, p.trial.writer)}):
        weights.pull(models.find(name))
    for p in planned:
        begin(p, store)


def begin(p: Planned, store: Store) -> None:
    """Writes trial.json: settings, identity, versions."""
    if not store.exists(f"{p.path}/trial.json"):
        record = {
            "trial": asdict(p.trial),
            "identity": p.identity,
            "fingerprint": study.fingerprint(p.identity),
            "versions": {"python": platform.python_version()} | {part: version(part) for part in PARTS},
            "estimate": asdict(p.estimate),
        }
        store.write_json(f"{p.path}/trial.json", record)


# ---- self-play -------------------------------------------------------------------------------------------------------


def play(planned: Sequence[Planned], store: Store, machine: Machine) -> None:
    """Writes what is missing in the pools, one generator after the other."""
    from engine import selfplay

    quiet_ray_data()
    for name in sorted({p.trial.writer for p in planned}):
        orders = missing([p for p in planned if p.trial.writer == name], store)
        if orders:
            first = next(p for p in planned if p.trial.writer == name)
            with progress.shown(f"self-play by {study.slug(name)}", len(orders)):
                selfplay.run(generator(first, machine), orders, store, n_engines(first, machine))


def quiet_ray_data() -> None:
    """Its own progress and plans are not for our users, who see one line."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def missing(planned: Sequence[Planned], store: Store) -> "list[Any]":
    """An order for each item of each pool that does not yet hold the largest budget asked of it."""
    from engine.selfplay import Order

    orders = []
    for name in sorted({p.trial.pool for p in planned if protocols.find(p.trial.protocol).write}):
        users = [p for p in planned if p.trial.pool == name]
        trial, wanted = users[0].trial, max(p.trial.budget for p in users)
        claim(users[0], store)
        draws, protocol = pool.read_draws(store, name), protocols.find(trial.protocol)
        for item in users[0].items:
            if len(pool.elements_of(draws.get(item.id, []), protocol)[0]) < wanted:
                orders.append(Order(item=item, protocol=protocol, sampling=trial.sampling, pool=name, wanted=wanted))
    return orders


def claim(p: Planned, store: Store) -> None:
    """Writes pool.json, or refuses a pool that was begun with other settings."""
    identity, path = p.identity["pool"], f"pools/{p.trial.pool}/pool.json"
    if not store.exists(path):
        store.write_json(path, {"identity": identity, "fingerprint": study.fingerprint(identity)})
    begun = store.read_json(path)["identity"]
    if lines := study.differences(begun, identity):
        raise ValueError(f"pool {p.trial.pool} was begun with other settings:\n    " + "\n    ".join(lines))


def generator(p: Planned, machine: Machine) -> Any:
    """The model that writes, as an actor needs it."""
    from engine.selfplay import Generator

    model = models.find(p.trial.writer)
    return Generator(
        name=p.trial.writer,
        revision=weights.revision(model),
        precision=p.trial.precision,
        profile=inference_profile(p, p.trial.writer, machine),
        max_context=min(MAX_CONTEXT, model.architecture.max_context),
    )


def inference_profile(p: Planned, name: str, machine: Machine) -> Any:
    """How a model runs in vLLM."""
    from engine import cost

    return cost.profile(models.find(name).architecture, p.trial.training, p.trial.precision, machine)


def n_engines(p: Planned, machine: Machine) -> tuple[int, int]:
    """At least one engine, at most as many as the cluster's devices hold."""
    if machine.device == "cpu":
        return 1, 1
    parallel = inference_profile(p, p.trial.writer, machine).tensor_parallel
    return 1, max(1, int(schedule.largest_cluster().get("GPU", 1) // parallel))


# ---- fine-tune -------------------------------------------------------------------------------------------------------


def fine_tune(planned: Sequence[Planned], store: Store) -> list[Failure]:
    """Fine-tunes all trials that are not trained. A trial whose pool is too small has failed before it starts."""
    jobs, failures = [], []
    for p in planned:
        if store.exists(f"{p.path}/trained.json"):
            continue
        try:
            jobs.append(job(p, store))
        except PoolTooSmall as why:
            failures.append(Failure(key=p.trial.key, reason=str(why)))
            store.write_json(f"{p.path}/failure.json", {"reason": str(why)})
    return failures + (schedule.run(jobs, store) if jobs else [])


def job(p: Planned, store: Store) -> Job:
    """What the workers of a trial need. Raises PoolTooSmall."""
    trial = p.trial
    elements = pool.replay(store, trial.pool, protocols.find(trial.protocol), p.items, trial.budget)
    in_front = {item.id: item.text if trial.context_mode != "none" else None for item in p.items}
    return Job(
        key=trial.key,
        trainee=trial.trainee,
        elements=tuple((e.user, e.assistant, in_front[item]) for item, of_item in elements.items() for e in of_item),
        learn_news=trial.context_mode == "prefix_loss",
        training=trial.training,
        precision=trial.precision,
        seed=trial.seed,
        profile=p.profile,
        store=store,
    )


# ---- evaluate --------------------------------------------------------------------------------------------------------


def evaluate(planned: Sequence[Planned], store: Store) -> list[Failure]:
    """Scores all trained trials and their base models: one engine a base model, one more a full fine-tune."""
    todo = [p for p in planned if not store.exists(f"{p.path}/result.json")]
    failures: list[Failure] = []
    if todo:
        bases = {p.before for p in todo if not store.exists(f"{p.before}/before.json")}
        with progress.shown("evaluate", len(todo) + len(bases)):
            for group in by_base(todo):
                failures += evaluate_base(group, store)
    return failures


def by_base(planned: Sequence[Planned]) -> list[list[Planned]]:
    """Trials that one engine can serve."""
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for p in planned:
        groups.setdefault((p.trial.trainee, p.trial.precision, p.trial.training.method), []).append(p)
    return list(groups.values())


def evaluate_base(group: Sequence[Planned], store: Store) -> list[Failure]:
    """Scores the trials of one base model; those without a result afterwards have failed."""
    reason = None
    if group[0].trial.training.method == "lora":
        reason = on_worker("score_adapters", group, store)
    else:
        reason = on_worker("score_untrained", group, store)
        for p in group:
            reason = on_worker("score_full", [p], store) or reason
    failures = [
        Failure(key=p.trial.key, reason=reason or "ended without a result")
        for p in group
        if not store.exists(f"{p.path}/result.json")
    ]
    for f in failures:
        store.write_json(f"trials/{f.key}/failure.json", {"reason": f.reason})
    return failures


def on_worker(what: str, group: Sequence[Planned], store: Store) -> str | None:
    """Runs a function of `engine.scoring` where there is room for the engine; gives the reason if it fails.

    A worker that dies is replaced twice; what it had scored is kept.
    """

    def score(group: Sequence[Planned], store: Store) -> None:
        from engine import scoring

        limit = models.find(group[0].trial.trainee).architecture.max_context
        getattr(scoring, what)(group, store, min(MAX_CONTEXT, limit))

    try:
        inference.on_worker(score, group[0].profile, list(group), store, retries=2)
    except ray.exceptions.RayError as error:
        return schedule.last_line(error)
    return None
