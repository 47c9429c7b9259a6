"""What a cluster has for a study, and what it does not have yet: asked for before anything is spent.

A cluster that grows has no nodes until they are asked for. Ray would wait for ever for what no node type holds.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from engine import UserError
from engine.cluster import nodes, policy, session
from engine.cluster.machines import ASSUMED, Cluster, Device, NodeType, ServingPlacement
from engine.cluster.policy import Need

WAIT_S = 20 * 60.0  # that nodes may take to come up
POLL_S = 5.0
ONE_GPU = [{"GPU": 1.0}]
K = TypeVar("K")


def describe_cluster(device: Device | None, max_gpus: int, may_grow: bool) -> Cluster:
    """What the cluster has that Ray is connected to. GPUs, if it has any or may have, unless another device is said.

    With `may_grow`, a cluster without any GPU yet is asked for its first, so that it can be planned for what it has.
    Without, it is planned for nodes of 8 GPUs with 80 GiB each. Raises UserError if there is no GPU and never will be.
    """
    up = session.live_nodes()
    on_gpus = device == "gpu" or (device is None and (max_gpus or nodes.group_gpu_nodes(up)))
    if not on_gpus:
        return Cluster(nodes=(nodes.cpu_type(up),))
    return Cluster(nodes=describe_gpus(max_gpus, may_grow), max_gpus=max_gpus)


def describe_gpus(max_gpus: int, may_grow: bool) -> tuple[NodeType, ...]:
    """The types of nodes with GPUs; memory is asked of one node of each. Raises UserError as above."""
    groups = nodes.group_gpu_nodes(session.live_nodes())
    if not groups and not max_gpus:
        raise UserError("no node of the cluster has a GPU; use --device cpu, or --max-gpus N if it may grow to N GPUs")
    if not groups and not may_grow:
        return (ASSUMED,)
    if not groups:
        wait_until_held(ONE_GPU, WAIT_S)
        groups = nodes.group_gpu_nodes(session.live_nodes())
    if not groups:
        raise UserError(f"no node with a GPU came up in {WAIT_S / 60:.0f} min; see what the cluster's autoscaler says")
    measured = {kind: session.measure_gpus(alike[0]) for kind, alike in groups.items()}
    for _, name in (kind for kind in groups if not measured[kind] and kind[1] not in nodes.KNOWN_GIB):
        print(f"Nothing tells the memory of {name or 'nameless'} GPUs: planned for {ASSUMED.device_gib:g} GiB each.")
    return nodes.gpu_types(groups, measured)


def wait_for_nodes(needs: Mapping[K, Need], seconds: float = WAIT_S) -> dict[K, str]:
    """Why what is needed cannot run, by its key; nothing of what can. To be called before anything is spent.

    Nodes that are not there yet, though the cluster may grow to have them, are asked for and waited for.
    """
    ends = time.monotonic() + seconds
    while later := [needs[key] for key in find_missing(needs) if may_come(needs[key])]:
        smallest = min(later, key=policy.n_devices)  # first, so that it does not wait for what may not come in time
        if not wait_until_held(policy.list_bundles(smallest), ends - time.monotonic()):
            break
    waited = f"; no other came up in {seconds / 60:.0f} min"
    return {key: why + waited * may_come(needs[key]) for key, why in find_missing(needs).items()}


def count_engines(need: ServingPlacement) -> int:
    """How many such engines run at once on the nodes that are up, or on those to which the cluster may grow."""
    [bundle] = policy.list_bundles(need)
    now = policy.n_held(bundle, [node["Resources"] for node in session.live_nodes()])
    later = int(session.growth["GPU"] // need.tensor_parallel) if need.device == "gpu" else 0
    return max(1, now, later)


def require(need: Need, what: str) -> None:
    """Raises UserError if nothing can run what is needed, named `what`; waits like `wait_for_nodes`."""
    if reasons := wait_for_nodes({what: need}):
        raise UserError(f"{what} {reasons[what]}")


def find_missing(needs: Mapping[K, Need]) -> dict[K, str]:
    """Why the nodes that are up cannot run what is needed, by its key; nothing of what they can."""
    if not needs:
        return {}
    up = [node["Resources"] for node in session.live_nodes()]
    reasons = {need: policy.why_unplaceable(need, up) for need in set(needs.values())}
    return {key: why for key, need in needs.items() if (why := reasons[need])}


def may_come(need: Need) -> bool:
    """May the cluster grow to hold what it does not hold now?"""
    return need.fits and need.device == "gpu" and policy.n_devices(need) <= session.growth["GPU"]


def wait_until_held(bundles: Sequence[policy.Resources], seconds: float) -> bool:
    """Asks for nodes that hold equal bundles, and waits until they are up. False if they are not in time."""
    wanted = f"{len(bundles)} × {bundles[0]['GPU']:g} GPUs on one node"
    print(f"Waiting for nodes with {wanted}, at most {seconds / 60:.0f} min …", flush=True)
    ends = time.monotonic() + seconds
    session.ask_for_nodes(bundles)
    try:
        while not is_held(bundles):
            if time.monotonic() > ends:
                return False
            time.sleep(POLL_S)
        return True
    finally:
        session.ask_for_nodes([])  # else the nodes would be kept when all is done


def is_held(bundles: Sequence[policy.Resources]) -> bool:
    """Are there nodes for these equal bundles?"""
    up = [node["Resources"] for node in session.live_nodes()]
    return policy.n_held(bundles[0], up) >= len(bundles)
