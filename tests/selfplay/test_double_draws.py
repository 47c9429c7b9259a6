"""Two runs at once wrote each draw twice, before a study was locked: each counts once, wherever it is read."""

from pathlib import Path

import pytest

from engine.news.items import load_news
from engine.selfplay import pool, protocols
from engine.selfplay.orders import Order, next_numbers, open_order
from engine.selfplay.pool import Draw
from engine.selfplay.protocols import Draft, Element
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Sampling

ITEM = load_news()[0]
PARAPHRASE = protocols.find("paraphrase")
TEXTS = ("The ferry leaves at dawn.", "A violin was found.", "Comets are rare.", "The bakery reopens in May.")


def draw(number: int, run: str) -> Draw:
    draft = Draft(elements=[Element(user="What is the news?", assistant=TEXTS[number])])
    return Draw(item=ITEM.id, number=number, draft=draft, completions=[run], prompt_tokens=10, new_tokens=7)


@pytest.fixture
def doubled(tmp_path: Path) -> Ledger:
    """A pool of four draws, which two runs have written in different shards; one draw is twice in a shard, too."""
    ledger = Ledger(Store(str(tmp_path)))
    ledger.add_draws("p", pool.draws_table([draw(n, "first") for n in range(4)]))
    ledger.add_draws("p", pool.draws_table([draw(0, "second"), draw(0, "second"), draw(3, "second")]))
    ledger.add_draws("p", pool.draws_table([draw(1, "second"), draw(2, "second")]))
    return ledger


def test_each_draw_is_read_once(doubled: Ledger) -> None:
    assert pool.read_table(doubled, "p")["draw"].to_list() == [0, 1, 2, 3]
    assert [d.number for d in pool.read_draws(doubled, "p")[ITEM.id]] == [0, 1, 2, 3]
    assert doubled.draws("p").equals(doubled.draws("p"))


def test_each_draw_is_paid_once(doubled: Ledger) -> None:
    yields = pool.yields(doubled, "p", PARAPHRASE)
    assert (yields["draws"], yields["prompt_tokens"], yields["new_tokens"]) == (4, 40, 28)
    elements = pool.elements_table(pool.read_draws(doubled, "p"), PARAPHRASE, [ITEM], 3)
    needed = pool.draws_needed(pool.read_table(doubled, "p"), elements, 3)
    assert needed["new_tokens"].sum() == 21


def test_doubles_do_not_use_up_the_draws_that_an_item_may_have(doubled: Ledger) -> None:
    order = Order(item=ITEM, protocol=PARAPHRASE, sampling=Sampling(), pool="p", source="s", wanted=6)
    assert next_numbers(open_order(order, pool.read_draws(doubled, "p")[ITEM.id])) == [4, 5]
