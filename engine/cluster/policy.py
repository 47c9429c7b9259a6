"""Which trials run when: pure functions of what they need and of what the cluster has.

Trials that need the same resources form a group and run together, the longest first, as many as there is room for.
Groups run one after the other. There are two reasons: Ray Tune does not see what the inner Ray Train takes, and a large
trial must not wait for ever behind small ones. Nothing here knows what a phase does.
"""

from collections.abc import Mapping

from engine.cluster.machines import GIB, TrainingPlacement

Resources = Mapping[str, float]  # by Ray's names: CPU, GPU, memory (bytes)


def group_by_need(needs: Mapping[str, TrainingPlacement]) -> list[list[str]]:
    """Keys of trials in groups of equal need, in the order in which they come."""
    groups: dict[tuple[str, int], list[str]] = {}
    for key, need in needs.items():
        groups.setdefault((need.device, need.n_workers), []).append(key)
    return list(groups.values())


def why_unplaceable(need: TrainingPlacement, largest: Resources) -> str | None:
    """Why a cluster with at most these resources can never run the trial; None if it can."""
    if not need.fits:
        return f"does not fit: {need.reason}"
    kind = need.device.upper()
    there = largest.get(kind, 0.0)
    return None if there >= need.n_workers else f"needs {need.n_workers} {kind}s, the cluster has {there:g}"


def n_together(n_trials: int, need: TrainingPlacement, free: Resources, largest: Resources) -> int:
    """How many trials of this need run at once. On a CPU they share the cores, so that no two compete for one."""
    if need.device == "cpu":
        room = int(free.get("memory", 0) / (need.memory_gib * GIB))
        return max(1, min(n_trials, need.threads, room))
    return max(1, int(largest["GPU"] // need.n_workers))
