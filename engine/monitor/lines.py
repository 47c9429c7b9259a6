"""How far a phase is, in one line. Imports nothing heavy: it is read on any machine, also without Ray."""

from engine.storage.records import Progress


def describe(p: Progress) -> str:
    """`self-play: 3 done, 1 running, 8 left | 46 % | 187 tokens/s | about 2 min left`."""
    left = max(p.total - p.done - p.running, 0)
    speed = f"{p.tokens / max(p.seconds, 1e-9):,.0f} tokens/s" if p.tokens else "starting"
    counts = f"{p.phase}: {p.done} done, {p.running} running, {left} left"
    return f"{counts} | {100 * share(p):.0f} % | {speed} | {time_left(p)}"


def share(p: Progress) -> float:
    """How much of the work is done."""
    return min(p.work / p.all_work, 1.0) if p.all_work else p.done / max(p.total, 1)


def time_left(p: Progress) -> str:
    """From the pace so far; before anything is done nothing is known."""
    if share(p) == 0:
        return f"{p.seconds:.0f} s so far, time left not known yet"
    left = p.seconds / share(p) * (1 - share(p))
    return f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left"
