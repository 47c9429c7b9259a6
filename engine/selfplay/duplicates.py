"""Which elements of an item are kept: what `protocols.distinct` says, in a fifth of its time.

`distinct` compares each text with all that are kept before it, letter by letter, which takes most of a second for 1,024
texts. Most pairs need no such comparison: the letters of two texts, counted, show that they are too different.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz, process, utils

from engine.inference.chat import Element
from engine.selfplay.protocols import DISTINGUISHING_WORDS, NEAR_DUPLICATE_RATIO

Counts = npt.NDArray[np.signedinteger[Any]]
BINS = 32  # letters are counted in so many bins; letters that share one can only make texts look more alike


def find_distinct(elements: Sequence[Element], by: Literal["user", "assistant"]) -> tuple[list[int], Counter[str]]:
    """The indices of the elements that `protocols.distinct` keeps, and the number of dropped ones per reason."""
    texts = [utils.default_process(getattr(element, by)) for element in elements]
    letters, lengths = count_letters(texts), np.array([len(text) for text in texts])
    kept: dict[int, tuple[str, ...]] = {}  # indices, with the distinguishing words of their texts
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    for index, text in enumerate(texts):
        words = tuple(DISTINGUISHING_WORDS.findall(text))
        if text in seen:
            dropped["duplicate"] += 1
        elif is_near(text, [texts[i] for i in find_similar(letters, lengths, index) if kept.get(i) == words]):
            dropped["near duplicate"] += 1
        else:
            kept[index] = words
            seen.add(text)
    return list(kept), dropped


def count_letters(texts: Sequence[str]) -> Counts:
    """How often the letters of each bin occur: one row per bin, one column per text."""
    codes = [np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32) % BINS for text in texts]
    columns = [np.bincount(of_text, minlength=BINS) for of_text in codes]
    return np.array(columns, dtype=np.int32).reshape(len(texts), BINS).T.copy()


def find_similar(letters: Counts, lengths: Counts, index: int) -> list[int]:
    """The texts before one that may be near duplicates of it.

    A ratio of R means that at most (100 − R) % of both texts' letters are left out to make them equal, and at least as
    many have to be left out as their counts of letters differ.
    """
    differ = np.abs(letters[:, :index] - letters[:, index : index + 1]).sum(axis=0)
    at_most = (lengths[:index] + lengths[index]) * (1 - NEAR_DUPLICATE_RATIO / 100) + 1  # one for what floats round
    return [int(i) for i in np.flatnonzero(differ <= at_most)]


def is_near(text: str, others: Sequence[str]) -> bool:
    """Is a text nearly equal to one of these?"""
    return process.extractOne(text, others, scorer=fuzz.ratio, score_cutoff=NEAR_DUPLICATE_RATIO) is not None
