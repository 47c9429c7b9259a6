"""Checks the wording of news: how often simple rules choose the correct option, and which texts are nearly equal.

A rule such as “choose the longest option” knows nothing of the news. If it beats random guessing, the wording gives
answers away. Pure functions; `engine.authoring.untrained` measures what models answer.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import combinations
from typing import Any

from rapidfuzz import fuzz, utils

from engine.news.items import NewsItem

# Words without a subject of their own. A rule does not count them as shared words.
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to for from by with and or is are was were be it its that this as than then if not no "
        "into after before over under between during",
    )
)


def find_words(text: str) -> set[str]:
    """Gives the words of a text in lower case, without function words."""
    return set(re.findall(r"\w+", text.casefold())) - FUNCTION_WORDS


# Each rule scores an option, given the option, the question and the news. It chooses the option with the highest score.
RULES: Mapping[str, Callable[[str, str, str], int]] = {
    "longest option": lambda option, question, news: len(option),
    "shortest option": lambda option, question, news: -len(option),
    "most words of the question": lambda option, question, news: len(find_words(option) & find_words(question)),
    "most words of the news": lambda option, question, news: len(find_words(option) & find_words(news)),
}


def score_rules(items: Iterable[NewsItem]) -> Iterator[dict[str, Any]]:
    """Yields one row per question and rule, with `correct`: the probability that the rule chooses the correct option.

    The other columns are domain, item, question, n_options and rule.
    """
    for item in items:
        for q in item.questions:
            for name, rule in RULES.items():
                correct = score_choice([rule(o, q.text, item.text) for o in q.options], q.answer)
                where = {"domain": item.domain, "item": item.id, "question": q.id, "n_options": len(q.options)}
                yield where | {"rule": name, "correct": correct}


def score_choice(scores: Sequence[float], answer: int) -> float:
    """Gives the probability that a random choice among the options with the highest score is the answer."""
    best = max(scores)
    return (scores[answer] == best) / scores.count(best)


def find_similar_pairs(texts: Mapping[str, str], n: int = 5) -> list[tuple[float, str, str]]:
    """Finds the n most similar pairs of texts: (similarity, name, name), the most similar first.

    The similarity is rapidfuzz's ratio of characters, from 0 to 100. Questions about the same item (the same name up to
    the slash) are not compared, since they may differ in their values only.
    """
    pairs = ((a, b) for a, b in combinations(texts, 2) if a.partition("/")[0] != b.partition("/")[0])
    ratios = ((fuzz.ratio(texts[a], texts[b], processor=utils.default_process), a, b) for a, b in pairs)
    return nlargest(n, ratios)
