"""What each field of a study may be: one table of rules, for types, names and ranges alike.

Checked before a plan, not where a `Trial` is made, so that all faults of all trials are reported at once.
"""

import math
import re
import reprlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from engine.inference.settings import LORA_RANKS, MAX_CONTEXT
from engine.study import ALL_FORMS, CONTEXT_MODES, Method, Precision, Sampling, Schedule, Study, Training, Trial

Rule = tuple[Callable[[Any], bool], str]  # whether a value is allowed, and what is, in words

# What becomes part of a path: not hidden (".x"), no parent folder (".."), no other folder ("a/b"), no flag ("-x").
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NAME_CHARACTERS = "characters A-Z a-z 0-9 . _ + -, beginning with a letter or a digit"
MAX_NAME, MAX_PATH_PART = 100, 200  # bytes; file systems take 255, and some files are named after a key with more
MOST = 1_000_000  # of whatever is counted: more is a slip of the pen, and no plan could show what it costs
MAX_SEED = 2**32 - 1  # of NumPy
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80


def is_name(value: Any, most: int = MAX_NAME) -> bool:
    """Can it be part of a path?"""
    return isinstance(value, str) and len(value) <= most and NAME.fullmatch(value) is not None


def name() -> Rule:
    return is_name, f"1 to {MAX_NAME} of the {NAME_CHARACTERS}"


def text() -> Rule:
    return lambda value: isinstance(value, str) and bool(value.strip()), "a text"


def path() -> Rule:
    return lambda value: isinstance(value, str | Path) and bool(str(value).strip()), "the path of a file"


def one_of(*names: str) -> Rule:
    return lambda value: isinstance(value, str) and value in names, f"one of {', '.join(map(repr, names))}"


def whole(low: int, high: int = MOST) -> Rule:
    """A whole number in a range; True and False are none."""
    return (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        f"a whole number from {low} to {high}",
    )


def real(low: float, high: float = math.inf, *, above: bool = False) -> Rule:
    """A finite number in a range; with `above`, its lower end does not belong to the range."""
    return (
        lambda value: is_real(value) and low <= value <= high and not (above and value == low),
        f"a number {'above' if above else 'from'} {low}" + (" up" if high == math.inf else f" to {high}"),
    )


def is_real(value: Any) -> bool:
    """Is it a finite number? A whole number that no float can hold counts as infinite."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def made_of(kind: type) -> Rule:
    return lambda value: isinstance(value, kind), f"a {kind.__name__}"


def optional(rule: Rule, nothing: Any) -> Rule:
    """The rule, or the value that says "not given"."""
    is_allowed, words = rule
    return (
        lambda value: (type(value), value) == (type(nothing), nothing) or is_allowed(value),
        f"{words}, or {nothing!r}",
    )


def are_forms(value: Any) -> bool:
    """Known names of forms without doubles, the choices among them? All other numbers are compared with theirs."""
    if not isinstance(value, tuple | list) or not all(isinstance(form, str) for form in value):
        return False
    return set(value) <= set(ALL_FORMS) and len(set(value)) == len(value) and "choice" in value


def are_trials(value: Any) -> bool:
    return isinstance(value, tuple | list) and bool(value) and all(isinstance(trial, Trial) for trial in value)


FORMS = f"a tuple with 'choice' and any of {', '.join(f for f in ALL_FORMS if f != 'choice')}, each once"
RULES: dict[type, dict[str, Rule]] = {
    Study: {
        "name": name(),
        "trials": (are_trials, "a tuple of Trials, at least one"),
        "news": optional(path(), None),
        "n_items": optional(whole(1), None),
    },
    Trial: {
        "trainee": text(),
        "domain": name(),
        "protocol": name(),
        "context_mode": one_of(*CONTEXT_MODES),
        "generator": optional(text(), ""),
        "budget": whole(1),
        "seed": whole(0, MAX_SEED),
        "pool_seed": optional(whole(0, MAX_SEED), None),
        "precision": one_of(*get_args(Precision)),
        "forms": (are_forms, FORMS),
        "sampling": made_of(Sampling),
        "training": made_of(Training),
        "label": optional(name(), ""),
    },
    Sampling: {
        "temperature": real(0),
        "top_p": real(0, 1, above=True),
        "max_tokens": whole(1, MAX_CONTEXT - 1),  # one token of the context is the prompt's
    },
    Training: {
        "method": one_of(*get_args(Method)),
        "lora_rank": whole(1, LORA_RANKS[-1]),
        "lora_alpha": whole(1),
        "learning_rate": real(0, above=True),
        "schedule": one_of(*get_args(Schedule)),
        "warmup": real(0, 1),
        "epochs": whole(1),
        "batch_size": whole(1),
        "weight_decay": real(0),
        "max_grad_norm": real(0, above=True),
    },
}


def find_faults(settings: Study | Trial | Sampling | Training) -> dict[str, str]:
    """What is wrong with one object, by the field's name; a trial's sampling and training are looked into as well."""
    faults: dict[str, str] = {}
    rules = next(rules for kind, rules in RULES.items() if isinstance(settings, kind))
    for field, (is_allowed, words) in rules.items():
        value = getattr(settings, field)
        if not is_allowed(value):
            faults[field] = f"{field} is {SHORT.repr(value)}; use {words}"
        elif isinstance(value, Sampling | Training):
            faults |= find_faults(value)
    return faults


def find_key_faults(trial: Trial) -> Iterator[str]:
    """What is wrong with the names of a sound trial's folders, as wholes."""
    for what, value in (("the key", trial.key), ("the pool's name", trial.pool)):
        if not is_name(value, MAX_PATH_PART):
            remedy = f"use at most {MAX_PATH_PART}: a label in place of settings, or shorter names"
            yield f"{what} {value!r} has {len(value.encode())} bytes; {remedy}"
