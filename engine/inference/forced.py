"""Makes vLLM emit given tokens, so that their log-probabilities can be read.

The raw log-probability of a token that has to come is what the model gave it. `prompt_logprobs` gives the same numbers
(a test compares them) but cannot use the prefix cache, and took 4 times as long on news, questions and options that
share most of their text.

vLLM has two model runners. On GPUs the second one runs, which replays given tokens by itself and refuses logits
processors of the first; on CPUs the first one runs, where a logits processor allows nothing except the next token.
`engine.inference.settings.environment` says which one runs.
"""

import math
from collections.abc import Sequence
from typing import Any

from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from engine.cluster.machines import Device


class Forced(AdapterLogitsProcessor):
    """Lets a request emit the tokens of its `extra_args["forced"]`, and nothing else."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> Any:
        forced = (params.extra_args or {}).get("forced")
        if forced is None:
            return None

        def allow_next(emitted: list[int], logits: Any) -> Any:
            token = forced[len(emitted)]
            kept = logits[token].clone()
            return logits.fill_(-math.inf).index_fill_(0, logits.new_tensor([token]).long(), float(kept))

        return allow_next


def engine_options(device: Device) -> dict[str, Any]:
    """What `vllm.LLM` has to be given so that it can be forced."""
    if device == "gpu":
        return {"enable_trace_replay": True}
    return {"logits_processors": [f"{__name__}:{Forced.__name__}"]}


def can_replay(llm: Any) -> bool:
    """Does an engine replay given tokens by itself?"""
    return bool(llm.llm_engine.vllm_config.model_config.enable_trace_replay)


def force(answer: Sequence[int], replay: bool) -> SamplingParams:
    """Emit exactly these tokens, and give the log-probability of each; `replay`: see `can_replay`."""
    tokens = list(answer)
    how: dict[str, Any] = {"trace_decode_token_ids": tokens} if replay else {"extra_args": {"forced": tokens}}
    return SamplingParams(temperature=0, max_tokens=len(tokens), logprobs=0, ignore_eos=True, detokenize=False, **how)


def compare(tokens: Sequence[int]) -> SamplingParams:
    """Emit one token, and give the log-probability of each of these in its place."""
    return SamplingParams(
        temperature=0, max_tokens=1, ignore_eos=True, detokenize=False, logprob_token_ids=list(tokens)
    )
