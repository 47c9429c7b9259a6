"""Everything that can be wrong with a study; it is checked before anything starts."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from engine import UserError
from engine.inference import settings
from engine.models import catalogue
from engine.models.architecture import ModelError
from engine.news import items as news
from engine.news.items import NewsItem
from engine.planning import rehearsal, rules
from engine.selfplay import protocols
from engine.study import Study, Trial

ByDomain = dict[str, list[NewsItem]]
CHARS_PER_TOKEN = 4  # of news, before a tokenizer is there


def select_items(study: Study) -> ByDomain:
    """The study's news items by domain. Raises NewsError for a bad file, UserError for a study that is none."""
    refuse_unreadable(study)
    by_domain: ByDomain = {}
    for item in news.load_news(study.news):
        chosen = by_domain.setdefault(item.domain, [])
        if study.n_items is None or len(chosen) < study.n_items:
            chosen.append(item)
    return by_domain


def refuse_unreadable(study: Study) -> None:
    """Raises UserError if the name, the news or the trials cannot be used at all, with all that is wrong by itself."""
    if faults := rules.find_faults(study):
        trials = study.trials if "trials" not in faults else ()
        lines = [f"study: {fault}" for fault in faults.values()]
        raise UserError("\n".join(lines + group((t, rules.find_faults(t).values()) for t in trials)))


def find_faults(study: Study, by_domain: ByDomain) -> list[str]:
    """Everything that is wrong with a study, one line per fault; empty if it can run."""
    faults = [rules.find_faults(trial) for trial in study.trials]
    sound = [t for t, wrong in zip(study.trials, faults, strict=True) if not wrong]
    named = [t for t, wrong in zip(study.trials, faults, strict=True) if not wrong.keys() & {"domain", "protocol"}]
    lines = [*clashes(sound), *group((trial, trial_faults(trial, by_domain)) for trial in study.trials)]
    return [*lines, *protocol_faults(named, by_domain), *draft_faults(named, study.news, by_domain)]


def group(faults: Iterable[tuple[Trial, Iterable[str]]]) -> list[str]:
    """One line per fault, however many trials have it."""
    keys_of: dict[str, list[str]] = {}
    for number, (trial, reasons) in enumerate(faults, 1):
        for why in reasons:
            keys_of.setdefault(why, []).append(name_trial(trial, number))
    return [
        f"{why} ({keys[0]}{f' and {len(keys) - 1} more trials' * (len(keys) > 1)})" for why, keys in keys_of.items()
    ]


def name_trial(trial: Trial, number: int) -> str:
    """Its key; its place in the study if its settings have the wrong types for one."""
    try:
        return trial.key
    except (TypeError, AttributeError, ValueError):
        return f"trial {number}"


def clashes(trials: Sequence[Trial]) -> Iterator[str]:
    """Trials or pools that would be written into one folder."""
    yield from (f"two trials have the key {k!r}" for k, n in Counter(t.key for t in trials).items() if n > 1)
    made_of: dict[str, set[tuple[str, str, str]]] = {}
    for t in trials:
        writer = os.path.realpath(t.writer) if os.path.isdir(t.writer) else t.writer
        made_of.setdefault(t.pool, set()).add((t.domain, t.protocol, writer))
    for pool, parts in made_of.items():
        if len(parts) > 1:
            first, second = sorted(parts)[:2]
            yield f"two pools have the name {pool!r}: of {first} and of {second}; rename a protocol or a model's folder"


def trial_faults(trial: Trial, by_domain: ByDomain) -> Iterator[str]:
    """What is wrong with one trial."""
    faults = rules.find_faults(trial)
    yield from faults.values()
    yield from () if faults else rules.find_key_faults(trial)
    if "protocol" not in faults and trial.protocol not in protocols.PROTOCOLS:
        yield f"unknown protocol {trial.protocol!r}; known: {', '.join(sorted(protocols.PROTOCOLS))}"
    if "domain" not in faults and not by_domain.get(trial.domain):
        yield f"no news of domain {trial.domain!r}; there is: {', '.join(sorted(by_domain))}"
    if not faults.keys() & {"trainee", "generator"}:
        yield from model_faults(trial, "max_tokens" not in faults and "sampling" not in faults)


def model_faults(trial: Trial, check_tokens: bool) -> Iterator[str]:
    """Models that are not there, and completions that fill the whole context of the one that writes them."""
    for name in sorted({trial.trainee, trial.writer}):
        try:
            limit = context_of(name)
        except ModelError as error:
            yield str(error)
            continue
        if check_tokens and name == trial.writer and trial.sampling.max_tokens >= limit:
            yield f"max_tokens is {trial.sampling.max_tokens}; {name} takes {limit} tokens, prompt included: use fewer"


def protocol_faults(trials: Sequence[Trial], by_domain: ByDomain) -> Iterator[str]:
    """What a rehearsal of each protocol finds, on one item of the study."""
    items = {t.protocol: by_domain[t.domain][0] for t in reversed(trials) if by_domain.get(t.domain)}
    for name in sorted(items.keys() & protocols.PROTOCOLS.keys()):
        yield from rehearsal.find_faults(protocols.find(name), items[name].text)


def draft_faults(trials: Sequence[Trial], source: str | None, by_domain: ByDomain) -> Iterator[str]:
    """Questions that no person has checked yet, in the domains of the study."""
    for item in (i for domain in sorted({t.domain for t in trials}) for i in by_domain.get(domain, [])):
        for q in (q for q in item.questions if q.draft):
            where = f"{source or 'shipped news'}:{item.line}"
            yield f"{where}: {q.id} is a draft: {q.text!r}; check it, then remove `draft`"


def check_lengths(study: Study, by_domain: ByDomain) -> None:
    """Refuses news that cannot fit into the context that a model is given. Raises NewsError."""
    for name in sorted({m for t in study.trials for m in (t.trainee, t.writer)}):
        limit = context_of(name)
        items = [i for domain in sorted({t.domain for t in study.trials}) for i in by_domain[domain]]
        news.check_length(items, study.news, lambda text: len(text) // CHARS_PER_TOKEN, limit, name)


def context_of(model: str) -> int:
    """The tokens that a model is given at most, prompt and answer together. Raises ModelError."""
    return min(settings.MAX_CONTEXT, catalogue.find(model).architecture.max_context)
