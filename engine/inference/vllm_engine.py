"""vLLM as the engine that self-play and evaluation share: how it starts, and how requests stream through it.

The engine is stepped in its own process: requests are added whenever there are some and finished ones come out in any
order, so that a request that depends on another's answer starts while the rest still runs (no tail of a batch).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vllm import LLM

from engine.cluster.machines import ServingPlacement
from engine.inference.settings import engine_settings, environment
from engine.study import Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt (token ids) with vLLM sampling parameters; `tag` says whose it is when it comes back."""

    tag: Any
    ids: list[int]
    params: Any
    adapter: Any = None


def start(folder: str, serving: ServingPlacement, precision: Precision, max_context: int, **options: Any) -> LLM:
    """A vLLM engine on the model in `folder`; `max_context` in tokens. `options` go to `vllm.LLM`."""
    os.environ.update(environment(serving))
    if serving.device == "cpu" and options.get("enable_lora"):
        from engine.inference import cpu_lora  # a part of vLLM that other devices need not have

        cpu_lora.install()
    return LLM(folder, **engine_settings(serving, precision, max_context), **options)


def stream(llm: LLM, requests: Iterable[Request], follow_up: Callable[[Any, Any], Iterable[Request]]) -> Iterator[None]:
    """Runs requests until none is left; `follow_up(tag, output)` may give new ones. Yields after each step."""
    engine: Any = llm.llm_engine
    tags: dict[str, Any] = {}
    numbers = iter(range(2**62))

    def add(more: Iterable[Request]) -> None:
        for request in more:
            name = str(next(numbers))
            tags[name] = request.tag
            prompt = {"prompt_token_ids": request.ids}
            engine.add_request(name, prompt, request.params, lora_request=request.adapter)

    add(requests)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                add(follow_up(tags.pop(output.request_id), output))
        yield


def run(llm: LLM, requests: Iterable[Request]) -> Iterator[tuple[Any, Any]]:
    """Runs independent requests; yields (tag, output) as they finish."""
    finished: list[tuple[Any, Any]] = []

    def keep(tag: Any, output: Any) -> Iterable[Request]:
        finished.append((tag, output))
        return ()

    for _ in stream(llm, requests, keep):
        yield from finished
        finished.clear()
