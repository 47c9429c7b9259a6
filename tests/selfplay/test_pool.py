"""Pools: nested budgets, growth by what is missing, a failure that shows what came."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.news.items import load_news
from engine.selfplay import pool, protocols
from engine.selfplay.orders import (
    Order,
    from_row,
    n_more_draws,
    next_numbers,
    open_order,
    protocols_of,
    sampling_seed,
    to_row,
)
from engine.selfplay.pool import Draw
from engine.selfplay.protocols import Draft, Element
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Sampling

ITEM = load_news()[0]
PARAPHRASE = protocols.find("paraphrase")
WORDS = [
    "harbour",
    "snail",
    "glass",
    "ferry",
    "violin",
    "comet",
    "bakery",
    "tunnel",
    "orchid",
    "ballot",
    "quarry",
    "lantern",
]


def draw(number: int, *texts: str) -> Draw:
    draft = Draft(elements=[Element(user="u", assistant=t) for t in texts], dropped=Counter({"too short": 1}))
    return Draw(item=ITEM.id, number=number, draft=draft, completions=list(texts), prompt_tokens=5, new_tokens=7)


def sentence(i: int) -> str:
    return f"The {WORDS[i]} near the {WORDS[(i + 5) % 12]} opens in {2027 + i}."


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path)))


def texts(draws: list[Draw], budget: int) -> list[str]:
    """The elements that a budget takes."""
    table = pool.elements_table({ITEM.id: draws}, PARAPHRASE, [ITEM], budget)
    return table.head(budget)["assistant"].to_list()


def test_budgets_are_nested_however_the_pool_has_grown(ledger: Ledger) -> None:
    ledger.add_draws("p", pool.draws_table([draw(1, sentence(1)), draw(0, sentence(0))]))
    small = texts(pool.read_draws(ledger, "p")[ITEM.id], 2)
    ledger.add_draws("p", pool.draws_table([draw(3, sentence(3)), draw(2, sentence(2), sentence(0))]))
    large = texts(pool.read_draws(ledger, "p")[ITEM.id], 4)
    assert large == [sentence(i) for i in range(4)]
    assert large[:2] == small


def test_too_small_a_pool_names_the_item_and_shows_what_came() -> None:
    draws = [draw(0, sentence(0)), draw(1, sentence(0))]
    table = pool.elements_table({ITEM.id: draws}, PARAPHRASE, [ITEM], 2)
    assert pool.items_short_of(table, [ITEM], 1) == []
    assert pool.items_short_of(table, [ITEM], 2) == [ITEM]
    assert pool.items_short_of(None, [ITEM], 1) == [ITEM]
    why = pool.why_too_small(draws, PARAPHRASE, ITEM.id, 2)
    for part in (ITEM.id, "1 of 2", "duplicate 1", sentence(0)):
        assert part in why


def test_naive_repeats_the_news_for_as_many_steps_as_the_others() -> None:
    table = pool.elements_table({}, protocols.find("naive"), [ITEM], 3)
    assert table["assistant"].to_list() == [ITEM.text] * 3


def test_what_a_budget_cost_counts_only_the_draws_that_it_needed() -> None:
    draws = [draw(0, sentence(0)), draw(1, sentence(0)), *(draw(i, sentence(i)) for i in range(2, 6))]
    elements = pool.elements_table({ITEM.id: draws}, PARAPHRASE, [ITEM], 4)
    needed = pool.draws_needed(pool.draws_table(draws), elements, 3)
    assert needed["draw"].to_list() == [0, 1, 2, 3]  # the second gave nothing new, and was paid for


def test_yields_count_what_was_kept_and_dropped(ledger: Ledger) -> None:
    ledger.add_draws("p", pool.draws_table([draw(0, sentence(0)), draw(1, sentence(0))]))
    assert pool.yields(ledger, "p", PARAPHRASE) == {
        "draws": 2,
        "asked": 2,
        "kept": 1,
        "dropped": {"duplicate": 1, "too short": 2},
        "prompt_tokens": 10,
        "new_tokens": 14,
    }


@given(st.integers(0, 50), st.integers(0, 80), st.integers(1, 64), st.integers(1, 8))
def test_draws_are_bounded_and_end_when_there_is_enough(kept: int, n_draws: int, wanted: int, per_draw: int) -> None:
    n = n_more_draws(kept, n_draws, wanted, per_draw)
    assert n >= 0
    assert n_draws + n <= max(n_draws, 4 * -(-wanted // per_draw) + 4)
    assert (n == 0) == (kept >= wanted or n_draws >= 4 * -(-wanted // per_draw) + 4)


def test_a_killed_run_leaves_holes_that_are_filled_first() -> None:
    order = Order(item=ITEM, protocol=PARAPHRASE, sampling=Sampling(), pool="p", source="s", wanted=6)
    job = open_order(order, [draw(0, sentence(0)), draw(3, sentence(3))])
    assert next_numbers(job) == [1, 2]
    job.draws += [draw(1, sentence(1)), draw(2, sentence(2))]
    assert next_numbers(job) == [4, 5]


def test_sampling_seeds_differ_by_all_that_a_prompt_is() -> None:
    seeds = {
        sampling_seed("r", source, item, n, stage, place)
        for source in ("a", "b")
        for item in "ab"
        for n in (0, 1)
        for stage in (0, 1)
        for place in (0, 1)
    }
    assert len(seeds) == 32
    assert all(0 <= s < 2**32 for s in seeds)


def test_an_order_travels_as_a_row_of_plain_values() -> None:
    sampling = Sampling(temperature=0.4, top_p=0.9, max_tokens=77)
    order = Order(item=ITEM, protocol=PARAPHRASE, sampling=sampling, pool="p", source="s", wanted=6)
    row = to_row(order)
    assert {type(value) for value in row.values()} == {str, int, float}
    back = from_row(row, protocols_of([order]))
    assert (back.item.id, back.item.domain, back.item.text) == (ITEM.id, ITEM.domain, ITEM.text)
    assert replace(back, item=ITEM) == order
