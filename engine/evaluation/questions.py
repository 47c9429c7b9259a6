"""What is asked of a model, form by form: which questions, as which prompts, how the answers are marked.

A form is one object in this file, and a new form is one more. Everything about an item is asked closed-book and with
the news in context (ICL); the questions of general ability have nothing to do with any news and are asked once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from engine.evaluation import marks
from engine.evaluation.marks import Row
from engine.inference import chat
from engine.news import general, references
from engine.news.items import NewsItem, Question, Statements, Task

Condition = Literal["closed_book", "icl"]
CONDITIONS: tuple[Condition, ...] = ("closed_book", "icl")
Subject = Question | Statements | Task


# ---- what one request answers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One text as a continuation of `prompt` (token ids of both); answered by the log-probability of each token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Letters:
    """Which of these tokens follows `prompt`? Answered by the log-probability of each."""

    prompt: tuple[int, ...]
    letters: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What the model itself says after `prompt`; answered by a text."""

    prompt: tuple[int, ...]


Part = Option | Letters | Reply
Answer = Any  # a list of log-probabilities for Option and Letters, a text for Reply


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A form of questions.

    `subjects`: what is asked about an item. `parts`: the requests that ask one of them, given a tokenizer and the news
    in front of it or None. `mark`: its fields of a row, from the answers to its parts. `identity`: all of it that
    affects a score, as plain data. `about_news`: False for what is asked once, without any item.
    """

    name: str
    subjects: Callable[[NewsItem], Sequence[Any]]
    parts: Callable[[Any, str | None, Any], tuple[Part, ...]]
    mark: Callable[[Any, Sequence[Answer]], Row]
    identity: Callable[[Any], Any]
    about_news: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question in one form under a condition, ready for any model that shares the tokenizer."""

    item: str
    form: Form
    subject: Any
    condition: str
    parts: tuple[Part, ...]

    def row(self, answers: Sequence[Answer]) -> Row:
        """Its row of the question table, from the answers to its parts."""
        about = {"item": self.item, "question": self.subject.id, "kind": getattr(self.subject, "kind", None)}
        return about | {"form": self.form.name, "condition": self.condition} | self.form.mark(self.subject, answers)


# ---- how a form asks -------------------------------------------------------------------------------------------------


def short_answers(tokenizer: Any, news: str | None, question: Question) -> tuple[Option, ...]:
    """Each option as a short answer to the question."""
    return continuations(tokenizer, news, chat.ASK_SHORT.format(question=question.text).strip(), question.options)


def continuations(tokenizer: Any, news: str | None, user: str, answers: Sequence[str]) -> tuple[Option, ...]:
    """Each answer as what the assistant says after the user's turn."""
    prompt = tuple(chat.prompt_ids(tokenizer, chat.with_news(news, user)))
    return tuple(Option(prompt=prompt, answer=tuple(chat.answer_ids(tokenizer, a))) for a in answers)


def rotations(tokenizer: Any, news: str | None, question: Question) -> tuple[Letters, ...]:
    """The question with lettered options, once for each rotation of the options."""
    return tuple(rotation(tokenizer, news, question, k) for k in range(len(question.options)))


def rotation(tokenizer: Any, news: str | None, question: Question, k: int) -> Letters:
    """The k-th rotation."""
    text, order = chat.letter_question(question.text, question.options, k)
    letters = [chat.answer_ids(tokenizer, letter)[0] for letter in chat.LETTERS[: len(order)]]
    prompt = chat.prompt_ids(tokenizer, chat.with_news(news, text))
    return Letters(prompt=tuple(prompt), letters=tuple(letters))


def true_sentences(tokenizer: Any, news: str | None, pair: Statements) -> tuple[Option, ...]:
    """Both statements: which is the model more likely to write as a true sentence?"""
    return continuations(tokenizer, news, chat.ASK_STATEMENT, (pair.true, pair.false))


def free_reply(tokenizer: Any, news: str | None, task: Task) -> tuple[Reply, ...]:
    """The task, to be answered freely."""
    return (Reply(prompt=tuple(chat.prompt_ids(tokenizer, chat.with_news(news, task.text)))),)


# ---- how a form marks, and what identifies it ------------------------------------------------------------------------


def mark_choice(question: Question, answers: Sequence[Answer]) -> Row:
    return marks.mark_options(question.options, question.answer, answers)


def mark_letters(question: Question, answers: Sequence[Answer]) -> Row:
    orders = [chat.rotate(len(question.options), k) for k in range(len(question.options))]
    return marks.mark_letters(orders, question.answer, answers)


def mark_pair(pair: Statements, answers: Sequence[Answer]) -> Row:
    return marks.mark_options((pair.true, pair.false), 0, answers)


def mark_task(task: Task, answers: Sequence[Answer]) -> Row:
    [reply] = answers
    return marks.mark_reply(task.answers, reply)


def identify_question(question: Question) -> Any:
    return [question.text, list(question.options), question.answer]


# ---- the forms -------------------------------------------------------------------------------------------------------

CHOICE = Form(  # what follows as an answer?
    name="choice",
    subjects=lambda item: item.questions,
    parts=short_answers,
    mark=mark_choice,
    identity=identify_question,
)
LETTER = replace(CHOICE, name="letter", parts=rotations, mark=mark_letters)  # the choices again, by letter
HELD_OUT = replace(CHOICE, name="held_out", subjects=references.held_out)  # choices made from an item's reference
STATEMENT = Form(
    name="statement",
    subjects=lambda item: item.statements,
    parts=true_sentences,
    mark=mark_pair,
    identity=lambda pair: [pair.true, pair.false],
)
TASK = Form(
    name="task",
    subjects=lambda item: [item.task] if item.task else [],
    parts=free_reply,
    mark=mark_task,
    identity=lambda task: [task.text, list(task.answers)],
)
GENERAL = replace(CHOICE, name="general", subjects=lambda _: general.load(), about_news=False)

# In the order in which they are asked.
FORMS: dict[str, Form] = {form.name: form for form in (CHOICE, LETTER, HELD_OUT, STATEMENT, TASK, GENERAL)}
NO_ITEM = NewsItem(id="", domain="", text="", questions=())


def ask(
    tokenizer: Any, form: Form, item: NewsItem, condition: Condition, subjects: Sequence[Any] | None = None
) -> Iterator[Asked]:
    """All that is asked about an item in a form under a condition; of `subjects` only, where they are given."""
    news = item.text if condition == "icl" and form.about_news else None
    for subject in form.subjects(item) if subjects is None else subjects:
        parts = form.parts(tokenizer, news, subject)
        name = item.id if form.about_news else subject.kind
        yield Asked(item=name, form=form, subject=subject, condition=condition, parts=parts)


def ask_all(tokenizer: Any, items: Sequence[NewsItem], names: Sequence[str]) -> Iterator[Asked]:
    """All that is asked about items in the named forms; questions about one item are together, for the prefix cache."""
    forms = [form for form in FORMS.values() if form.name in names]
    for item in items:
        for condition in CONDITIONS:
            for form in forms:
                if form.about_news:
                    yield from ask(tokenizer, form, item, condition)
    for form in forms:
        if not form.about_news:
            yield from ask(tokenizer, form, NO_ITEM, "closed_book")


def identify(items: Sequence[NewsItem], names: Sequence[str]) -> dict[str, Any]:
    """Everything that is asked in the named forms, by form and item, as plain data."""
    asked: dict[str, Any] = {}
    for form in (FORMS[name] for name in FORMS if name in names):
        about = items if form.about_news else (NO_ITEM,)
        asked[form.name] = {item.id: identify_item(form.name, item) for item in about}
    return asked


@cache
def identify_item(name: str, item: NewsItem) -> dict[str, Any]:
    """What is asked about one item in one form."""
    form = FORMS[name]
    return {subject.id: form.identity(subject) for subject in form.subjects(item)}
