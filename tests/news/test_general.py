"""The questions of general ability have the documented counts, differ, and are balanced."""

from collections import Counter

import pytest

from engine.news import general

COUNTS = {"knowledge": 120, "arithmetic": 80, "instructions": 80}


def test_general_questions_have_the_documented_counts() -> None:
    assert Counter(q.kind for q in general.load()) == COUNTS
    assert len({q.text for q in general.load()}) == sum(COUNTS.values())


@pytest.mark.parametrize("kind", COUNTS)
def test_the_right_option_is_at_each_position_equally_often(kind: str) -> None:
    positions = Counter(q.answer for q in general.load() if q.kind == kind)
    assert positions == dict.fromkeys(range(4), COUNTS[kind] // 4)
