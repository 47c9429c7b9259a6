"""Pools: the draws that a generator has written, and the replay elements in them.

A draw is one run of a protocol's script on one item: a row of a shard. Draws are numbered, so that a pool grows by its
missing draws only, and the first elements of an item are the same however far it has grown: budgets are nested.
"""

import json
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from engine.news import NewsItem
from engine.protocols import Draft, Element, Protocol, distinct
from engine.store import Store, concat

SCHEMA: dict[str, Any] = {
    "item": pl.String,
    "draw": pl.Int64,
    "elements": pl.List(pl.Struct({"user": pl.String, "assistant": pl.String})),
    "dropped": pl.String,  # JSON: reason → count
    "completions": pl.List(pl.String),  # what the generator wrote, in the order of the prompts; “…” where cut off
    "prompt_tokens": pl.Int64,
    "new_tokens": pl.Int64,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One run of a script: what was written and what it cost (tokens)."""

    item: str
    number: int
    draft: Draft
    completions: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    new_tokens: int = 0


class PoolTooSmall(Exception):
    """A generator yielded too few elements for an item; the message shows what came."""


def write_draws(store: Store, pool: str, draws: Sequence[Draw]) -> None:
    """Adds a shard to the pool."""
    rows = [
        {
            "item": d.item,
            "draw": d.number,
            "elements": [asdict(e) for e in d.draft.elements],
            "dropped": json.dumps(d.draft.dropped),
            "completions": d.completions,
            "prompt_tokens": d.prompt_tokens,
            "new_tokens": d.new_tokens,
        }
        for d in draws
    ]
    store.write_table(f"pools/{pool}/draws-{uuid.uuid4().hex}.parquet", pl.DataFrame(rows, schema=SCHEMA))


def read_table(store: Store, pool: str) -> pl.DataFrame:
    """All draws of a pool, ordered by item and number."""
    table = concat(store.read_table(path) for path in store.list(f"pools/{pool}/draws-*.parquet"))
    return table.sort("item", "draw") if table.height else pl.DataFrame(schema=SCHEMA)


def read_draws(store: Store, pool: str) -> dict[str, list[Draw]]:
    """All draws of a pool by item, in the order of their numbers."""
    draws: dict[str, list[Draw]] = {}
    for row in read_table(store, pool).iter_rows(named=True):
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


def elements_of(draws: Sequence[Draw], protocol: Protocol) -> tuple[list[Element], Counter[str]]:
    """The distinct elements of an item's draws in their order, and how many were dropped for which reason."""
    ordered = sorted(draws, key=lambda d: d.number)
    kept, dropped = distinct((e for d in ordered for e in d.draft.elements), protocol.distinct_by)
    return kept, sum((d.draft.dropped for d in ordered), dropped)


def replay(
    store: Store, pool: str, protocol: Protocol, items: Sequence[NewsItem], budget: int
) -> dict[str, list[Element]]:
    """The first `budget` elements of each item. The naive protocol repeats the news, so that steps stay comparable.

    Raises PoolTooSmall that names the first item with too few.
    """
    if protocol.write is None:
        user = protocol.prompts[0]
        return {item.id: [Element(user=user, assistant=item.text)] * budget for item in items}
    draws = read_draws(store, pool)
    return {item.id: enough(draws.get(item.id, []), protocol, item.id, budget) for item in items}


def enough(draws: Sequence[Draw], protocol: Protocol, item: str, budget: int) -> list[Element]:
    """The first `budget` elements of one item's draws, or PoolTooSmall that shows what the generator wrote."""
    kept, dropped = elements_of(draws, protocol)
    if len(kept) >= budget:
        return kept[:budget]
    reasons = ", ".join(f"{why} {n}" for why, n in dropped.most_common()) or "nothing dropped"
    shown = "\n".join(f"    | {text[:300]!r}" for d in draws[-3:] for text in d.completions[:1])
    raise PoolTooSmall(
        f"item {item!r}, protocol {protocol.name!r}: {len(kept)} of {budget} elements after {len(draws)} draws "
        f"({reasons}). Use a stronger generator, a smaller budget or other prompts. The last completions:\n{shown}"
    )


def needed(draws: Sequence[Draw], protocol: Protocol, budget: int) -> list[Draw]:
    """The first draws of an item, as many as it took to reach the budget."""
    ordered = sorted(draws, key=lambda d: d.number)
    n = bisect_left(range(len(ordered)), budget, key=lambda n: len(elements_of(ordered[: n + 1], protocol)[0]))
    return ordered[: n + 1]


def yields(store: Store, pool: str, protocol: Protocol) -> dict[str, Any]:
    """What a pool cost and gave: draws, elements that they asked for, kept and dropped, tokens read and written.

    A draw may give more than it is asked for, so that kept and dropped need not sum to asked.
    """
    draws = read_draws(store, pool)
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
