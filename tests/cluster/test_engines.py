"""How engines are shared out among models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster.engines import share_engines, size_of_chunks


@pytest.mark.parametrize(("n", "n_engines", "size"), [(3, 1, 8), (100, 1, 32), (100, 8, 13), (280, 64, 8), (0, 5, 8)])
def test_chunks_give_all_engines_some_within_the_limits(n: int, n_engines: int, size: int) -> None:
    assert size_of_chunks(n, n_engines, (8, 32)) == size


@pytest.mark.parametrize(
    ("work", "devices", "room", "counts"),
    [
        ([1.0, 3.0], [1, 1], 8, [2, 6]),  # in proportion
        ([1.0, 3.0, 2.0], [1, 1, 1], 2, [0, 1, 1]),  # the lightest comes later
        ([5.0, 1.0], [4, 1], 4, [1, 0]),
        ([5.0, 1.0], [4, 1], 7, [1, 3]),  # what is left goes to whom it fits
        ([5.0], [4], 2, [1]),  # the cluster may grow to it
    ],
)
def test_engines_go_where_the_work_is(work: list[float], devices: list[int], room: int, counts: list[int]) -> None:
    assert share_engines(work, devices, room) == counts


@given(
    st.lists(st.tuples(st.floats(1, 1e6), st.sampled_from([1, 2, 4, 8])), min_size=1, max_size=8), st.integers(8, 600)
)
def test_no_device_is_promised_twice_or_left_idle(models: list[tuple[float, int]], room: int) -> None:
    work, devices = [w for w, _ in models], [d for _, d in models]
    counts = share_engines(work, devices, room)
    left = room - sum(n * d for n, d in zip(counts, devices, strict=True))
    assert left >= 0
    assert all(d > left for n, d in zip(counts, devices, strict=True) if n)
