"""vLLM as the engine that all phases share: how it starts, and how requests stream through it.

The engine is stepped in its own process: requests are added whenever there are some and finished ones come out in any
order, so that a request that depends on another's answer starts while the rest still runs (no tail of a batch).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.cost import KV_CACHE_GIB, Profile
from engine.study import Precision

BLOCK = {
    "cpu": 32,
    "gpu": 16,
}  # tokens; small, since only whole blocks of a shared prefix are reused (CPU's default: 128)
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM keeps room for
MAX_SEQUENCES = {"cpu": 64, "gpu": 256}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt (token ids) with vLLM sampling parameters; `tag` says whose it is when it comes back."""

    tag: Any
    ids: list[int]
    params: Any
    adapter: Any = None


def environment(profile: Profile) -> dict[str, str]:
    """What a process that runs vLLM needs in its environment before vLLM is imported.

    Ray sets OMP_NUM_THREADS to the CPUs it reserves, too few; vLLM would bind two engines to the same cores. The
    in-process engine is nearly twice as fast on two cores.
    """
    common = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if profile.device == "gpu":
        return common
    return common | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(KV_CACHE_GIB["cpu"]),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(profile.threads),
    }


def on_worker(function: Callable[..., Any], profile: Profile, *args: Any, retries: int = 0) -> Any:
    """The function's result from a Ray worker that has room for an engine, and its environment.

    A worker that dies is replaced up to `retries` times. Raises ray.exceptions.RayError.
    """
    import ray

    takes: dict[str, Any] = {"num_gpus": profile.tensor_parallel} if profile.device == "gpu" else {"num_cpus": 1}
    # A process that ran an engine never gives all of its memory back: none is used twice.
    task: Any = ray.remote(max_calls=1)(function).options(
        max_retries=retries, runtime_env={"env_vars": environment(profile)}, **takes
    )
    return ray.get(task.remote(*args))


def lora_rank(rank: int) -> int:
    """The rank that vLLM is told, for adapters up to this one. Raises ValueError above its highest."""
    found = next((r for r in LORA_RANKS if r >= rank), None)
    if found is None:
        raise ValueError(f"a LoRA rank of {rank} is more than vLLM serves, {LORA_RANKS[-1]}")
    return found


def start(folder: str, profile: Profile, precision: Precision, max_context: int, **options: Any) -> Any:
    """A vLLM engine on the model in `folder`; `max_context` in tokens. `options` go to `vllm.LLM`."""
    os.environ.update(environment(profile))
    from vllm import LLM

    if profile.device == "cpu" and options.get("enable_lora"):
        from engine import grouped_lora

        grouped_lora.install()
    return LLM(
        folder,
        dtype=precision,
        max_model_len=max_context,
        max_num_seqs=MAX_SEQUENCES[profile.device],
        block_size=BLOCK[profile.device],
        tensor_parallel_size=profile.tensor_parallel,
        enable_prefix_caching=True,
        # Split over steps, a seeded prompt needs its generator rewound, which vLLM cannot do on a CPU.
        enable_chunked_prefill=profile.device != "cpu",
        enforce_eager=profile.device == "cpu",
        disable_log_stats=True,
        seed=0,
        **options,
    )


def stream(llm: Any, requests: Iterable[Request], follow_up: Callable[[Any, Any], Iterable[Request]]) -> Iterator[None]:
    """Runs requests until none is left; `follow_up(tag, output)` may give new ones. Yields after each step."""
    engine = llm.llm_engine
    tags: dict[str, Any] = {}

    def add(more: Iterable[Request]) -> None:
        for request in more:
            name = str(next(numbers))
            tags[name] = request.tag
            prompt = {"prompt_token_ids": request.ids}
            engine.add_request(name, prompt, request.params, lora_request=request.adapter)

    numbers = iter(range(2**62))
    add(requests)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                add(follow_up(tags.pop(output.request_id), output))
        yield


def run(llm: Any, requests: Iterable[Request]) -> Iterator[tuple[Any, Any]]:
    """Runs independent requests; yields (tag, output) as they finish."""
    finished: list[tuple[Any, Any]] = []

    def keep(tag: Any, output: Any) -> Iterable[Request]:
        finished.append((tag, output))
        return ()

    for _ in stream(llm, requests, keep):
        yield from finished
        finished.clear()
