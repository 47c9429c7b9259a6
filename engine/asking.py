"""What is asked of a model, apart from how it answers: the prompts and continuations of one question.

Closed-book and in context, each question is asked twice over: what follows as an answer (the log-likelihood of each
option's text), and which letter (for each rotation of the options, so that a liking for a letter cancels out).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine import chat
from engine.news import NewsItem, Question

Condition = Literal["closed_book", "icl"]
CONDITIONS: tuple[Condition, ...] = ("closed_book", "icl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """The text of one option as a continuation of `prompt` (token ids of both)."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Letters:
    """One rotation: `letters[i]` is the token of the letter at which `order[i]`, an option, stands."""

    prompt: tuple[int, ...]
    letters: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question under a condition, ready to be put to any model that shares the tokenizer."""

    item: str
    question: Question
    condition: Condition
    options: tuple[Option, ...]
    rotations: tuple[Letters, ...]


def ask(tokenizer: Any, item: NewsItem, question: Question, condition: Condition, letters: bool = True) -> Asked:
    """The question's prompts under a condition, for the letters too unless `letters` is false."""
    news = item.text if condition == "icl" else None
    prompt = tuple(chat.prompt_ids(tokenizer, chat.with_news(news, question.text)))
    options = tuple(Option(prompt=prompt, answer=tuple(chat.answer_ids(tokenizer, o))) for o in question.options)
    rotations = tuple(rotation(tokenizer, news, question, k) for k in range(len(question.options) * letters))
    return Asked(item=item.id, question=question, condition=condition, options=options, rotations=rotations)


def rotation(tokenizer: Any, news: str | None, question: Question, k: int) -> Letters:
    """The k-th rotation of the options as a letter question."""
    text, order = chat.letter_question(question.text, question.options, k)
    letters = [chat.answer_ids(tokenizer, letter)[0] for letter in chat.LETTERS[: len(order)]]
    prompt = chat.prompt_ids(tokenizer, chat.with_news(news, text))
    return Letters(prompt=tuple(prompt), letters=tuple(letters), order=tuple(order))


def score(asked: Asked, options: Sequence[Sequence[float]], letters: Sequence[Sequence[float]]) -> dict[str, Any]:
    """One row of the question table.

    `options`: log-probabilities (nats) of each option's tokens; `letters`: of each rotation's letters, in their places.
    The chosen option has the highest log-likelihood a character; `p_correct` is the right option's share of the
    options' whole likelihoods; `nll_correct` its nats a token; the chosen letter has the highest mean probability.
    """
    question, right = asked.question, asked.question.answer
    whole = [math.fsum(o) for o in options]
    per_character = [ll / len(text) for ll, text in zip(whole, question.options, strict=True)]
    by_letter = mean_by_option(asked.rotations, letters) if asked.rotations else None
    return {
        "item": asked.item,
        "question": question.id,
        "condition": asked.condition,
        "correct": per_character.index(max(per_character)) == right,
        "correct_letter": by_letter.index(max(by_letter)) == right if by_letter else None,
        "p_correct": share(whole, right),
        "nll_correct": -whole[right] / len(options[right]),
        "answer": right,
        "option_logprobs": whole,
        "option_tokens": [len(o) for o in options],
        "letter_probabilities": by_letter,
    }


def mean_by_option(rotations: Sequence[Letters], letters: Sequence[Sequence[float]]) -> list[float]:
    """Mean over the rotations of each option's share among the letters."""
    totals = [0.0] * len(rotations[0].order)
    for turned, logprobs in zip(rotations, letters, strict=True):
        for place, option in enumerate(turned.order):
            totals[option] += share(logprobs, place) / len(rotations)
    return totals


def share(logs: Sequence[float], i: int) -> float:
    """exp(logs[i]) as a share of the sum of all exp(logs)."""
    top = max(logs)
    return math.exp(logs[i] - top) / math.fsum(math.exp(x - top) for x in logs)
