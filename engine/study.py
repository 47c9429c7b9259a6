"""What a user writes: a study is a name and a flat list of trials. This file imports nothing of the engine.

    study = Study(name="mine", trials=grid(trainees=["smollm2-135m"], domains=["events"], protocols=["naive"]))

Where a trial runs (paths, workers, GPUs, ZeRO stage) is not part of it: that is planned and recorded beside it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any, Literal

from engine import UserError

Precision = Literal["auto", "float32", "bfloat16"]  # auto: float32 on a CPU, bfloat16 on a GPU
Method = Literal["lora", "full"]
Schedule = Literal["cosine", "constant"]
# What stands in front of a replay element in training: nothing; the news, without loss on it; the news, with loss.
ContextMode = Literal["none", "prefix", "prefix_loss"]
CONTEXT_MODES: tuple[ContextMode, ...] = ("none", "prefix", "prefix_loss")
# All forms of questions that ship, see `engine.evaluation.questions`.
ALL_FORMS = ("choice", "letter", "statement", "task", "held_out", "general")
# How a setting is abbreviated in a trial's key; of those without an abbreviation the value says enough.
ABBREVIATIONS = {
    "method": "",
    "lora_rank": "r",
    "lora_alpha": "a",
    "learning_rate": "lr",
    "schedule": "",
    "warmup": "w",
    "epochs": "e",
    "batch_size": "b",
    "weight_decay": "wd",
    "max_grad_norm": "g",
    "temperature": "t",
    "top_p": "p",
    "max_tokens": "m",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the generator samples. `max_tokens` limits one completion."""

    temperature: float = 0.9
    top_p: float = 0.95
    max_tokens: int = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How the trainee is fine-tuned.

    `batch_size` is in replay elements per step, over all devices; `warmup` is a share of all steps; `learning_rate` is
    the highest rate of the schedule. `method` "lora" trains adapters on all linear layers.
    """

    method: Method = "lora"
    lora_rank: int = 16
    lora_alpha: int = 32
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    epochs: int = 8
    batch_size: int = 8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One cell of the grid, run once.

    `budget`: replay elements per item. `generator`: the trainee, if empty. `seed`: of training, and of the pool too
    unless `pool_seed` is given: repetitions with different seeds learn from different pools, so that their spread
    contains the variance of generation. `forms`: in which forms the model is asked; the letters take most of an
    evaluation's time, and models below about a billion parameters answer them at random. `label`: names the settings
    in the key in place of their list. A plan resolves the precision "auto": a planned trial has one of the others.
    """

    trainee: str
    domain: str
    protocol: str
    context_mode: ContextMode = "none"
    generator: str = ""
    budget: int = 8
    seed: int = 0
    pool_seed: int | None = None
    precision: Precision = "auto"
    forms: tuple[str, ...] = ALL_FORMS
    sampling: Sampling = field(default_factory=Sampling)
    training: Training = field(default_factory=Training)
    label: str = ""

    @property
    def writer(self) -> str:
        """The model that writes the pool."""
        return self.generator or self.trainee

    @property
    def writer_seed(self) -> int:
        """The seed of the pool."""
        return self.seed if self.pool_seed is None else self.pool_seed

    @property
    def key(self) -> str:
        """The name of the trial's folder, such as `events-self_qa-qwen2.5-0.5b-n64-s0-lr0.0002`.

        It names every setting that differs from its default, and depends on nothing but the trial.
        """
        mode = "" if self.context_mode == "none" else f"+{self.context_mode}"
        by = f"-by-{slug(self.writer)}" if self.writer != self.trainee else ""
        seeds = f"s{self.seed}" + (f"-pool{self.writer_seed}" if self.writer_seed != self.seed else "")
        cell = f"{self.domain}-{self.protocol}{mode}-{slug(self.trainee)}{by}-n{self.budget}-{seeds}"
        return "-".join([cell, *([self.label] if self.label else self.settings)])

    @property
    def settings(self) -> list[str]:
        """Every setting that differs from its default, in short form."""
        forms = [] if self.forms == ALL_FORMS else ["+".join(self.forms)]
        return _different(self.training) + self.pool_settings + forms

    @property
    def pool_settings(self) -> list[str]:
        """Those of them that affect the pool."""
        return _different(self.sampling) + (["bf16"] if self.precision == "bfloat16" else [])

    @property
    def pool(self) -> str:
        """The name of the pool's folder. A label does not change it: trials with equal pools share one."""
        return "-".join([self.source, *self.pool_settings])

    @property
    def source(self) -> str:
        """What seeds the pool's sampling: equal for pools that differ in their sampling settings only."""
        seed = f"-s{self.writer_seed}" if self.writer_seed else ""
        return f"{self.domain}-{self.protocol}-{slug(self.writer)}{seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A named list of trials. `news`: a JSON Lines file (default: what ships); `n_items`: the first n per domain."""

    name: str
    trials: tuple[Trial, ...]
    news: str | None = None
    n_items: int | None = None


def _different(settings: Training | Sampling) -> list[str]:
    values = ((f.name, getattr(settings, f.name), f.default) for f in fields(settings))
    return [f"{ABBREVIATIONS[name]}{value}" for name, value, default in values if value != default]


def slug(name: str) -> str:
    """A model's name as part of a file name: the last part of a folder, `org/name` without the slash."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name.rstrip("/").rsplit("/", 1)[-1] if name[:1] in "./~" else name)


def grid(
    *,
    trainees: Sequence[str],
    domains: Sequence[str],
    protocols: Sequence[str],
    context_modes: Sequence[ContextMode] = ("none",),
    budgets: Sequence[int] = (8,),
    seeds: Sequence[int] = (0,),
    **same: Any,
) -> tuple[Trial, ...]:
    """All combinations as trials; `same` are the fields that all of them share.

    Raises UserError if an axis is one value: a text would be taken for the list of its letters.
    """
    given: dict[str, Any] = {"trainees": trainees, "domains": domains, "protocols": protocols}
    given |= {"context_modes": context_modes, "budgets": budgets, "seeds": seeds}
    if single := {name: v for name, v in given.items() if isinstance(v, str) or not isinstance(v, Iterable)}:
        raise UserError("\n".join(f"{name} is {value!r}; write a list: [{value!r}]" for name, value in single.items()))
    axes = product(trainees, domains, protocols, context_modes, budgets, seeds)
    return tuple(
        Trial(trainee=t, domain=d, protocol=p, context_mode=c, budget=b, seed=s, **same) for t, d, p, c, b, s in axes
    )


def narrow(study: Study, **allowed: Sequence[Any] | None) -> Study:
    """The study with only the trials whose field is among the allowed values; None allows all.

    Raises UserError if a value occurs nowhere in the study, with the values that do.
    """
    trials = study.trials
    for name, values in allowed.items():
        if values is None:
            continue
        present = [getattr(t, name) for t in study.trials]  # as it was written: types are checked with the plan
        if unknown := [v for v in values if v not in present]:
            known = ", ".join(dict.fromkeys(map(str, present)))
            raise UserError(f"study {study.name!r} has no {name} {unknown[0]!r}; it has: {known}")
        trials = tuple(t for t in trials if getattr(t, name) in values)
    if not trials:
        raise UserError(f"nothing of study {study.name!r} is left after narrowing")
    return replace(study, trials=trials)
