"""Everything that can be wrong with a study; it is checked before anything starts."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from engine.evaluation.questions import CHOICE, FORMS
from engine.inference import settings
from engine.models import catalogue
from engine.models.architecture import ModelError
from engine.news import items as news
from engine.news.items import NewsItem
from engine.selfplay import protocols
from engine.study import CONTEXT_MODES, Study, Trial

ByDomain = dict[str, list[NewsItem]]
POSITIVE = ("learning_rate", "epochs", "batch_size", "lora_rank", "budget", "top_p")
CHARS_PER_TOKEN = 4  # of news, before a tokenizer is there


def select_items(study: Study) -> ByDomain:
    """The study's news items by domain. Raises NewsError for a bad file."""
    by_domain: ByDomain = {}
    for item in news.load_news(study.news):
        chosen = by_domain.setdefault(item.domain, [])
        if study.n_items is None or len(chosen) < study.n_items:
            chosen.append(item)
    return by_domain


def find_faults(study: Study, by_domain: ByDomain) -> list[str]:
    """Everything that is wrong with a study, one line per fault; empty if it can run."""
    lines = [f"two trials have the key {k!r}" for k, n in Counter(t.key for t in study.trials).items() if n > 1]
    keys_of: dict[str, list[str]] = {}
    for trial in study.trials:
        for why in trial_faults(trial, by_domain):
            keys_of.setdefault(why, []).append(trial.key)
    lines += [
        f"{why} ({keys[0]}{f' and {len(keys) - 1} more trials' * (len(keys) > 1)})" for why, keys in keys_of.items()
    ]
    return lines + list(draft_faults(study, by_domain))


def trial_faults(trial: Trial, by_domain: ByDomain) -> Iterable[str]:
    """What is wrong with one trial."""
    if trial.protocol not in protocols.PROTOCOLS:
        yield f"unknown protocol {trial.protocol!r}; known: {', '.join(sorted(protocols.PROTOCOLS))}"
    if trial.context_mode not in CONTEXT_MODES:
        yield f"unknown context mode {trial.context_mode!r}; known: {', '.join(CONTEXT_MODES)}"
    if unknown := set(trial.forms) - set(FORMS) or {CHOICE.name} - set(trial.forms):
        others = ", ".join(name for name in FORMS if name != CHOICE.name)
        yield f"forms: {min(unknown)!r} is unknown or missing; use {CHOICE.name}, and any of {others}"
    if not by_domain.get(trial.domain):
        yield f"no news of domain {trial.domain!r}; there is: {', '.join(sorted(by_domain))}"
    for model in {trial.trainee, trial.writer}:
        try:
            catalogue.find(model)
        except ModelError as error:
            yield str(error)
    values = asdict(trial.training) | {"budget": trial.budget, "top_p": trial.sampling.top_p}
    yield from (f"{name} is {values[name]}, must be above 0" for name in POSITIVE if values[name] <= 0)


def draft_faults(study: Study, by_domain: ByDomain) -> Iterator[str]:
    """Questions that no person has checked yet, in the domains of the study."""
    for item in (i for domain in sorted({t.domain for t in study.trials}) for i in by_domain.get(domain, [])):
        for q in (q for q in item.questions if q.draft):
            where = f"{study.news or 'shipped news'}:{item.line}"
            yield f"{where}: {q.id} is a draft: {q.text!r}; check it, then remove `draft`"


def check_lengths(study: Study, by_domain: ByDomain) -> None:
    """Refuses news that cannot fit into the context that a model is given. Raises NewsError."""
    for name in sorted({m for t in study.trials for m in (t.trainee, t.writer)}):
        limit = min(settings.MAX_CONTEXT, catalogue.find(name).architecture.max_context)
        items = [i for domain in sorted({t.domain for t in study.trials}) for i in by_domain[domain]]
        news.check_length(items, study.news, lambda text: len(text) // CHARS_PER_TOKEN, limit, name)
