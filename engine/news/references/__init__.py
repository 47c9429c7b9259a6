"""The references of the shipped mathematics and coding items, by the item's id."""

from functools import cache

from engine.news.items import NewsItem, Question, load_news
from engine.news.references import coding, mathematics
from engine.news.references.reference import question

REFERENCES = mathematics.REFERENCES | coding.REFERENCES
HELD_OUT = 10  # questions an item, in a study


def held_out(item: NewsItem, n: int = HELD_OUT) -> list[Question]:
    """`n` different questions about a shipped item that has a reference, none of them a written one; else none."""
    if item.id not in REFERENCES or shipped().get(item.id) != item.text:
        return []
    known = {q.text for q in item.questions}
    found: list[Question] = []
    seed = 0
    while len(found) < n:
        asked = question(item.id, REFERENCES[item.id], seed)
        if asked.text not in known:
            found.append(asked)
            known.add(asked.text)
        seed += 1
    return found


@cache
def shipped() -> dict[str, str]:
    """Texts of the shipped items: another item may have the id of one, but not its reference."""
    return {item.id: item.text for item in load_news()}
