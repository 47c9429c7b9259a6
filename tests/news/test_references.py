"""References: the written answers follow from them, and the questions made from them never run out or repeat."""

import pytest

from engine.news.items import NewsItem, load_news
from engine.news.references import REFERENCES, held_out
from engine.news.references.reference import Reference, question

ITEMS = {item.id: item for item in load_news()}


def test_every_item_about_mathematics_and_coding_has_a_reference() -> None:
    assert set(REFERENCES) == {i.id for i in ITEMS.values() if i.domain in ("mathematics", "coding")}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_written_answers_are_the_reference_s(name: str) -> None:
    checks = REFERENCES[name].checks
    assert len(checks) >= 3
    for number, holds in checks.items():
        asked = ITEMS[name].questions[number - 1]
        assert [holds(option) for option in asked.options] == [i == asked.answer for i in range(4)], asked


@pytest.mark.parametrize("name", REFERENCES)
def test_held_out_questions_differ_from_each_other_and_from_the_written_ones(name: str) -> None:
    asked = held_out(ITEMS[name], 200)
    assert len({q.text for q in asked} | {q.text for q in ITEMS[name].questions}) == 205
    assert all(len(set(q.options)) == 4 for q in asked)
    answers = [q.options[q.answer] for q in asked]
    assert max(map(answers.count, answers)) < 0.5 * len(answers)
    assert {q.answer for q in asked} == {0, 1, 2, 3}


def test_a_seed_gives_the_same_question_every_time() -> None:
    name, reference = next(iter(REFERENCES.items()))
    assert question(name, reference, 7) == question(name, reference, 7)
    assert question(name, reference, 7) != question(name, reference, 8)


def test_a_reference_with_too_few_wrong_values_is_named() -> None:
    poor = Reference(answer=lambda x: x, draw=lambda rng: (1,), ask=str, wrong=lambda x: [1, 2], checks={})
    with pytest.raises(ValueError, match="the reference of a-1 gives too few wrong values"):
        question("a-1", poor, 0)


def test_another_item_under_the_id_of_a_shipped_one_has_no_reference() -> None:
    shipped = ITEMS[next(iter(REFERENCES))]
    other = NewsItem(id=shipped.id, domain=shipped.domain, text="Something else.", questions=shipped.questions)
    assert held_out(shipped, 3)
    assert held_out(other, 3) == []
