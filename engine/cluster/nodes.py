"""What Ray says of a cluster's nodes, as node types: pure functions of `ray.nodes()`.

A node of Ray is a mapping with its `NodeID`, whether it is `Alive`, and its `Resources`, such as
`{"CPU": 64.0, "GPU": 8.0, "accelerator_type:H100": 1.0, "memory": 1e12}`; Ray names the accelerator itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine import UserError
from engine.cluster.machines import ASSUMED, GIB, NodeType

Node = Mapping[str, Any]
Kind = tuple[int, str]  # GPUs of one node, their name
ACCELERATOR = "accelerator_type:"  # what such a resource of Ray begins with
# Of the smallest card that is sold under the name: for nodes that have no nvidia-smi.
KNOWN_GIB = {
    "T4": 15.0,
    "V100": 16.0,
    "L4": 22.4,
    "A10G": 22.4,
    "A100": 40.0,
    "L40S": 45.0,
    "H100": 79.6,
    "H200": 140.0,
    "B200": 179.0,
}

# Arithmetic in 16 bits against that of an H100, by the makers' data sheets.
RELATIVE_SPEED = {
    "T4": 0.07,
    "V100": 0.13,
    "L4": 0.12,
    "A10G": 0.07,
    "A100": 0.32,
    "L40S": 0.37,
    "H100": 1.0,
    "H200": 1.0,
    "B200": 2.3,
}


def accelerator_of(node: Node) -> str:
    """The name of its GPUs; empty if Ray knows none."""
    return next((name.removeprefix(ACCELERATOR) for name in node["Resources"] if name.startswith(ACCELERATOR)), "")


def describe_node(node: Node) -> str:
    """What one node has, as in `8 × H100`, `8 × GPU` where Ray knows no name, or `CPUs`."""
    n_gpus = int(node["Resources"].get("GPU", 0))
    return name_node(n_gpus, accelerator_of(node))


def name_node(n_gpus: int, accelerator: str) -> str:
    """A kind of node by its GPUs."""
    return f"{n_gpus} × {accelerator or 'GPU'}" if n_gpus else "CPUs"


def group_gpu_nodes(nodes: Sequence[Node]) -> dict[Kind, list[Node]]:
    """The nodes that have GPUs, those together that are alike."""
    groups: dict[Kind, list[Node]] = {}
    for node in nodes:
        if n_gpus := int(node["Resources"].get("GPU", 0)):
            groups.setdefault((n_gpus, accelerator_of(node)), []).append(node)
    return groups


def gpu_types(groups: Mapping[Kind, Sequence[Node]], measured: Mapping[Kind, Sequence[float]]) -> tuple[NodeType, ...]:
    """Types of nodes with GPUs; `measured`: the memory of each GPU of one node of a kind, in GiB, where it is known."""
    return tuple(
        NodeType(
            device="gpu",
            n_cpus=min(int(node["Resources"].get("CPU", 0)) for node in alike),
            n_gpus=n_gpus,
            device_gib=min(measured.get((n_gpus, name), ()), default=KNOWN_GIB.get(name, ASSUMED.device_gib)),
            count=len(alike),
            accelerator=name,
        )
        for (n_gpus, name), alike in groups.items()
    )


def cpu_type(nodes: Sequence[Node]) -> NodeType:
    """All nodes that have a core, as nodes of one type: each with as much as the smallest. UserError if none has."""
    having = [node["Resources"] for node in nodes if node["Resources"].get("CPU", 0) >= 1]
    if not having:
        raise UserError("no node of the cluster has a CPU; start one, or use --max-gpus N if it may grow to N GPUs")
    memory = min(r.get("memory", 0.0) + r.get("object_store_memory", 0.0) for r in having)
    cores = int(min(r["CPU"] for r in having))
    return NodeType(device="cpu", n_cpus=cores, n_gpus=0, device_gib=memory / GIB, count=len(having))
