"""How a conversation becomes tokens, the same way in self-play, fine-tuning and evaluation.

A prompt and the answer to it are always tokenised apart and then joined: that is what an inference engine sees, so
what is trained is token for token what is asked later. Nothing here imports torch; a tokenizer is passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# What is in front of a user's turn when the news is in context: in ICL, in the prefix arms and in self-play.
WITH_NEWS = "{news}\n\n{user}"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Options are short. Without this instruction a model that chats starts a whole sentence, and every option is unlikely.
ASK_SHORT = "Answer the question with a few words only, no full sentence.\n\n{question}"
ASK_LETTER = "{question}\n\n{options}\n\nAnswer with the letter of the right option only."
ASK_STATEMENT = "Write one true sentence."
# All wordings that affect an answer, by what they are for: part of the identity of whatever is asked.
WORDINGS = {"with_news": WITH_NEWS, "short": ASK_SHORT, "letter": ASK_LETTER, "statement": ASK_STATEMENT}


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """A replay element: a conversation that a model is trained on. `news` is in front of it, unless that is None."""

    user: str
    assistant: str
    news: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """One conversation: `ids` (tokens) and `loss`, of the same length: is the token learned?"""

    ids: list[int]
    loss: list[bool]


def with_news(news: str | None, user: str) -> str:
    """The user's turn with the news in front of it, or alone where there is none."""
    return WITH_NEWS.format(news=news, user=user) if news else user


def rotate(n: int, rotation: int) -> list[int]:
    """Which of n options is at each letter of a rotation."""
    return [(i + rotation) % n for i in range(n)]


def letter_question(question: str, options: Sequence[str], rotation: int) -> tuple[str, list[int]]:
    """The question with lettered options, rotated; the second value says which option is at each letter."""
    order = rotate(len(options), rotation)
    lines = "\n".join(f"{LETTERS[place]}. {options[option]}" for place, option in enumerate(order))
    return ASK_LETTER.format(question=question, options=lines), order


def prompt_text(tokenizer: Any, user: str) -> str:
    """The chat template's text up to where the assistant's answer begins."""
    messages = [{"role": "user", "content": user}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def prompt_ids(tokenizer: Any, user: str) -> list[int]:
    """Token ids of a user's turn, ready for the assistant's answer."""
    return list(tokenizer.encode(prompt_text(tokenizer, user), add_special_tokens=False))


def answer_ids(tokenizer: Any, answer: str) -> list[int]:
    """Token ids of an assistant's answer, without the end of the turn."""
    return list(tokenizer.encode(answer, add_special_tokens=False))


def encode(tokenizer: Any, element: Element, learn_news: bool = False) -> Encoded:
    """One replay element as tokens; loss on the answer and its end of turn, and on the news if `learn_news`."""
    user = with_news(element.news, element.user)
    prompt = prompt_ids(tokenizer, user)
    answer = [*answer_ids(tokenizer, element.assistant), tokenizer.eos_token_id]
    learned = news_tokens(tokenizer, user, element.news) if element.news and learn_news else set()
    return Encoded(ids=prompt + answer, loss=[i in learned for i in range(len(prompt))] + [True] * len(answer))


def news_tokens(tokenizer: Any, user: str, news: str) -> set[int]:
    """Places in the prompt whose tokens lie within the news."""
    text = prompt_text(tokenizer, user)
    start = text.index(news)
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return {i for i, (a, b) in enumerate(spans) if b > a and a >= start and b <= start + len(news)}
