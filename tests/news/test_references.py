"""References confirm the written answers. The questions made with them do not repeat and do not run out."""

import os
import subprocess
import sys

import pytest

from engine.news.items import NewsItem, load_news
from engine.news.references import REFERENCES, held_out
from engine.news.references.reference import Reference, make_question

ITEMS = {item.id: item for item in load_news()}
PRINT_QUESTIONS = """
from engine.news.references import REFERENCES
from engine.news.references.reference import make_question
for name, reference in REFERENCES.items():
    for seed in range(3):
        print(make_question(name, reference, seed))
"""


def test_every_item_about_mathematics_and_coding_has_a_reference() -> None:
    assert set(REFERENCES) == {i.id for i in ITEMS.values() if i.domain in ("mathematics", "coding")}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_written_answers_are_those_of_the_reference(name: str) -> None:
    checks = REFERENCES[name].checks
    assert len(checks) >= 3
    for number, is_right in checks.items():
        question = ITEMS[name].questions[number - 1]
        assert [is_right(option) for option in question.options] == [i == question.answer for i in range(4)], question


@pytest.mark.parametrize("name", REFERENCES)
def test_held_out_questions_differ_from_each_other_and_from_the_written_ones(name: str) -> None:
    questions = held_out(ITEMS[name], 200)
    assert len({q.text for q in questions} | {q.text for q in ITEMS[name].questions}) == 205
    assert all(len(set(q.options)) == 4 for q in questions)
    answers = [q.options[q.answer] for q in questions]
    assert max(map(answers.count, answers)) < 0.5 * len(answers)
    assert {q.answer for q in questions} == {0, 1, 2, 3}


def test_a_seed_gives_the_same_question_in_every_process() -> None:
    first, second = (
        subprocess.check_output([sys.executable, "-c", PRINT_QUESTIONS], env=os.environ | {"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    assert first == second
    assert len(set(first.splitlines())) == 3 * len(REFERENCES)


def test_a_reference_with_too_few_wrong_values_is_named() -> None:
    poor = Reference(answer=lambda x: x, draw=lambda rng: (1,), ask=str, wrong=lambda x: [1, 2], checks={})
    with pytest.raises(ValueError, match="the reference of a-1 gives too few wrong values"):
        make_question("a-1", poor, 0)


def test_another_item_with_the_id_of_a_shipped_one_has_no_reference() -> None:
    shipped = ITEMS[next(iter(REFERENCES))]
    other = NewsItem(id=shipped.id, domain=shipped.domain, text="Something else.", questions=shipped.questions)
    assert len(held_out(shipped, 3)) == 3
    assert held_out(other, 3) == []
