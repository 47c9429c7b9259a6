"""Which trials run when: pure functions of what they need and of what the cluster has.

Trials that need the same resources form a group and run together, the longest first, as many as there is room for.
Groups run one after the other. There are two reasons: Ray Tune does not see what the inner Ray Train takes, and a large
trial must not wait for ever behind small ones. Nothing here knows what a phase does.
"""

from collections.abc import Mapping, Sequence

from engine.cluster.machines import GIB, ServingPlacement, TrainingPlacement
from engine.cluster.nodes import ACCELERATOR

Resources = Mapping[str, float]  # by Ray's names: CPU, GPU, memory (bytes)
Need = TrainingPlacement | ServingPlacement


def group_by_need(needs: Mapping[str, TrainingPlacement]) -> list[list[str]]:
    """Keys of trials in groups of equal need, in the order in which they come."""
    groups: dict[tuple[str, int], list[str]] = {}
    for key, need in needs.items():
        groups.setdefault((need.device, need.n_workers), []).append(key)
    return list(groups.values())


def list_bundles(need: Need) -> list[dict[str, float]]:
    """What a placement takes, by Ray's names; each bundle has to be on one node."""
    # Ray gives a node one unit of its accelerator's name; a share of it binds a bundle to such a node.
    kind = {f"{ACCELERATOR}{need.accelerator}": 0.001} if need.accelerator else {}
    if isinstance(need, ServingPlacement):
        return [{need.device.upper(): float(n_devices(need)), **kind}]
    return [{need.device.upper(): 1.0, **kind}] * need.n_workers


def n_held(bundle: Resources, nodes: Sequence[Resources]) -> int:
    """How many such bundles nodes with these resources hold, if nothing else runs there."""
    per_node = (min(int(node.get(kind, 0.0) / amount) for kind, amount in bundle.items()) for node in nodes)
    return sum(per_node)


def why_unplaceable(need: Need, nodes: Sequence[Resources]) -> str | None:
    """Why nodes with these resources cannot run it, even if nothing else runs there; None if they can."""
    if not need.fits:
        return f"does not fit: {need.reason}"
    bundles = list_bundles(need)
    return None if n_held(bundles[0], nodes) >= len(bundles) else describe_lack(need, nodes)


def describe_lack(need: Need, nodes: Sequence[Resources]) -> str:
    """What is needed beside what these nodes have of it."""
    device, name = need.device.upper(), f"{ACCELERATOR}{need.accelerator}"
    there = [int(node.get(device, 0)) for node in nodes if not need.accelerator or name in node]
    wanted = " ".join(filter(None, [str(n_devices(need)), need.accelerator, f"{device}s"]))
    if isinstance(need, ServingPlacement):
        return f"needs {wanted} of one node, the largest node has {max(there, default=0)}"
    return f"needs {wanted}, the cluster has {sum(there)}"


def n_devices(need: Need) -> int:
    """How many CPUs or GPUs it takes. An engine on a CPU computes on all of its threads."""
    if isinstance(need, ServingPlacement):
        return need.threads if need.device == "cpu" else need.tensor_parallel
    return need.n_workers


def n_together(n_trials: int, need: TrainingPlacement, free: Resources, largest: Resources) -> int:
    """How many trials of this need run at once. On a CPU they share the cores, so that no two compete for one."""
    if need.device == "cpu":
        room = int(free.get("memory", 0) / (need.memory_gib * GIB))
        return max(1, min(n_trials, need.threads, room))
    return max(1, int(largest["GPU"] // need.n_workers))
