"""What nodes, clusters and placements are, as plain data; and what this machine has.

`engine.planning.placement` decides a placement: one for serving (vLLM), one for training (DeepSpeed). It is never part
of a trial's identity.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GIB = 2**30
Device = Literal["cpu", "gpu"]
KV_CACHE_GIB: dict[Device, int] = {"cpu": 2, "gpu": 4}  # of an engine that serves, at least


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeType:
    """Nodes that are alike: what one of them has, and how many there are.

    `n_gpus`: of one node. `device_gib`: memory of one GPU, or of the node if its device is the CPU. `accelerator`: the
    name by which Ray knows the GPUs, such as `H100`; empty if it knows none.
    """

    device: Device
    n_cpus: int
    n_gpus: int
    device_gib: float
    count: int = 1
    accelerator: str = ""


ASSUMED = NodeType(device="gpu", n_cpus=64, n_gpus=8, device_gib=80.0)  # where nothing is known of the GPUs


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpus:
    """All GPUs of one kind: memory of one in GiB, how many one node has at most, how many the cluster may have."""

    accelerator: str
    gib: float
    per_node: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What a study is planned for: nodes of one device, and how many GPUs their autoscaler may grow them to."""

    nodes: tuple[NodeType, ...]
    max_gpus: int = 0

    @property
    def device(self) -> Device:
        """Where everything runs."""
        return self.nodes[0].device

    @property
    def gpus(self) -> list[Gpus]:
        """The GPUs by kind. GPUs of one name count as having the memory of the smallest."""
        kinds: dict[str, list[NodeType]] = {}
        for node in self.nodes:
            kinds.setdefault(node.accelerator, []).append(node)
        return [
            Gpus(
                accelerator=name,
                gib=min(node.device_gib for node in alike),
                per_node=max(node.n_gpus for node in alike),
                total=max(self.max_gpus, sum(node.count * node.n_gpus for node in alike)),
            )
            for name, alike in kinds.items()
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPlacement:
    """How vLLM runs a model: OpenMP threads on a CPU, GPUs of one node that share its layers on GPUs, and why so.

    `accelerator`: the only kind of GPU that it may run on; empty if it may run on any.
    """

    device: Device
    threads: int
    tensor_parallel: int
    fits: bool
    accelerator: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlacement:
    """How DeepSpeed trains a model, and why so. `memory_gib`: of one device; `accelerator`: as in serving."""

    device: Device
    threads: int
    n_workers: int
    zero_stage: int
    micro_batch_tokens: int
    recompute: bool  # activations are computed again in the backward pass instead of being kept
    memory_gib: float
    fits: bool
    reason: str
    accelerator: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a trial will take: tokens, operations, seconds of its fine-tune, and what these rest on."""

    train_tokens: float
    train_flops: float
    selfplay_flops: float
    seconds: float
    basis: str


def this_machine(device: Device | None) -> Cluster:
    """What this machine has. Asked for a GPU where there is none, it plans for a node of 8 GPUs with 80 GiB each."""
    gpus = gpu_memories()
    if device == "cpu" or (device is None and not gpus):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        return Cluster(nodes=(NodeType(device="cpu", n_cpus=n_cores(), n_gpus=0, device_gib=memory),))
    if not gpus:
        return Cluster(nodes=(ASSUMED,))
    node = NodeType(device="gpu", n_cpus=os.cpu_count() or 1, n_gpus=len(gpus), device_gib=min(gpus))
    return Cluster(nodes=(node,))


def n_cores() -> int:
    """How many of this machine's cores this process may use."""
    return len(os.sched_getaffinity(0))


def gpu_memories() -> list[float]:
    """Memory of each NVIDIA GPU in GiB, without importing torch."""
    return [float(line) / 1024 for line in _nvidia_smi("memory.total") if line.isdigit()]


def device_name(device: Device) -> str:
    """The model of this machine's GPU or CPU, such as `NVIDIA H100 80GB HBM3`."""
    if device == "gpu":
        return next(iter(_nvidia_smi("name")), "unknown GPU")
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def _nvidia_smi(column: str) -> list[str]:
    """One line per GPU; none where there is no driver."""
    if not shutil.which("nvidia-smi") or not Path("/dev/nvidiactl").exists():
        return []
    query = ["nvidia-smi", f"--query-gpu={column}", "--format=csv,noheader,nounits"]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    return [line.strip() for line in shown.splitlines() if line.strip()]
