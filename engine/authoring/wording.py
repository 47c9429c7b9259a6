"""Does the wording of questions give their answers away? Rules that understand nothing, and near duplicates.

Pure functions on the words of news; what models make of them is measured in `engine.authoring.untrained`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import combinations
from typing import Any

from rapidfuzz import fuzz, utils

from engine.news.items import NewsItem

# Words that say nothing about the subject, and so do not count as shared.
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to for from by with and or is are was were be it its that this as than then if not no "
        "into after before over under between during",
    )
)


def words(text: str) -> set[str]:
    """The words of a text that may tell something, in lower case."""
    return set(re.findall(r"\w+", text.casefold())) - FUNCTION_WORDS


# Each gives an option's score from the option, the question and the news; the rule chooses the option that scores most.
RULES: Mapping[str, Callable[[str, str, str], int]] = {
    "longest option": lambda option, question, news: len(option),
    "shortest option": lambda option, question, news: -len(option),
    "most words of the question": lambda option, question, news: len(words(option) & words(question)),
    "most words of the news": lambda option, question, news: len(words(option) & words(news)),
}


def rule_rows(items: Iterable[NewsItem]) -> Iterator[dict[str, Any]]:
    """A row a question and rule: domain, item, question, n_options, rule; `correct`: the rule's chance to be right."""
    for item in items:
        for q in item.questions:
            for name, rule in RULES.items():
                correct = credit([rule(o, q.text, item.text) for o in q.options], q.answer)
                where = {"domain": item.domain, "item": item.id, "question": q.id, "n_options": len(q.options)}
                yield where | {"rule": name, "correct": correct}


def credit(scores: Sequence[float], right: int) -> float:
    """The chance that a guess among the highest scores is right."""
    best = max(scores)
    return (scores[right] == best) / scores.count(best)


def nearest_pairs(texts: Mapping[str, str], n: int = 5) -> list[tuple[float, str, str]]:
    """The n pairs of texts that are most alike: (0 to 100 by rapidfuzz's ratio of characters, name, name).

    Questions about one item (names alike up to the slash) may differ in their values alone, and make no pair.
    """
    pairs = ((a, b) for a, b in combinations(texts, 2) if a.partition("/")[0] != b.partition("/")[0])
    ratios = ((fuzz.ratio(texts[a], texts[b], processor=utils.default_process), a, b) for a, b in pairs)
    return nlargest(n, ratios)
