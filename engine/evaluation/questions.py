"""What is asked of a model, apart from how it answers: the prompts and continuations of one question.

Everything is asked closed-book and in context. A choice is asked twice over: what follows as an answer (the
log-likelihood of each option's text), and which letter (for each rotation of the options, so that a liking for a letter
cancels out). A pair of statements is a choice without a question; a task is answered freely, and marked here. The
questions of general ability are asked closed-book only.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine import chat, general, references
from engine.news import NewsItem, Question, Task
from engine.study import FORMS, Form

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
    """A choice under a condition, ready to be put to any model that shares the tokenizer."""

    item: str
    question: Question
    condition: Condition
    options: tuple[Option, ...]
    rotations: tuple[Letters, ...] = ()
    form: Form = "choice"


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedTask:
    """A task under a condition; `prompt` in token ids."""

    item: str
    task: Task
    condition: Condition
    prompt: tuple[int, ...]
    form: Form = "task"


Ask = Asked | AskedTask


def ask_all(tokenizer: Any, item: NewsItem, condition: Condition, forms: Sequence[Form] = FORMS) -> Iterator[Ask]:
    """All that is asked about an item under a condition in these forms; "letter" adds rotations to the choices."""
    for question in item.questions:
        yield ask(tokenizer, item, question, condition, letters="letter" in forms)
    if "held_out" in forms:
        asked = (ask(tokenizer, item, q, condition, letters=False) for q in references.held_out(item))
        yield from (replace(one, form="held_out") for one in asked)
    if "statement" in forms:
        yield from (ask_statements(tokenizer, item, n, condition) for n in range(len(item.statements)))
    if "task" in forms and item.task:
        news = item.text if condition == "icl" else None
        prompt = tuple(chat.prompt_ids(tokenizer, chat.with_news(news, item.task.text)))
        yield AskedTask(item=item.id, task=item.task, condition=condition, prompt=prompt)


def ask_general(tokenizer: Any) -> Iterator[Asked]:
    """The questions that have nothing to do with any news; `item` tells their kind."""
    for kind, question in general.load():
        options = continuations(tokenizer, None, short(question), question.options)
        yield Asked(item=kind, question=question, condition="closed_book", options=options, form="general")


def ask(tokenizer: Any, item: NewsItem, question: Question, condition: Condition, letters: bool = True) -> Asked:
    """The question's prompts under a condition, for the letters too unless `letters` is false."""
    news = item.text if condition == "icl" else None
    options = continuations(tokenizer, news, short(question), question.options)
    rotations = tuple(rotation(tokenizer, news, question, k) for k in range(len(question.options) * letters))
    return Asked(item=item.id, question=question, condition=condition, options=options, rotations=rotations)


def ask_statements(tokenizer: Any, item: NewsItem, n: int, condition: Condition) -> Asked:
    """The n-th pair of statements: which would the model sooner write as a true sentence?"""
    pair = item.statements[n]
    news = item.text if condition == "icl" else None
    question = Question(id=pair.id, text=chat.ASK_STATEMENT, options=(pair.true, pair.false), answer=0)
    options = continuations(tokenizer, news, question.text, question.options)
    return Asked(item=item.id, question=question, condition=condition, options=options, form="statement")


def short(question: Question) -> str:
    """The question as it is put where its options are scored as answers."""
    return chat.ASK_SHORT.format(question=question.text).strip()


def continuations(tokenizer: Any, news: str | None, user: str, answers: Sequence[str]) -> tuple[Option, ...]:
    """Each answer as what the assistant says after the user's turn."""
    prompt = tuple(chat.prompt_ids(tokenizer, chat.with_news(news, user)))
    return tuple(Option(prompt=prompt, answer=tuple(chat.answer_ids(tokenizer, a))) for a in answers)


def rotation(tokenizer: Any, news: str | None, question: Question, k: int) -> Letters:
    """The k-th rotation of the options as a letter question."""
    text, order = chat.letter_question(question.text, question.options, k)
    letters = [chat.answer_ids(tokenizer, letter)[0] for letter in chat.LETTERS[: len(order)]]
    prompt = chat.prompt_ids(tokenizer, chat.with_news(news, text))
    return Letters(prompt=tuple(prompt), letters=tuple(letters), order=tuple(order))


def score(asked: Asked, options: Sequence[Sequence[float]], letters: Sequence[Sequence[float]]) -> dict[str, Any]:
    """One row of the question table, for a choice or a pair of statements.

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
        "form": asked.form,
        "condition": asked.condition,
        "correct": per_character.index(max(per_character)) == right,
        "correct_letter": by_letter.index(max(by_letter)) == right if by_letter else None,
        "p_correct": share(whole, right),
        "nll_correct": -whole[right] / len(options[right]),
        "answer": right,
        "option_logprobs": whole,
        "option_tokens": [len(o) for o in options],
        "letter_probabilities": by_letter,
        "reply": None,
    }


def mark(asked: AskedTask, reply: str) -> dict[str, Any]:
    """One row of the question table, for a task; what only choices have is empty."""
    empty = ("correct_letter", "p_correct", "nll_correct", "answer", "option_logprobs", "option_tokens")
    return {
        "item": asked.item,
        "question": asked.task.id,
        "form": asked.form,
        "condition": asked.condition,
        "correct": is_accepted(reply, asked.task.answers),
        **dict.fromkeys((*empty, "letter_probabilities")),
        "reply": reply,
    }


def is_accepted(reply: str, answers: Sequence[str]) -> bool:
    """Is the reply's first line an accepted answer, or a sentence that ends with one and holds no other number?

    Case, articles and punctuation around words do not count.
    """
    line = plain(next((line for line in reply.splitlines() if line.strip()), ""))
    return any(
        (line == answer and line != "")
        or (answer != "" and line.endswith(f" {answer}") and not re.search(r"\d", line.removesuffix(answer)))
        for answer in map(plain, answers)
    )


def plain(text: str) -> str:
    """The words of a text in lower case without articles, and without punctuation at their ends."""
    words = [word for word in (w.strip(".,;:!?\"'“”‘’()*`") for w in text.casefold().split()) if word]
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)


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
