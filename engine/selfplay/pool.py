"""Pools: the draws that a generator has written, and the replay elements in them.

A draw is one run of a protocol's script on one item. Draws are numbered, so that a pool grows by its missing draws
only, and the first elements of an item are the same however far it has grown: budgets are nested.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from engine.inference.chat import Element
from engine.news.items import NewsItem
from engine.selfplay.duplicates import find_distinct
from engine.selfplay.protocols import Draft, Protocol
from engine.storage.ledger import Ledger

DRAWS: dict[str, Any] = {
    "item": pl.String,
    "draw": pl.Int64,
    "elements": pl.List(pl.Struct({"user": pl.String, "assistant": pl.String})),
    "dropped": pl.String,  # JSON: reason → count
    "completions": pl.List(pl.String),  # what the generator wrote, in the order of the prompts; “…” where cut off
    "prompt_tokens": pl.Int64,
    "new_tokens": pl.Int64,
}
# The kept elements of each item in the order in which a budget takes them, and the number of the draw that gave each.
ELEMENTS: dict[str, Any] = {"item": pl.String, "user": pl.String, "assistant": pl.String, "draw": pl.Int64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One run of a script: what was written and what it cost (tokens)."""

    item: str
    number: int
    draft: Draft
    completions: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    new_tokens: int = 0


def draws_table(draws: Sequence[Draw]) -> pl.DataFrame:
    """Draws as rows of a shard."""
    rows = [
        {
            "item": d.item,
            "draw": d.number,
            "elements": [{"user": e.user, "assistant": e.assistant} for e in d.draft.elements],
            "dropped": json.dumps(d.draft.dropped),
            "completions": d.completions,
            "prompt_tokens": d.prompt_tokens,
            "new_tokens": d.new_tokens,
        }
        for d in draws
    ]
    return pl.DataFrame(rows, schema=DRAWS)


def read_table(ledger: Ledger, pool: str) -> pl.DataFrame:
    """All draws of a pool, ordered by item and number."""
    table = ledger.draws(pool)
    return table.sort("item", "draw") if table.height else pl.DataFrame(schema=DRAWS)


def read_draws(ledger: Ledger, pool: str) -> dict[str, list[Draw]]:
    """All draws of a pool by item, in the order of their numbers."""
    draws: dict[str, list[Draw]] = {}
    for row in read_table(ledger, pool).iter_rows(named=True):
        draft = Draft(elements=[Element(**e) for e in row["elements"]], dropped=Counter(json.loads(row["dropped"])))
        draw = Draw(
            item=row["item"],
            number=row["draw"],
            draft=draft,
            completions=row["completions"],
            prompt_tokens=row["prompt_tokens"],
            new_tokens=row["new_tokens"],
        )
        draws.setdefault(row["item"], []).append(draw)
    return draws


def elements_of(draws: Sequence[Draw], protocol: Protocol) -> tuple[list[tuple[int, Element]], Counter[str]]:
    """The distinct elements of one item's draws in their order, each with its draw's number, and what was dropped.

    The second value counts dropped elements by reason.
    """
    ordered = sorted(draws, key=lambda d: d.number)
    pairs = [(d.number, e) for d in ordered for e in d.draft.elements]
    kept, dropped = find_distinct([e for _, e in pairs], protocol.distinct_by)
    return [pairs[i] for i in kept], sum((d.draft.dropped for d in ordered), dropped)


def elements_table(
    draws: Mapping[str, Sequence[Draw]], protocol: Protocol, items: Sequence[NewsItem], budget: int
) -> pl.DataFrame:
    """The replay elements of a pool. The naive protocol repeats the news `budget` times: equal budgets, equal steps."""
    if protocol.write is None:
        rows = [(item.id, protocol.prompts[0], item.text, 0) for item in items for _ in range(budget)]
    else:
        rows = [
            (item.id, element.user, element.assistant, number)
            for item in items
            for number, element in elements_of(draws.get(item.id, []), protocol)[0]
        ]
    return pl.DataFrame(rows, schema=ELEMENTS, orient="row")


def items_short_of(elements: pl.DataFrame | None, items: Sequence[NewsItem], budget: int) -> list[NewsItem]:
    """The items of which there are fewer than `budget` elements."""
    if elements is None:
        return list(items)
    there = dict(elements.group_by("item").len().iter_rows())
    return [item for item in items if there.get(item.id, 0) < budget]


def why_too_small(draws: Sequence[Draw], protocol: Protocol, item: str, budget: int) -> str:
    """Why one item's draws do not give `budget` elements, and what the generator wrote."""
    kept, dropped = elements_of(draws, protocol)
    reasons = ", ".join(f"{why} {n}" for why, n in dropped.most_common()) or "nothing dropped"
    shown = "\n".join(f"    | {text[:300]!r}" for d in draws[-3:] for text in d.completions[:1])
    return (
        f"item {item!r}, protocol {protocol.name!r}: {len(kept)} of {budget} elements after {len(draws)} draws "
        f"({reasons}). Use a stronger generator, a smaller budget or other prompts. The last completions:\n{shown}"
    )


def draws_needed(draws: pl.DataFrame, elements: pl.DataFrame, budget: int) -> pl.DataFrame:
    """The first draws of each item, as many as its first `budget` elements took."""
    last = elements.group_by("item", maintain_order=True).head(budget).group_by("item").agg(last=pl.col("draw").max())
    return draws.join(last, on="item").filter(pl.col("draw") <= pl.col("last")).drop("last")


def read_costs(ledger: Ledger, pool: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What each draw of a pool cost (completions, tokens), and which draw gave each element; no texts."""
    draws = ledger.draws(pool, ("completions", "prompt_tokens", "new_tokens"))
    draws = draws if draws.height else pl.DataFrame(schema=DRAWS)
    return draws.with_columns(completions=pl.col("completions").list.len()), ledger.element_draws(pool)


def yields(ledger: Ledger, pool: str, protocol: Protocol) -> dict[str, Any]:
    """What a pool cost and gave: draws, elements that they asked for, kept and dropped, tokens read and written.

    A draw may give more than it is asked for, so that kept and dropped need not sum to asked.
    """
    draws = read_draws(ledger, pool)
    parts = [elements_of(d, protocol) for d in draws.values()]
    flat = [d for of_item in draws.values() for d in of_item]
    return {
        "draws": len(flat),
        "asked": len(flat) * protocol.per_draw,
        "kept": sum(len(kept) for kept, _ in parts),
        "dropped": dict(sum((dropped for _, dropped in parts), Counter[str]())),
        "prompt_tokens": sum(d.prompt_tokens for d in flat),
        "new_tokens": sum(d.new_tokens for d in flat),
    }
