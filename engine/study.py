"""What a study is: a flat list of trials, each with a readable key and a fingerprint of all that bears on its result.

    study = Study(name="mine", trials=grid(trainees=["smollm2-135m"], domains=["events"], protocols=["naive"]))

Where a trial runs (paths, workers, GPUs, ZeRO stage) is never part of its identity; it is recorded beside it.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any, Literal

from engine import chat, general, models, news, parsing, protocols, references, weights
from engine.architecture import ModelError
from engine.protocols import CONTEXT_MODES, ContextMode

Precision = Literal["float32", "bfloat16"]
# choice: the options' likelihoods; letter: the choices again, by letter; statement: pairs; task: a free answer;
# held_out: choices made from an item's reference; general: questions that have nothing to do with the news
Form = Literal["choice", "letter", "statement", "task", "held_out", "general"]
FORMS: tuple[Form, ...] = ("choice", "letter", "statement", "task", "held_out", "general")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the generator samples. `max_tokens` bounds one completion."""

    temperature: float = 0.9
    top_p: float = 0.95
    max_tokens: int = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How the trainee is fine-tuned.

    `batch_size` counts replay elements a step, over all devices; `warmup` is a share of all steps; the learning rate is
    the highest that the schedule reaches. `method` "lora" trains adapters on all linear layers.
    """

    method: Literal["lora", "full"] = "lora"
    lora_rank: int = 16
    lora_alpha: int = 32
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    epochs: int = 8
    batch_size: int = 8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One cell of the grid. `budget`: replay elements an item. `generator` is the trainee where it is empty.

    `forms`: in which forms the trained model is asked; the letters take most of an evaluation's time, and models below
    about a billion parameters answer them at random.
    """

    trainee: str
    domain: str
    protocol: str
    context_mode: ContextMode = "none"
    generator: str = ""
    budget: int = 8
    seed: int = 0
    precision: Precision = "float32"
    forms: tuple[Form, ...] = FORMS
    sampling: Sampling = field(default_factory=Sampling)
    training: Training = field(default_factory=Training)

    @property
    def writer(self) -> str:
        """The model that wrote the pool."""
        return self.generator or self.trainee

    @property
    def key(self) -> str:
        """The name of the trial's directory, such as `events-self_qa-qwen2.5-0.5b-n64-s0`."""
        mode = "" if self.context_mode == "none" else f"+{self.context_mode}"
        by = f"-by-{slug(self.writer)}" if self.writer != self.trainee else ""
        full = "-full" if self.training.method == "full" else ""
        return f"{self.domain}-{self.protocol}{mode}-{slug(self.trainee)}{by}{full}-n{self.budget}-s{self.seed}"

    @property
    def pool(self) -> str:
        """The name of the pool's directory."""
        return f"{self.domain}-{self.protocol}-{slug(self.writer)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A named list of trials. `news`: a JSON Lines file (default: the shipped set); `n_items`: the first n a domain."""

    name: str
    trials: tuple[Trial, ...]
    news: str | None = None
    n_items: int | None = None


def slug(name: str) -> str:
    """A model's name as part of a file name: a folder's last part, `org/name` without the slash."""
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
    """All combinations as trials; `same` are the fields that all of them share."""
    axes = product(trainees, domains, protocols, context_modes, budgets, seeds)
    return tuple(
        Trial(trainee=t, domain=d, protocol=p, context_mode=c, budget=b, seed=s, **same) for t, d, p, c, b, s in axes
    )


def narrow(study: Study, **allowed: Sequence[Any] | None) -> Study:
    """The study with only the trials whose field is among the allowed values; None allows all.

    Raises ValueError if a value occurs nowhere in the study, with the values that do.
    """
    trials = study.trials
    for name, values in allowed.items():
        if values is None:
            continue
        present = sorted({getattr(t, name) for t in study.trials})
        if unknown := [v for v in values if v not in present]:
            raise ValueError(
                f"study {study.name!r} has no {name} {unknown[0]!r}; it has: {', '.join(map(str, present))}"
            )
        trials = tuple(t for t in trials if getattr(t, name) in values)
    if not trials:
        raise ValueError(f"nothing of study {study.name!r} is left after narrowing")
    return replace(study, trials=trials)


# ---- identity -------------------------------------------------------------------------------------------------------


def canonical(value: Any) -> str:
    """Strict canonical JSON: sorted keys, no NaN. Raises TypeError on anything that is not plain data."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def fingerprint(identity: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON of an identity."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()


def pool_identity(trial: Trial, items: Sequence[news.NewsItem]) -> dict[str, Any]:
    """All that bears on a pool: who writes, under which prompts, sampled how, about which news."""
    return {
        "generator": revision(trial.writer),
        "precision": trial.precision,
        "protocol": {"name": trial.protocol, "prompts": list(protocols.find(trial.protocol).prompts)},
        "parsers": parsing.VERSION,
        "with_news": chat.WITH_NEWS,
        "sampling": asdict(trial.sampling),
        "news": {item.id: item.text for item in items},
    }


def trial_identity(trial: Trial, items: Sequence[news.NewsItem]) -> dict[str, Any]:
    """All that bears on a trial's result: its own fields, its pool's identity, the trainee and what is asked."""
    return {
        **{k: v for k, v in asdict(trial).items() if k not in ("trainee", "generator", "sampling")},
        "trainee": revision(trial.trainee),
        "pool": pool_identity(trial, items),
        "forms": list(trial.forms),  # not a tuple: compared with what JSON gives back
        "asked": {item.id: what_is_asked(item, tuple(trial.forms)) for item in items},
        "general": general_fingerprint() if "general" in trial.forms else None,
        "asking": chat.WORDINGS,
    }


@cache
def what_is_asked(item: news.NewsItem, forms: tuple[Form, ...]) -> dict[str, Any]:
    """Everything about an item that a trial's scores depend on, besides its text."""
    asked: dict[str, Any] = {}
    if "choice" in forms:
        asked |= {q.id: [q.text, list(q.options), q.answer] for q in item.questions}
    if "statement" in forms:
        asked |= {s.id: [s.true, s.false] for s in item.statements}
    if "task" in forms and item.task:
        asked[item.task.id] = [item.task.text, list(item.task.answers)]
    if "held_out" in forms:
        made = {q.id: [q.text, list(q.options), q.answer] for q in references.held_out(item)}
        asked["held_out"] = fingerprint(made)
    return asked


@cache
def general_fingerprint() -> str:
    """Of the questions of general ability."""
    return fingerprint({q.id: [q.text, list(q.options), q.answer] for _, q in general.load()})


def before(identity: dict[str, Any]) -> str:
    """The name of the untrained model's scores; trials share them if they ask that model the same, of the same news."""
    same = {k: identity[k] for k in ("trainee", "precision", "domain", "forms", "asked", "general", "asking")}
    same["news"] = identity["pool"]["news"]
    return f"{identity['trainee'].rpartition('@')[0]}-{identity['domain']}-{fingerprint(same)[:12]}"


def revision(name: str) -> str:
    """`name@revision` of a model: its weights, wherever they lie."""
    model = models.find(name)
    return f"{slug(name)}@{weights.revision(model)}"


def differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """The fields in which two identities differ, a line each: `training.learning_rate: 0.001 → 0.0002`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b, name = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {short(a)} → {short(b)}")
    return lines


def short(value: Any) -> str:
    """A value for one line of an error."""
    text = canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


# ---- checks before anything starts ----------------------------------------------------------------------------------


def select(study: Study) -> dict[str, list[news.NewsItem]]:
    """The study's news items by domain. Raises news.NewsError for a bad file."""
    by_domain: dict[str, list[news.NewsItem]] = {}
    for item in news.load_news(study.news):
        chosen = by_domain.setdefault(item.domain, [])
        if study.n_items is None or len(chosen) < study.n_items:
            chosen.append(item)
    return by_domain


def faults(study: Study, by_domain: dict[str, list[news.NewsItem]]) -> list[str]:
    """Everything that is wrong with a study, a line each; empty if it can run."""
    lines = [f"two trials have the key {k!r}" for k, n in Counter(t.key for t in study.trials).items() if n > 1]
    found: dict[str, list[str]] = {}
    for trial in study.trials:
        for why in trial_faults(trial, by_domain):
            found.setdefault(why, []).append(trial.key)
    lines += [
        f"{why} ({keys[0]}{f' and {len(keys) - 1} more trials' * (len(keys) > 1)})" for why, keys in found.items()
    ]
    return lines + drafts(study, by_domain) + pool_conflicts(study.trials)


def drafts(study: Study, by_domain: dict[str, list[news.NewsItem]]) -> list[str]:
    """Questions that no person has checked yet, in the domains of the study."""
    items = [i for domain in sorted({t.domain for t in study.trials}) for i in by_domain.get(domain, [])]
    return [
        f"{study.news or 'shipped news'}:{item.line}: {q.id} is a draft: {q.text!r}; check it, then remove `draft`"
        for item in items
        for q in item.questions
        if q.draft
    ]


def trial_faults(trial: Trial, by_domain: dict[str, list[news.NewsItem]]) -> Iterable[str]:
    """What is wrong with one trial."""
    if trial.protocol not in protocols.PROTOCOLS:
        yield f"unknown protocol {trial.protocol!r}; known: {', '.join(sorted(protocols.PROTOCOLS))}"
    if trial.context_mode not in CONTEXT_MODES:
        yield f"unknown context mode {trial.context_mode!r}; known: {', '.join(CONTEXT_MODES)}"
    if unknown := set(trial.forms) - set(FORMS) or {"choice"} - set(trial.forms):
        yield f"forms: {min(unknown)!r} is unknown or missing; use choice, and any of {', '.join(FORMS[1:])}"
    if not by_domain.get(trial.domain):
        yield f"no news of domain {trial.domain!r}; there is: {', '.join(sorted(by_domain))}"
    for model in {trial.trainee, trial.writer}:
        try:
            models.find(model)
        except ModelError as error:
            yield str(error)
    for name, value in asdict(trial.training).items() | {("budget", trial.budget), ("top_p", trial.sampling.top_p)}:
        if name in ("learning_rate", "epochs", "batch_size", "lora_rank", "budget", "top_p") and value <= 0:
            yield f"{name} is {value}, must be above 0"


def pool_conflicts(trials: Iterable[Trial]) -> list[str]:
    """Trials that name the same pool but would have it sampled differently."""
    first: dict[str, Trial] = {}
    lines = []
    for trial in trials:
        other = first.setdefault(trial.pool, trial)
        if (other.sampling, other.precision) != (trial.sampling, trial.precision):
            lines.append(
                f"{trial.key} and {other.key} share the pool {trial.pool!r} but differ in sampling or precision"
            )
    return lines
