"""The references of the shipped mathematics and coding items, by item id, and the held-out questions made with them."""

from functools import cache

from engine.news.items import NewsItem, Question, load_news
from engine.news.references import coding, mathematics
from engine.news.references.reference import make_question

REFERENCES = mathematics.REFERENCES | coding.REFERENCES
HELD_OUT = 10  # questions per item, in a study


def held_out(item: NewsItem, n: int = HELD_OUT) -> list[Question]:
    """`n` different questions about an item, none of them a written one. Empty if the item has no reference.

    Only shipped items have a reference. Another item with the id of a shipped one has none.
    """
    if item.id not in REFERENCES or _load_shipped_texts().get(item.id) != item.text:
        return []
    texts = {q.text for q in item.questions}
    questions: list[Question] = []
    seed = 0
    while len(questions) < n:
        question = make_question(item.id, REFERENCES[item.id], seed)
        if question.text not in texts:
            questions.append(question)
            texts.add(question.text)
        seed += 1
    return questions


@cache
def _load_shipped_texts() -> dict[str, str]:
    return {item.id: item.text for item in load_news()}
