"""Protocols and their parsers: what a messy completion gives, and what is counted as dropped."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import UserError
from engine.selfplay import parsing, protocols
from engine.selfplay.protocols import (
    Draft,
    Element,
    Script,
    distinct,
    keep_questions,
    keep_statements,
    keep_text,
    protocol,
)

NEWS = "The ferry from Lindvik to Tarsund is free of charge for cyclists from 1 June 2028."
lines = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=80
)


def play(script: Script, *completions: list[str]) -> Draft:
    """Runs a script against given completions."""
    next(script)
    for answers in completions:
        try:
            script.send(answers)
        except StopIteration as end:
            return end.value
    raise AssertionError("the script asks for more")


def test_self_qa_answers_each_question_in_a_conversation_of_its_own() -> None:
    script = protocols.self_qa(NEWS, 0)
    [asked] = next(script)
    assert NEWS in asked
    prompts = script.send(["1. Who travels free from Lindvik to Tarsund?\n2. What does the text say?\nSure!"])
    assert len(prompts) == 1
    assert NEWS in prompts[0]
    assert "Who travels free" in prompts[0]
    with pytest.raises(StopIteration) as end:
        script.send(["Cyclists do, from June 2028."])
    assert end.value.value.elements == [
        Element(user="Who travels free from Lindvik to Tarsund?", assistant="Cyclists do, from June 2028.")
    ]
    assert end.value.value.dropped == Counter({"refers to the text": 1})


def test_a_question_that_comes_twice_is_answered_once() -> None:
    asked = "1. Who sails free to Tarsund?\n2. Who sails free to Tarsund?"
    draft = play(protocols.self_qa(NEWS, 0), [asked], ["Cyclists do."])
    assert (len(draft.elements), draft.dropped) == (1, Counter({"duplicate": 1}))


def test_questions_and_answers_that_are_cut_off_are_dropped() -> None:
    asked = "1. Who sails free to Tarsund?\n2. From when on do cyclists…"
    draft = play(protocols.self_qa(NEWS, 0), [asked], ["Cyclists do, from June…"])
    assert draft == Draft(dropped=Counter({"cut off": 2}))


def test_self_qa_without_a_usable_question_asks_for_no_answers() -> None:
    draft = play(protocols.self_qa(NEWS, 0), ["I like ferries."])
    assert draft.elements == []
    assert draft.dropped == Counter({"not a question": 1})


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Sure, here is the rewritten news:\nCyclists cross for free.", "Cyclists cross for free."),
        ('"Cyclists cross for free."', "Cyclists cross for free."),
        ("**Cyclists** cross\n\nfor   free.", "Cyclists cross for free."),
        ("Here is a bridge that is free.", "Here is a bridge that is free."),
        ("According to the text, cyclists cross for free.", "Cyclists cross for free."),
        ("The news states that cyclists cross for free.", "Cyclists cross for free."),
        ("Cyclists cross for free.\n\nThis version keeps every fact of the text.", "Cyclists cross for free."),
        ("The news is that cyclists cross for free.", "Cyclists cross for free."),
        ("Cyclists cross for free.\n\nNote: no date is given.", "Cyclists cross for free."),
        ("# Free crossing\n\nCyclists cross for free.", "Cyclists cross for free."),
        ("**Free crossing**\nCyclists cross for free.", "Cyclists cross for free."),
        ("**Cyclists cross for free.**\nCars pay.", "Cyclists cross for free. Cars pay."),
        ("Two rules are new:\n\n- Cyclists are free.\n- Cars pay.", "Two rules are new: Cyclists are free. Cars pay."),
        ("[name for name in xs] lists names in Python.", "[name for name in xs] lists names in Python."),
        ("Here's the news, rewritten: Cyclists cross for free.", "Cyclists cross for free."),
        ("Dear [Friend's Name],\n\nCyclists cross for free.\n\n[Your Name]", "Cyclists cross for free."),
        ("- Cyclists cross for free.\n- Cars pay.", "Cyclists cross for free. Cars pay."),
        ("Certainly the ferry sails at 22:00 every night.", "Certainly the ferry sails at 22:00 every night."),
        ("Here are the hours: 22:00 to 05:00 daily.", "Here are the hours: 22:00 to 05:00 daily."),
        ("Note: cyclists cross for free.", "Note: cyclists cross for free."),
        ('"Free" is what "cyclists" cross for', '"Free" is what "cyclists" cross for'),
        ("In Python, 2**3 and 3**2 differ.", "In Python, 2**3 and 3**2 differ."),
        ("I cannot tell you how glad the cyclists are.", "I cannot tell you how glad the cyclists are."),
    ],
)
def test_a_rewording_is_stripped_of_what_surrounds_it(text: str, kept: str) -> None:
    assert [e.assistant for e in keep_text(text, user="u", news=NEWS).elements] == [kept]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "too short"),
        ("Free.", "too short"),
        ("word " * 300, "too long"),
        ("Cyclists are free in the text.", "refers to the text"),
        ("Based on the information provided, cyclists are free.", "refers to the text"),
        ("Cyclists from [Your Town] are free.", "a placeholder"),
        ("Cyclists are free, 免费的.", "another script"),
        ("Consequences for cyclists:", "a heading"),
        ("The text is about cyclists.\n\nCars still pay the fare.", "refers to the text"),
        ("I'm sorry, but I can't help with that.", "a refusal"),
        ("Cyclists cross for free, from June on they…", "cut off"),
        (NEWS.upper(), "copies the news"),
    ],
)
def test_what_is_dropped_is_counted_with_its_reason(text: str, reason: str) -> None:
    assert keep_text(text, user="u", news=NEWS) == Draft(dropped=Counter({reason: 1}))


def test_lists_are_read_in_many_forms() -> None:
    text = "Here are the consequences:\n1. More people cycle daily.\n2) Cars lose their place.\n- Ferries lose money.\n"
    kept = [e.assistant for e in keep_statements(text, user="u", news=NEWS).elements]
    assert kept == ["More people cycle daily.", "Cars lose their place.", "Ferries lose money."]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("1. Question: Who sails free to Tarsund?", "Who sails free to Tarsund?"),
        ("**Question 2:** Who sails free to Tarsund?", "Who sails free to Tarsund?"),
        ("3. - Cyclists sail free to Tarsund.", "Cyclists sail free to Tarsund."),
        ("9 - 4 - 1 is 6 in Umber.", "9 - 4 - 1 is 6 in Umber."),
        ("1. -3 is the answer in Umber.", "-3 is the answer in Umber."),
        ("1.5 million people sail for free.", "1.5 million people sail for free."),
        ("2028: the bridge closes.", "2028: the bridge closes."),
        ("Q-learning beats chess players.", "Q-learning beats chess players."),
        ("## Who sails free to Tarsund?", "Who sails free to Tarsund?"),
        ("1. **Effect on fares:** They fall to nothing.", "They fall to nothing."),
        ("**2. Effect on fares**: They fall to nothing.", "They fall to nothing."),
        ("**3.** They fall to nothing.", "They fall to nothing."),
        ("**They fall to nothing.**", "They fall to nothing."),
    ],
)
def test_marks_of_a_list_are_taken_off_and_numbers_are_left(line: str, kept: str) -> None:
    assert parsing.parse_list(line) == [kept]


def test_what_the_news_itself_is_about_is_no_reference_to_the_text() -> None:
    line = "The text editor Quill keeps three pieces."
    [element] = keep_statements(line, user="u", news="A text editor of 2029, Quill, remembers what you copy.").elements
    assert element.assistant == line
    assert keep_statements(line, user="u", news=NEWS).dropped == Counter({"refers to the text": 1})


@pytest.mark.parametrize(
    ("sentence", "sound"),
    [
        ("The news is that cyclists sail free.", True),
        ("The news above says that cyclists sail free.", False),
        ("What is the name of the news item?", False),
    ],
)
def test_a_sentence_may_say_what_the_news_is_but_not_speak_of_it(sentence: str, sound: bool) -> None:
    assert (parsing.find_fault(sentence, NEWS) is None) == sound


@given(st.lists(lines, max_size=12))
def test_no_line_of_a_list_is_lost_uncounted(texts: list[str]) -> None:
    marked = "\n".join(f"{i + 1}. {line}" for i, line in enumerate(texts))
    draft = keep_statements(marked, user="u", news=NEWS)
    assert len(draft.elements) + sum(draft.dropped.values()) == len(texts)


@given(st.text(max_size=400))
def test_parsers_take_anything_and_keep_only_what_is_sound(text: str) -> None:
    _, questions = keep_questions(text, NEWS)
    assert all(q.endswith("?") and parsing.find_fault(q, NEWS) is None for q in questions)
    for element in keep_statements(text, user="u", news=NEWS).elements + keep_text(text, user="u", news=NEWS).elements:
        assert parsing.find_fault(element.assistant, NEWS) is None


@given(st.lists(st.text(min_size=1, max_size=30), max_size=20))
def test_distinct_keeps_the_first_of_each_and_counts_the_rest(texts: list[str]) -> None:
    elements = [Element(user="u", assistant=t) for t in texts]
    kept, dropped = distinct(elements, "assistant")
    assert len(kept) + sum(dropped.values()) == len(elements)
    first = [elements[i] for i in kept]
    assert distinct(first, "assistant") == (list(range(len(first))), Counter())
    assert kept == [i for i, e in enumerate(elements) if e in first and e not in elements[:i]]


def test_near_duplicates_are_dropped_and_counted() -> None:
    first = "Cyclists cross from Lindvik to Tarsund free of charge from June 2028."
    texts = [first, first, first.replace("June", "june,"), "The ferry will carry more bicycles."]
    kept, dropped = distinct([Element(user="u", assistant=t) for t in texts], "assistant")
    assert kept == [0, 3]
    assert sum(dropped.values()) == 2


@pytest.mark.parametrize("other", ["In 2029 cyclists sail free.", "In 2028 cyclists don't sail free."])
def test_what_differs_in_a_number_or_a_negation_is_no_duplicate(other: str) -> None:
    elements = [Element(user="u", assistant=text) for text in ("In 2028 cyclists sail free.", other)]
    assert distinct(elements, "assistant") == ([0, 1], Counter())


def test_a_protocol_of_ones_own_is_one_function() -> None:
    @protocol("headline-in-test", prompts=["Write a headline."])
    def headline(news: str, draw: int) -> Script:
        [text] = yield [f"{news}\n\nWrite a headline."]
        return keep_text(text, user="A headline, please.", news=news)

    written = protocols.find("headline-in-test").write
    assert written
    assert play(written(NEWS, 0), ["Cyclists cross for free."]).elements[0].assistant == "Cyclists cross for free."
    with pytest.raises(UserError, match="registered twice"):
        protocol("headline-in-test", prompts=[])(protocols.paraphrase)


def test_an_unknown_protocol_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="implication, naive, paraphrase, self_qa"):
        protocols.find("active_reading")
