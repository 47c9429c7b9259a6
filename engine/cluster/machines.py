"""What machines and placements are, as plain data; and what this machine has.

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
KV_CACHE_GIB: dict[Device, int] = {"cpu": 2, "gpu": 4}  # of an engine that serves


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a job may use: `n_cpus` and `n_gpus` in all, memory of one device in GiB."""

    device: Device
    n_cpus: int
    n_gpus: int
    device_gib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPlacement:
    """How vLLM runs a model: OpenMP threads on a CPU, GPUs that share its layers on GPUs."""

    device: Device
    threads: int
    tensor_parallel: int
    fits: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlacement:
    """How DeepSpeed trains a model, and why so. `memory_gib`: of one device."""

    device: Device
    threads: int
    n_workers: int
    zero_stage: int
    micro_batch_tokens: int
    recompute: bool  # activations are computed again in the backward pass instead of being kept
    memory_gib: float
    fits: bool
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a trial will take: tokens, operations, seconds, and what the seconds rest on."""

    train_tokens: float
    train_flops: float
    selfplay_flops: float
    seconds: float
    basis: str


def this_machine(device: Device | None) -> Machine:
    """What this machine has. Asked for a GPU where there is none, it plans for a node of 8 GPUs with 80 GiB each."""
    gpus = gpu_memories()
    if device == "cpu" or (device is None and not gpus):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        return Machine(device="cpu", n_cpus=len(os.sched_getaffinity(0)), n_gpus=0, device_gib=memory)
    return Machine(device="gpu", n_cpus=os.cpu_count() or 1, n_gpus=len(gpus) or 8, device_gib=min(gpus, default=80.0))


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
