"""What is trained when: pure functions of the step, for any number of devices."""

import math

from hypothesis import given
from hypothesis import strategies as st

from engine.inference.chat import Encoded
from engine.study import Training
from engine.training.steps import batch_at, learning_rate_at, micro_batches, n_steps, pack

sizes = st.integers(1, 60)


@given(n=sizes, batch=st.integers(1, 9), seed=st.integers(0, 3))
def test_each_epoch_trains_every_element_once_in_an_order_of_its_own(n: int, batch: int, seed: int) -> None:
    steps = math.ceil(n / batch)
    epochs = [[i for s in range(steps) for i in batch_at(e * steps + s, n, batch, seed)] for e in range(3)]
    assert all(sorted(e) == list(range(n)) for e in epochs)
    if n > 12:
        assert epochs[0] != epochs[1]
        assert epochs[0] != [i for s in range(steps) for i in batch_at(s, n, batch, seed + 1)]


@given(lengths=st.lists(st.integers(1, 50), max_size=40), most=st.integers(1, 120))
def test_packing_keeps_order_and_bounds_rows(lengths: list[int], most: int) -> None:
    rows = pack(lengths, most)
    assert [i for row in rows for i in row] == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[i] for i in row) <= most for row in rows)


@given(
    lengths=st.lists(st.integers(2, 50), min_size=1, max_size=20), ranks=st.integers(1, 4), most=st.integers(10, 100)
)
def test_ranks_share_a_step_and_meet_in_every_collective(lengths: list[int], ranks: int, most: int) -> None:
    batch = [Encoded(ids=[i] * n, loss=[True] * n) for i, n in enumerate(lengths)]
    shares = micro_batches(batch, ranks, most)
    assert len({len(share) for share in shares}) == 1
    seen = [e.ids[0] for share in shares for row in share for e in row]
    assert sorted(seen) == list(range(len(batch)))


@given(total=st.integers(1, 200), warmup=st.floats(0, 0.5))
def test_the_learning_rate_warms_up_and_comes_down(total: int, warmup: float) -> None:
    cosine = [learning_rate_at(s, total, Training(warmup=warmup)) for s in range(total)]
    top = cosine.index(max(cosine))
    assert math.isclose(max(cosine), Training().learning_rate)
    assert cosine[: top + 1] == sorted(cosine[: top + 1])
    assert cosine[top:] == sorted(cosine[top:], reverse=True)
    constant = [learning_rate_at(s, total, Training(warmup=warmup, schedule="constant")) for s in range(total)]
    assert set(constant[top:]) == {Training().learning_rate}


def test_the_last_batch_of_an_epoch_may_be_smaller() -> None:
    assert n_steps(10, Training(epochs=3, batch_size=4)) == 9
