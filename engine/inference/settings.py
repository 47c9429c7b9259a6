"""How vLLM is set up on a device: environment, settings and limits of an engine. Imports neither torch nor vllm."""

from typing import Any

from engine import UserError
from engine.cluster.machines import KV_CACHE_GIB, Device, ServingPlacement
from engine.study import Precision

MAX_CONTEXT = 2048  # tokens of one prompt with its answer, unless the model takes fewer
# Tokens. Small, since only whole blocks of a shared prefix are reused (the default on a CPU is 128).
BLOCK: dict[Device, int] = {"cpu": 32, "gpu": 16}
MAX_SEQUENCES: dict[Device, int] = {"cpu": 64, "gpu": 256}
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM reserves room for


def environment(serving: ServingPlacement) -> dict[str, str]:
    """What a process that runs vLLM needs in its environment before vLLM is imported.

    Ray sets OMP_NUM_THREADS to the CPUs that it reserves, which are too few; vLLM would bind two engines to the same
    cores. An engine in the same process is nearly twice as fast on two cores.
    """
    common = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if serving.device == "gpu":
        # Only in actors of Ray does vLLM itself start its processes anew; one that is forked from a task hangs.
        return common | {"VLLM_USE_V2_MODEL_RUNNER": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    return common | {
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(KV_CACHE_GIB["cpu"]),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(serving.threads),
    }


def engine_settings(serving: ServingPlacement, precision: Precision, max_context: int) -> dict[str, Any]:
    """What `vllm.LLM` is given, besides the model. `max_context` in tokens."""
    on_cpu = serving.device == "cpu"
    return {
        "dtype": precision,
        "max_model_len": max_context,
        "max_num_seqs": MAX_SEQUENCES[serving.device],
        "block_size": BLOCK[serving.device],
        "tensor_parallel_size": serving.tensor_parallel,
        "enable_prefix_caching": True,
        # Split over steps, a seeded prompt needs its generator rewound, which vLLM cannot do on a CPU.
        "enable_chunked_prefill": not on_cpu,
        "enforce_eager": on_cpu,
        "disable_log_stats": True,
        "seed": 0,
    }


def served_rank(rank: int) -> int:
    """The rank that vLLM is given for adapters up to `rank`. Raises UserError above vLLM's highest."""
    served = next((r for r in LORA_RANKS if r >= rank), None)
    if served is None:
        raise UserError(f"a LoRA rank of {rank} is more than vLLM serves, {LORA_RANKS[-1]}")
    return served
