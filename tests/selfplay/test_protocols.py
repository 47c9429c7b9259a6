"""Protocols and their parsers: what they keep of a messy completion, and what they count as dropped."""

from collections import Counter
from typing import Literal

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


def run_script(script: Script, *completions: list[str]) -> Draft:
    """Runs a script on the given completions."""
    next(script)
    for answers in completions:
        try:
            script.send(answers)
        except StopIteration as end:
            return end.value
    raise AssertionError("the script asks for more completions")


def test_self_qa_answers_each_question_in_its_own_conversation() -> None:
    script = protocols.self_qa(NEWS, 0)
    [prompt] = next(script)
    assert NEWS in prompt
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


def test_self_qa_answers_a_repeated_question_once() -> None:
    questions = "1. Who sails free to Tarsund?\n2. Who sails free to Tarsund?"
    draft = run_script(protocols.self_qa(NEWS, 0), [questions], ["Cyclists do."])
    assert (len(draft.elements), draft.dropped) == (1, Counter({"duplicate": 1}))


def test_self_qa_drops_questions_and_answers_that_are_cut_off() -> None:
    questions = "1. Who sails free to Tarsund?\n2. From when on do cyclists…"
    draft = run_script(protocols.self_qa(NEWS, 0), [questions], ["Cyclists do, from June…"])
    assert draft == Draft(dropped=Counter({"cut off": 2}))


def test_self_qa_without_a_good_question_asks_for_no_answers() -> None:
    draft = run_script(protocols.self_qa(NEWS, 0), ["I like ferries."])
    assert draft.elements == []
    assert draft.dropped == Counter({"not a question": 1})


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_preambles_headings_notes_and_markdown_are_removed(text: str, message: str) -> None:
    assert [e.assistant for e in keep_text(text, user="u", news=NEWS).elements] == [message]


@pytest.mark.parametrize("preamble", ["", "Sure, here is the rewritten news:\n", "Rewritten news: "])
@pytest.mark.parametrize("heading", ["", "# Free crossing\n\n", "**Free crossing**\n"])
@pytest.mark.parametrize("attribution", ["", "The news states that ", "According to the text above, "])
@pytest.mark.parametrize("note", ["", "\n\nNote: no date is given.", "\n\nThis version keeps every fact of the text."])
def test_surroundings_are_removed_in_every_combination(
    preamble: str, heading: str, attribution: str, note: str
) -> None:
    completion = preamble + heading + attribution + "Cyclists cross for free." + note
    assert [e.assistant for e in keep_text(completion, user="u", news=NEWS).elements] == ["Cyclists cross for free."]


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
def test_bad_texts_are_dropped_and_counted_per_reason(text: str, reason: str) -> None:
    assert keep_text(text, user="u", news=NEWS) == Draft(dropped=Counter({reason: 1}))


def test_lists_with_different_marks_are_parsed() -> None:
    text = "Here are the consequences:\n1. More people cycle daily.\n2) Cars lose their place.\n- Ferries lose money.\n"
    statements = [e.assistant for e in keep_statements(text, user="u", news=NEWS).elements]
    assert statements == ["More people cycle daily.", "Cars lose their place.", "Ferries lose money."]


@pytest.mark.parametrize(
    ("line", "entry"),
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
def test_list_marks_are_removed_and_numbers_stay(line: str, entry: str) -> None:
    assert parsing.parse_list(line) == [entry]


def test_a_word_that_the_news_contains_does_not_refer_to_the_text() -> None:
    line = "The text editor Quill keeps three pieces."
    [element] = keep_statements(line, user="u", news="A text editor of 2029, Quill, remembers what you copy.").elements
    assert element.assistant == line
    assert keep_statements(line, user="u", news=NEWS).dropped == Counter({"refers to the text": 1})


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("The news is that cyclists sail free.", None),
        ("The news above says that cyclists sail free.", "refers to the text"),
        ("What is the name of the news item?", "refers to the text"),
    ],
)
def test_a_sentence_may_state_the_news_but_not_refer_to_it(sentence: str, fault: str | None) -> None:
    assert parsing.find_fault(sentence, NEWS) == fault


@given(st.lists(lines, max_size=12))
def test_each_line_of_a_list_is_kept_or_counted(texts: list[str]) -> None:
    completion = "\n".join(f"{i + 1}. {line}" for i, line in enumerate(texts))
    draft = keep_statements(completion, user="u", news=NEWS)
    assert len(draft.elements) + sum(draft.dropped.values()) == len(texts)


# Entries of lists with the reason why they are dropped, or None.
STATEMENTS = {
    "More people cycle to Tarsund.": None,
    "Cars still pay the fare of 2027.": None,
    "Free.": "too short",
    "The passage is about cyclists.": "refers to the text",
    "Consequences for all cyclists:": "a heading",
    "I'm sorry, but I can't help with that.": "a refusal",
    "Cyclists from [Your Town] are free.": "a placeholder",
    NEWS: "copies the news",
    "Cyclists sail for free from June…": "cut off",
}
QUESTIONS = {
    "Who sails free to Tarsund?": None,
    "When does the ferry become free?": None,
    "Why so?": "too short",
    "What does the text say?": "refers to the text",
    "Cyclists sail for free.": "not a question",
    "From when on do cyclists…": "cut off",
}
marks = st.sampled_from(["1. ", "12) ", "- ", "**3.** ", "Question 4: "])


@given(st.lists(st.tuples(marks, st.sampled_from(sorted(STATEMENTS))), max_size=8))
def test_good_statements_are_kept_in_order_and_bad_ones_counted(entries: list[tuple[str, str]]) -> None:
    draft = keep_statements("\n".join(mark + text for mark, text in entries), user="u", news=NEWS)
    assert [e.assistant for e in draft.elements] == [text for _, text in entries if not STATEMENTS[text]]
    assert draft.dropped == Counter(filter(None, (STATEMENTS[text] for _, text in entries)))


@given(st.lists(st.tuples(marks, st.sampled_from(sorted(QUESTIONS))), max_size=8))
def test_good_questions_are_kept_once_and_bad_ones_counted(entries: list[tuple[str, str]]) -> None:
    draft, questions = keep_questions(
        "\n".join(mark + text.replace("?", "? Please answer.") for mark, text in entries), NEWS
    )
    good = [text for _, text in entries if not QUESTIONS[text]]
    assert questions == list(dict.fromkeys(good))
    reasons = Counter(filter(None, (QUESTIONS[text] for _, text in entries)))
    assert draft.dropped == reasons + Counter({"duplicate": len(good) - len(set(good))})


SENTENCES = [
    "Cyclists cross from Lindvik to Tarsund free of charge.",
    "The harbour restaurant serves goat cheese every evening.",
    "A lighthouse keeper repaired his violin near the quarry.",
]
# The second differs from the first in case and punctuation, which are not compared; the third in one letter.
SPELLINGS = [lambda text: text, lambda text: text.upper() + "!", lambda text: text.replace("r", "x", 1)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12), st.sampled_from(["user", "assistant"]))
def test_the_first_of_each_sentence_is_kept_and_its_duplicates_counted(
    choices: list[tuple[int, int]], by: Literal["user", "assistant"]
) -> None:
    elements = [Element(**{"user": "same", "assistant": "same", by: SPELLINGS[k](SENTENCES[s])}) for s, k in choices]
    indices, dropped = distinct(elements, by)
    first = {s: i for i, (s, _) in reversed(list(enumerate(choices)))}
    assert indices == sorted(first.values())
    later = [(k, choices[first[s]][1]) for i, (s, k) in enumerate(choices) if i != first[s]]
    assert dropped == Counter("near duplicate" if (2 in pair) and pair != (2, 2) else "duplicate" for pair in later)


def test_duplicates_and_near_duplicates_are_counted_apart() -> None:
    first = "Cyclists cross from Lindvik to Tarsund free of charge from June 2028."
    texts = [first, first, first.replace("June", "june,"), "The ferry will carry more bicycles."]
    indices, dropped = distinct([Element(user="u", assistant=t) for t in texts], "assistant")
    assert indices == [0, 3]
    assert dropped == Counter({"duplicate": 1, "near duplicate": 1})


@pytest.mark.parametrize("other", ["In 2029 cyclists sail free.", "In 2028 cyclists don't sail free."])
def test_sentences_that_differ_in_a_number_or_a_negation_are_no_duplicates(other: str) -> None:
    elements = [Element(user="u", assistant=text) for text in ("In 2028 cyclists sail free.", other)]
    assert distinct(elements, "assistant") == ([0, 1], Counter())


def test_a_function_becomes_a_protocol_and_its_name_cannot_be_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "PROTOCOLS", dict(protocols.PROTOCOLS))

    @protocol("headline", prompts=["Write a headline."])
    def headline(news: str, draw: int) -> Script:
        [text] = yield [f"{news}\n\nWrite a headline."]
        return keep_text(text, user="A headline, please.", news=news)

    write = protocols.find("headline").write
    assert write
    [element] = run_script(write(NEWS, 0), ["Cyclists cross for free."]).elements
    assert element == Element(user="A headline, please.", assistant="Cyclists cross for free.")
    with pytest.raises(UserError, match="registered twice"):
        protocol("headline", prompts=[])(protocols.paraphrase)


def test_an_unknown_protocol_is_refused_with_the_known_names() -> None:
    with pytest.raises(UserError, match="implication, naive, paraphrase, self_qa"):
        protocols.find("active_reading")
