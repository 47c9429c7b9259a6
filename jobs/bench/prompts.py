"""The prompts that all contenders of the self-play benchmark get: rewordings of the shipped news."""

import hashlib
from dataclasses import dataclass
from typing import Any

from bench.contest import Bed
from engine.inference.settings import MAX_CONTEXT
from engine.news.items import NewsItem
from engine.selfplay import orders as selfplay
from engine.selfplay import pool, protocols
from engine.selfplay.orders import Generator, Order
from engine.selfplay.protocols import Draft, Element, Protocol, Script
from engine.storage.ledger import Ledger
from engine.study import Sampling

POOL = "bench"


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What each contender writes: `draws` rewordings of each item."""

    bed: Bed
    items: tuple[NewsItem, ...]
    draws: int
    sampling: Sampling


def keep_all(news_text: str, draw: int) -> Script:
    """The prompts of `paraphrase`; whatever comes counts as one distinct element, so that no draw is repeated."""
    paraphrase = protocols.find("paraphrase").write
    assert paraphrase
    yield next(paraphrase(news_text, draw))
    return Draft(elements=[Element(user=protocols.TELL, assistant=hashlib.sha256(str(draw).encode()).hexdigest())])


def orders(work: Work) -> list[Order]:
    """The work as self-play takes it."""
    protocol = Protocol(name="bench", write=keep_all, prompts=(), per_draw=1, distinct_by="assistant")
    return [
        Order(item=item, protocol=protocol, sampling=work.sampling, pool=POOL, source=POOL, wanted=work.draws)
        for item in work.items
    ]


def prompts(work: Work) -> list[tuple[str, int]]:
    """Each prompt with its seed, in the order in which self-play asks."""
    return [
        (next(keep_all(item.text, draw))[0], selfplay.sampling_seed(work.bed.revision, POOL, item.id, draw, 0, 0))
        for item in work.items
        for draw in range(work.draws)
    ]


def generator(work: Work) -> Generator:
    """The model as self-play takes it."""
    b = work.bed
    return Generator(
        name=b.name, revision=b.revision, precision=b.precision, serving=b.serving, max_context=MAX_CONTEXT
    )


def written(ledger: Ledger) -> tuple[int, int]:
    """New tokens and prompt tokens in the pool."""
    table = pool.read_table(ledger, POOL)
    return int(table["new_tokens"].sum()), int(table["prompt_tokens"].sum())


def sampling_params(sampling: Sampling, seed: int | None) -> dict[str, Any]:
    """vLLM's parameters for one prompt, as self-play sets them."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": seed,
    }
