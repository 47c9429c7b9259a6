"""What is asked of a model: which forms, and when a free answer counts."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation import questions
from engine.news.items import NewsItem, Question, Statements, Task

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
        ("3 tickets cost 240.", False),  # another number: a program cannot tell which is meant
        ("80 * 3 = 240", False),
        ("1240", False),
        ("240 or 160", False),
        ("", False),
    ],
)
def test_a_number_counts_if_it_ends_the_first_line_and_stands_alone(reply: str, right: bool) -> None:
    assert questions.is_accepted(reply, ("240",)) == right


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
    assert questions.is_accepted(reply, ("Astrid II", "Maren")) == right


@given(st.text(min_size=1).filter(questions.plain), st.sampled_from(["{}", "The answer is {}.", " {} \nmore", '"{}"']))
def test_an_accepted_answer_is_found_in_every_frame(answer: str, frame: str) -> None:
    line = " ".join(answer.split())
    if questions.plain(line):
        assert questions.is_accepted(frame.format(line), (line,))


def test_all_forms_are_asked_and_only_those_that_are_wanted(tokenizer: Any) -> None:
    everything = list(questions.ask_all(tokenizer, ITEM, "closed_book"))
    choice, pair, task = everything
    assert isinstance(choice, questions.Asked)
    assert isinstance(pair, questions.Asked)
    assert isinstance(task, questions.AskedTask)
    assert (choice.form, len(choice.rotations)) == ("choice", 2)
    assert (pair.form, len(pair.options), len(pair.rotations)) == ("statement", 2, 0)
    [alone] = questions.ask_all(tokenizer, ITEM, "closed_book", ("choice",))
    assert isinstance(alone, questions.Asked)
    assert alone.rotations == ()


def test_the_news_stands_in_front_of_everything_that_is_asked_in_context(tokenizer: Any) -> None:
    for asked in questions.ask_all(tokenizer, ITEM, "icl"):
        prompts = [asked.prompt] if isinstance(asked, questions.AskedTask) else [o.prompt for o in asked.options]
        assert all(ITEM.text in tokenizer.decode(prompt) for prompt in prompts)
