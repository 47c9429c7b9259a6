"""Pools: nested budgets, growth by what is missing, an error that shows what came."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.news.items import load_news
from engine.selfplay import pool, protocols
from engine.selfplay.pool import Draw, PoolTooSmall
from engine.selfplay.protocols import Draft, Element
from engine.selfplay.writer import Order, n_draws, next_numbers, open_order, seed
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


def test_budgets_are_nested_however_the_pool_has_grown(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    pool.write_draws(store, "p", [draw(1, sentence(1)), draw(0, sentence(0))])
    small = pool.replay(store, "p", PARAPHRASE, [ITEM], 2)[ITEM.id]
    pool.write_draws(store, "p", [draw(3, sentence(3)), draw(2, sentence(2), sentence(0))])
    large = pool.replay(store, "p", PARAPHRASE, [ITEM], 4)[ITEM.id]
    assert [e.assistant for e in large] == [sentence(i) for i in range(4)]
    assert large[:2] == small


def test_too_small_a_pool_names_the_item_and_shows_what_came(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    pool.write_draws(store, "p", [draw(0, sentence(0)), draw(1, sentence(0))])
    with pytest.raises(PoolTooSmall) as error:
        pool.replay(store, "p", PARAPHRASE, [ITEM], 2)
    for part in (ITEM.id, "1 of 2", "duplicate 1", sentence(0)):
        assert part in str(error.value)


def test_naive_repeats_the_news_for_as_many_steps_as_the_others(tmp_path: Path) -> None:
    elements = pool.replay(Store(str(tmp_path)), "none", protocols.find("naive"), [ITEM], 3)[ITEM.id]
    assert [e.assistant for e in elements] == [ITEM.text] * 3


def test_what_a_budget_cost_counts_only_the_draws_it_needed() -> None:
    draws = [draw(i, sentence(i)) for i in range(6)]
    assert [d.number for d in pool.needed(draws, PARAPHRASE, 3)] == [0, 1, 2]


def test_yields_count_what_was_kept_and_dropped(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    pool.write_draws(store, "p", [draw(0, sentence(0)), draw(1, sentence(0))])
    assert pool.yields(store, "p", PARAPHRASE) == {
        "draws": 2,
        "asked": 2,
        "kept": 1,
        "dropped": {"duplicate": 1, "too short": 2},
        "prompt_tokens": 10,
        "new_tokens": 14,
    }


@given(st.integers(0, 50), st.integers(0, 80), st.integers(1, 64), st.integers(1, 8))
def test_draws_are_bounded_and_end_when_there_is_enough(kept: int, drawn: int, wanted: int, per_draw: int) -> None:
    n = n_draws(kept, drawn, wanted, per_draw)
    assert n >= 0
    assert drawn + n <= max(drawn, 4 * -(-wanted // per_draw) + 4)
    assert (n == 0) == (kept >= wanted or drawn >= 4 * -(-wanted // per_draw) + 4)


def test_a_killed_run_leaves_holes_that_are_filled_first() -> None:
    order = Order(item=ITEM, protocol=PARAPHRASE, sampling=Sampling(), pool="p", wanted=6)
    job = open_order(order, [draw(0, sentence(0)), draw(3, sentence(3))])
    assert next_numbers(job) == [1, 2]
    job.draws += [draw(1, sentence(1)), draw(2, sentence(2))]
    assert next_numbers(job) == [4, 5]


def test_sampling_seeds_differ_by_all_that_a_prompt_is() -> None:
    seeds = {
        seed("r", "p", item, n, stage, place) for item in "ab" for n in (0, 1) for stage in (0, 1) for place in (0, 1)
    }
    assert len(seeds) == 16
    assert all(0 <= s < 2**32 for s in seeds)
