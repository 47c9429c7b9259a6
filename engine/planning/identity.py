"""What makes two trials the same: all that affects their result, as plain data, and nothing of where they run."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache

from engine.evaluation import questions
from engine.inference import chat
from engine.models import catalogue, weights
from engine.news.items import NewsItem
from engine.selfplay import protocols
from engine.selfplay.code import code_digest
from engine.storage.fingerprint import Identity
from engine.study import Trial, slug


def identify_pool(trial: Trial, items: Sequence[NewsItem]) -> Identity:
    """All that affects a pool: the generator, its prompts, the code, the sampling and its seed, the news."""
    protocol = protocols.find(trial.protocol)
    return {
        "generator": revision(trial.writer),
        "precision": trial.precision,
        "protocol": {"name": trial.protocol, "prompts": list(protocol.prompts), "code": digest(trial.protocol)},
        "with_news": chat.WITH_NEWS,
        "sampling": asdict(trial.sampling),
        "source": trial.source,
        "news": identify_news(tuple(items)),
    }


def identify_trial(trial: Trial, items: Sequence[NewsItem]) -> Identity:
    """All that affects a trial's result: its settings, its pool, the trainee and what is asked. Not its label."""
    own = ("domain", "protocol", "context_mode", "budget", "seed", "precision")
    return {
        **{name: getattr(trial, name) for name in own},
        "training": asdict(trial.training),
        "trainee": revision(trial.trainee),
        "pool": identify_pool(trial, items),
        "asked": identify_asked(tuple(items), tuple(trial.forms)),
        "asking": chat.WORDINGS,
    }


@cache
def identify_news(items: tuple[NewsItem, ...]) -> Identity:
    """The texts of news items. The trials of a study share it, as they do what they are asked."""
    return {item.id: item.text for item in items}


@cache
def identify_asked(items: tuple[NewsItem, ...], forms: tuple[str, ...]) -> Identity:
    """All that is asked about news items."""
    return questions.identify(items, forms)


@cache
def digest(protocol: str) -> str:
    """Of the code of a protocol."""
    return code_digest(protocols.find(protocol))


def revision(name: str) -> str:
    """`name@revision` of a model: its weights, wherever they are."""
    return f"{slug(name)}@{weights.revision(catalogue.find(name))}"
