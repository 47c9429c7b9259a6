"""Marks: a tie is no knowledge, whatever the order of the options; answers of a broken model are recognised."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation import marks

OPTIONS = ("in March", "in May", "in June 2028", "never")


def tokens(*numbers: int, each: float = -math.log(49152)) -> list[list[float]]:
    """Log-probabilities of options of so many tokens, all tokens alike."""
    return [[each] * n for n in numbers]


@given(right=st.integers(0, 3), order=st.permutations(range(4)))
def test_a_tie_is_never_correct_in_whatever_order_the_options_stand(right: int, order: Sequence[int]) -> None:
    options = [("aaaa", "bbbb", "cccc", "dddd")[i] for i in order]
    assert not marks.mark_options(options, right, tokens(2, 2, 2, 2))["correct"]
    rotations = [[(i + k) % 4 for i in range(4)] for k in range(4)]
    assert not marks.mark_letters(rotations, right, [[-1.4] * 4] * 4)["correct"]


@given(letters=st.lists(st.floats(-9, -0.1), min_size=4, max_size=4), right=st.integers(0, 3))
def test_a_preference_for_letters_alone_is_never_correct(letters: list[float], right: int) -> None:
    """Each option gets the same sum, in another order: the last bit of it must not decide."""
    rotations = [[(i + k) % 4 for i in range(4)] for k in range(4)]
    assert not marks.mark_letters(rotations, right, [letters] * 4)["correct"]


def test_a_tie_of_wrong_options_leaves_the_right_one_correct() -> None:
    assert marks.mark_options(("aa", "bb", "cc"), 0, [[-1.0], [-2.0], [-2.0]])["correct"]
    assert not marks.mark_options(("aa", "bb", "cc"), 0, [[-1.0], [-1.0], [-2.0]])["correct"]
    assert not marks.mark_options(("aa", "bb", "cc"), 0, [[-1.0], [-1.0 - 1e-9], [-2.0]])["correct"]
    assert marks.mark_options(("aa", "bb", "cc"), 0, [[-1.0], [-1.0001], [-2.0]])["correct"]


def rows_of(*logprobs: list[list[float]]) -> list[dict[str, Any]]:
    return [marks.mark_options(OPTIONS, 1, one) for one in logprobs]


def test_a_flat_model_is_recognised_whatever_the_lengths_of_the_options() -> None:
    flat = rows_of(tokens(1, 2, 3, 4), tokens(5, 2, 2, 1))
    assert "10.8 nats per token" in str(marks.find_fault(flat))
    assert marks.find_fault([*flat, *rows_of(tokens(1, 2, 2, 2, each=-3.0))]) is None
    assert marks.find_fault([{"reply": "yes", "correct": True}]) is None


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_scores_that_are_no_numbers_are_recognised(bad: float) -> None:
    sound = rows_of([[-1.0], [-2.0], [-3.0], [-4.0]])
    assert marks.find_fault(sound) is None
    assert "not finite" in str(marks.find_fault(sound + rows_of([[-1.0], [bad], [-3.0], [-4.0]])))
    letters = marks.mark_letters([[0, 1], [1, 0]], 0, [[bad, bad], [-1.0, -2.0]])
    assert "not finite" in str(marks.find_fault([*sound, letters]))
