"""`Reference`: what a news item defines, as a function. `make_question` makes further questions with it.

These questions are held out by construction: no protocol and no person has ever seen them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from engine.news.items import Question

Value = int | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What an item defines. `draw` gives the arguments that `answer`, `ask` and `wrong` take.

    `wrong` gives plausible wrong values, the most likely misreading first. `checks` maps the number of a written
    question to a predicate on the text of an option: it is true for the right option and false for the others.
    """

    answer: Callable[..., Value]
    draw: Callable[[Random], tuple[Any, ...]]
    ask: Callable[..., str]
    wrong: Callable[..., Iterable[Value]]
    checks: Mapping[int, Callable[[str], bool]]


def make_question(item: str, reference: Reference, seed: int, n_options: int = 4) -> Question:
    """Makes the question of a seed about an item. The same seed gives the same question on every machine.

    Raises ValueError if the reference gives fewer than `n_options - 1` different wrong values.
    """
    rng = Random(f"{item} {seed}")
    arguments = reference.draw(rng)
    right = str(reference.answer(*arguments))
    wrong = (value for value in dict.fromkeys(map(str, reference.wrong(*arguments))) if value != right)
    options = [right, *islice(wrong, n_options - 1)]
    if len(options) < n_options:
        raise ValueError(f"the reference of {item} gives too few wrong values for {arguments}: {options[1:]}")
    rng.shuffle(options)
    text, answer = reference.ask(*arguments), options.index(right)
    return Question(id=f"{item}/h{seed}", text=text, options=tuple(options), answer=answer, kind="apply")
