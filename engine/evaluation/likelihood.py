"""What an engine answers: one vLLM engine per base model, for the base and for all its adapters, many at a time.

vLLM has been seen to give wrong numbers without an error: `engine.evaluation.probes` looks for it before its scores are
believed.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from engine.cluster.machines import ServingPlacement
from engine.evaluation import clean, marks
from engine.evaluation.marks import Row
from engine.evaluation.questions import Answer, Asked, Letters, Option, Part, Reply
from engine.inference import forced, vllm_engine
from engine.inference.settings import served_rank
from engine.inference.vllm_engine import Request
from engine.monitor import progress
from engine.study import Precision

T = TypeVar("T")
MAX_ADAPTERS = 8  # in flight at once
REPLY_TOKENS = 24  # of a free answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Answerer:
    """A model that answers: the engine's own, with the LoRA adapter in the folder `adapter` unless that is None."""

    name: str
    adapter: str | None = None


Work = Sequence[tuple[Answerer, Sequence[Asked]]]
BASE = Answerer(name="base")


def start(
    folder: str,
    serving: ServingPlacement,
    precision: Precision,
    max_context: int,
    rank: int | None,
    n_adapters: int = MAX_ADAPTERS,
) -> LLM:
    """A vLLM engine for scoring; with `n_adapters` in flight of LoRA rank up to `rank`, or without any if that is None.

    It has one place more than there are adapters in flight: without it a base request batched with them gets one.
    """
    adapters: dict[str, Any] = {}
    if rank is not None:
        adapters = {"enable_lora": True, "max_loras": n_adapters + 1, "max_lora_rank": served_rank(rank)}
    options = forced.engine_options(serving.device) | {
        "worker_extension_cls": clean.EXTENSION,
        # In bfloat16 the logits themselves would move in steps of an eighth of a nat.
        "hf_overrides": {"head_dtype": "float32"},
    }
    return vllm_engine.start(folder, serving, precision, max_context, load_format="safetensors", **options, **adapters)


# ---- asking ----------------------------------------------------------------------------------------------------------


def answer_all(llm: LLM, work: Work) -> Iterator[dict[str, list[Row]]]:
    """Asks each model its questions; yields the rows by model, one group of models after the other."""
    for group in chunks(work, MAX_ADAPTERS):
        progress.report(running=len(group))
        with progress.at_work(f"{group[0][0].name}, {len(group)} models in all"):
            rows = answer_group(llm, group)
        progress.report(running=-len(group), done=len(group), tokens=sum(n_tokens(asked) for _, asked in group))
        yield rows


def n_tokens(asked: Sequence[Asked]) -> int:
    """Tokens of the prompts and answers of questions."""
    parts = [part for one in asked for part in one.parts]
    return sum(len(part.prompt) + (len(part.answer) if isinstance(part, Option) else 1) for part in parts)


def chunks(work: Sequence[T], n: int) -> Iterator[Sequence[T]]:
    """Groups of n."""
    return (work[i : i + n] for i in range(0, len(work), n))


def answer_group(llm: LLM, group: Work) -> dict[str, list[Row]]:
    """The rows of a group of models, all asked at once; one by one, if any scores are not finite (see `clean`)."""
    rows = answer_at_once(llm, group)
    if all(map(marks.are_finite, rows.values())):
        return rows
    clean.empty_cache(llm)
    if len(group) == 1:
        return rows
    return {name: mine for one in group for name, mine in answer_group(llm, [one]).items()}


def answer_at_once(llm: LLM, group: Work) -> dict[str, list[Row]]:
    """The rows of a group of models, asked in one batch."""
    replay = forced.can_replay(llm)
    requests = [request for who, asked in group for request in requests_for(who, asked, replay)]
    answers = {tag: read(tag[2], output) for tag, output in vllm_engine.run(llm, requests)}
    return {
        who.name: [one.row([answers[(who.name, i, part)] for part in one.parts]) for i, one in enumerate(asked)]
        for who, asked in group
    }


def requests_for(who: Answerer, asked: Sequence[Asked], replay: bool) -> Iterator[Request]:
    """All requests of a model's questions; those that share a prefix follow each other. `replay`: see `params`."""
    adapter = adapter_request(who)
    for i, one in enumerate(asked):
        for part in one.parts:
            tag, ids = (who.name, i, part), list(part.prompt)
            yield Request(tag=tag, ids=ids, params=params(part, replay), adapter=adapter)


def adapter_request(who: Answerer) -> LoRARequest | None:
    """The adapter for vLLM. It keeps loaded adapters by number, so the number has to be the adapter's own."""
    if who.adapter is None:
        return None
    number = int.from_bytes(hashlib.sha256(who.adapter.encode()).digest()[:4]) // 2 + 1
    return LoRARequest(who.name, number, who.adapter)


def params(part: Part, replay: bool) -> SamplingParams:
    """How an engine that can replay given tokens, or one that cannot, is to answer one part of a question."""
    match part:
        case Option(answer=answer):
            return forced.force(answer, replay)
        case Letters(letters=letters):
            return forced.compare(letters)
        case Reply():
            return SamplingParams(temperature=0, max_tokens=REPLY_TOKENS)


def read(part: Part, output: Any) -> Answer:
    """The log-probabilities (nats) that were asked for, or the text of a reply."""
    [generated] = output.outputs
    match part:
        case Option(answer=answer):
            return [logprob_of(token, generated.logprobs[place]) for place, token in enumerate(answer)]
        case Letters(letters=letters):
            return [logprob_of(token, generated.logprobs[0]) for token in letters]
        case Reply():
            return generated.text


def logprob_of(token: int, logprobs: Any) -> float:
    """A token's log-probability; NaN where the engine gives none, since the model's numbers overflow."""
    return float(logprobs[token].logprob) if token in logprobs else math.nan
