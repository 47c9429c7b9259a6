"""What is asked of a model: which forms, and when a free answer counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation import marks, questions
from engine.evaluation.questions import FORMS
from engine.news.items import NewsItem, Question, Statements, Task, load_news

ITEM = NewsItem(
    id="a-1",
    domain="events",
    text="The ferry of Lindvik costs 80 crowns.",
    questions=(Question(id="a-1/q1", text="What does the ferry cost?", options=("80 crowns", "50 crowns"), answer=0),),
    statements=(Statements(id="a-1/s1", true="Two tickets cost 160 crowns.", false="Two tickets cost 100 crowns."),),
    task=Task(id="a-1/t", text="What do three tickets cost? Answer with the number alone.", answers=("240",)),
)


@pytest.fixture(scope="module")
def tokenizer(smollm: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("240", True),
        ("240.", True),
        ("**240**\nbecause 3 · 80", True),
        ("\nThe tickets cost 240", True),
        ("Three tickets cost 240.", True),
        ("3 tickets cost 240.", False),  # another number: a program cannot know which is meant
        ("80 * 3 = 240", False),
        ("1240", False),
        ("240 or 160", False),
        ("", False),
    ],
)
def test_a_number_counts_if_it_ends_the_first_line_and_stands_alone(reply: str, right: bool) -> None:
    assert marks.is_accepted(reply, ("240",)) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Maren", True),
        ("the maren", True),
        ('It is the ferry "Maren".', True),
        ("Maren or Astrid", False),
        ("no", False),
    ],
)
def test_a_name_counts_without_regard_to_case_articles_and_punctuation(reply: str, right: bool) -> None:
    assert marks.is_accepted(reply, ("Astrid II", "Maren")) == right


@given(st.text(min_size=1).filter(marks.simplify), st.sampled_from(["{}", "The answer is {}.", " {} \nmore", '"{}"']))
def test_an_accepted_answer_is_found_in_every_frame(answer: str, frame: str) -> None:
    line = " ".join(answer.split())
    if marks.simplify(line):
        assert marks.is_accepted(frame.format(line), (line,))


def test_only_those_forms_are_asked_that_are_wanted(tokenizer: Any) -> None:
    asked = list(questions.ask_all(tokenizer, [ITEM], ("choice", "letter", "statement", "task")))
    assert [(a.condition, a.form.name, a.subject.id, len(a.parts)) for a in asked] == [
        (condition, *form)
        for condition in ("closed_book", "icl")
        for form in (("choice", "a-1/q1", 2), ("letter", "a-1/q1", 2), ("statement", "a-1/s1", 2), ("task", "a-1/t", 1))
    ]
    assert {a.form.name for a in questions.ask_all(tokenizer, [ITEM], ("choice",))} == {"choice"}


def test_general_questions_are_asked_once_and_without_news(tokenizer: Any) -> None:
    asked = list(questions.ask_all(tokenizer, [ITEM, ITEM], ("general",)))
    assert len({a.subject.id for a in asked}) == len(asked) == len(FORMS["general"].subjects(ITEM))
    assert {a.condition for a in asked} == {"closed_book"}
    assert {a.item for a in asked} == {"knowledge", "arithmetic", "instructions"}


def test_the_news_is_in_front_of_everything_that_is_asked_in_context_and_of_nothing_else(tokenizer: Any) -> None:
    for asked in questions.ask_all(tokenizer, [ITEM], ("choice", "letter", "statement", "task")):
        seen = [ITEM.text in tokenizer.decode(part.prompt) for part in asked.parts]
        assert seen == [asked.condition == "icl"] * len(asked.parts)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_marks_a_right_and_a_wrong_answer(form: questions.Form, tokenizer: Any) -> None:
    """From answers made for its parts: the right option likely and the task answered, then the other way round."""
    item = ITEM if form.name != "held_out" else next(i for i in load_news() if i.domain == "mathematics")
    [asked, *_] = questions.ask(tokenizer, form, item, "closed_book")
    assert asked.row(answers(asked, right=True))["correct"]
    assert not asked.row(answers(asked, right=False))["correct"]
    row = marks.table([asked.row(answers(asked, right=True))]).row(0, named=True)
    assert (row["form"], row["question"]) == (form.name, asked.subject.id)


def answers(asked: questions.Asked, right: bool) -> list[Any]:
    """What an engine would answer if the model were sure, of the right option or of another."""
    wanted = getattr(asked.subject, "answer", 0)
    n = len(asked.parts)
    option = wanted if right else (wanted + 1) % n
    match asked.parts[0]:
        case questions.Option():
            return [[-0.1 if i == option else -50.0] for i in range(n)]
        case questions.Letters():
            orders = [[(i + k) % n for i in range(n)] for k in range(n)]
            return [[-0.1 if o == option else -5.0 for o in order] for order in orders]
        case _:
            return [asked.subject.answers[0] if right else "something else"]


def test_what_a_form_asks_is_its_identity() -> None:
    other = replace(ITEM, questions=(replace(ITEM.questions[0], options=("80 crowns", "90 crowns")),))
    for name in ("choice", "letter"):
        assert questions.identify([ITEM], [name]) != questions.identify([other], [name])
    for name in ("statement", "task", "general"):
        assert questions.identify([ITEM], [name]) == questions.identify([other], [name]) != {}
