"""The fast search for duplicates keeps what `protocols.distinct` keeps, element by element."""

import time
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.selfplay.duplicates import find_distinct
from engine.selfplay.protocols import Element, distinct

WORDS = [
    "the ferry",
    "The Ferry,",
    "at dawn",
    "no",
    "two",
    "2028",
    "é",
    "naïve",
    "日本",
    "",
    "opens",
    "opened",
    "a",
    "b",
]
sentences = st.lists(st.sampled_from(WORDS), min_size=0, max_size=12).map(" ".join)


@st.composite
def varied(draw: st.DrawFn) -> list[str]:
    """Texts of which many differ in a few letters only: around the ratio at which two are near duplicates."""
    texts = draw(st.lists(sentences, min_size=1, max_size=4))
    for _ in range(draw(st.integers(0, 24))):
        text = draw(st.sampled_from(texts))
        place = draw(st.integers(0, len(text)))
        letters = draw(st.text(alphabet="abE é日2.", max_size=4))
        texts.append(text[:place] + letters + text[place + draw(st.integers(0, 4)) :])
    return texts


def elements(texts: list[str]) -> list[Element]:
    return [Element(user=text, assistant="x") for text in texts]


@settings(deadline=None)
@given(varied())
def test_the_same_elements_are_kept_and_the_others_dropped_for_the_same_reasons(texts: list[str]) -> None:
    assert find_distinct(elements(texts), "user") == distinct(elements(texts), "user")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8))
def test_so_it_is_for_any_texts(texts: list[str]) -> None:
    assert find_distinct(elements(texts), "user") == distinct(elements(texts), "user")


def test_a_thousand_texts_take_a_fraction_of_the_time() -> None:
    random = Random(0)
    words = ["".join(random.choices("abcdefghilmnoprstu", k=random.randint(2, 9))) for _ in range(2000)]
    texts = [" ".join(random.choices(words, k=28)) for _ in range(1024)]
    seconds = []
    for find in (find_distinct, distinct):
        began = time.process_time()
        assert len(find(elements(texts), "user")[0]) == len(texts)
        seconds.append(time.process_time() - began)
    assert seconds[0] < seconds[1] / 2
