"""Forces vLLM to emit given tokens, so that their log-probabilities can be read.

A logits processor allows nothing except the next given token, and the raw log-probability of that token is what the
model gave it. `prompt_logprobs` gives the same numbers (a test compares them) but cannot use the prefix cache, and took
4 times as long on news, questions and options that share most of their text.
"""

import math
from collections.abc import Sequence
from typing import Any

from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor


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


PROCESSOR = f"{__name__}:{Forced.__name__}"  # as `vllm.LLM(logits_processors=…)` takes it


def force(answer: Sequence[int]) -> SamplingParams:
    """Emit exactly these tokens, and give the log-probability of each."""
    return SamplingParams(
        temperature=0,
        max_tokens=len(answer),
        logprobs=0,
        ignore_eos=True,
        detokenize=False,
        extra_args={"forced": list(answer)},
    )


def compare(tokens: Sequence[int]) -> SamplingParams:
    """Emit one token, and give the log-probability of each of these in its place."""
    return SamplingParams(
        temperature=0, max_tokens=1, ignore_eos=True, detokenize=False, logprob_token_ids=list(tokens)
    )
