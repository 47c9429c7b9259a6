"""How engines are shared out: pure functions. An engine serves one model, and its start takes as long as much work."""

from collections.abc import Sequence


def size_of_chunks(n: int, n_engines: int, limits: tuple[int, int]) -> int:
    """How many of n models one engine takes, at least and at most `limits`, so that all engines have some."""
    least, most = limits
    return min(most, max(least, -(-n // n_engines)))


def share_engines(work: Sequence[float], devices: Sequence[int], room: int) -> list[int]:
    """How many engines each of several models gets of `room` devices; one engine of a model takes `devices` of them.

    In proportion to their work, at least one each. Where there is no room for all, the models with least work get none:
    they come later. The first one gets an engine in any case.
    """
    counts = [0] * len(work)
    heaviest = sorted(range(len(work)), key=lambda i: -work[i])
    for i in heaviest:
        if devices[i] <= room or not any(counts):
            counts[i], room = 1, room - devices[i]
    while growing := [i for i in heaviest if counts[i] and devices[i] <= room]:
        i = max(growing, key=lambda i: work[i] / counts[i])
        counts[i], room = counts[i] + 1, room - devices[i]
    return counts
