"""What an engine answers: one vLLM engine per base model, for the base and for all its adapters, many at a time.

vLLM has been seen to give wrong numbers without an error, so each engine is probed before its scores are believed.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from engine.cluster.machines import ServingPlacement
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
LEAK, NOTHING = 1e-2, 1e-6  # relative: more than batching changes (bfloat16 too); less than any training does


@dataclass(frozen=True, kw_only=True, slots=True)
class Answerer:
    """A model that answers: the engine's own, with the LoRA adapter in the folder `adapter` unless that is None."""

    name: str
    adapter: str | None = None


Work = Sequence[tuple[Answerer, Sequence[Asked]]]


class SilentError(Exception):
    """The engine gives numbers that cannot be right."""


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
    return vllm_engine.start(folder, serving, precision, max_context, logits_processors=[forced.PROCESSOR], **adapters)


# ---- asking ----------------------------------------------------------------------------------------------------------


def answer_all(llm: LLM, work: Work) -> Iterator[dict[str, list[Row]]]:
    """Asks each model its questions; yields the rows by model, one group of models after the other."""
    for group in chunks(work, MAX_ADAPTERS):
        progress.report(running=len(group))
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
    """The rows of a group of models, all asked at once."""
    requests = [request for who, asked in group for request in requests_for(who, asked)]
    answers = {tag: read(tag[2], output) for tag, output in vllm_engine.run(llm, requests)}
    return {
        who.name: [one.row([answers[(who.name, i, part)] for part in one.parts]) for i, one in enumerate(asked)]
        for who, asked in group
    }


def requests_for(who: Answerer, asked: Sequence[Asked]) -> Iterator[Request]:
    """All requests of a model's questions; those that share a prefix follow each other."""
    adapter = adapter_request(who)
    for i, one in enumerate(asked):
        for part in one.parts:
            yield Request(tag=(who.name, i, part), ids=list(part.prompt), params=params(part), adapter=adapter)


def adapter_request(who: Answerer) -> LoRARequest | None:
    """The adapter for vLLM. It keeps loaded adapters by number, so the number has to be the adapter's own."""
    if who.adapter is None:
        return None
    number = int.from_bytes(hashlib.sha256(who.adapter.encode()).digest()[:4]) // 2 + 1
    return LoRARequest(who.name, number, who.adapter)


def params(part: Part) -> SamplingParams:
    """How the engine is to answer one part of a question."""
    match part:
        case Option(answer=answer):
            return forced.force(answer)
        case Letters(letters=letters):
            return forced.compare(letters)
        case Reply():
            return SamplingParams(temperature=0, max_tokens=REPLY_TOKENS)


def read(part: Part, output: Any) -> Answer:
    """The log-probabilities (nats) that were asked for, or the text of a reply."""
    [generated] = output.outputs
    match part:
        case Option(answer=answer):
            return [generated.logprobs[place][token].logprob for place, token in enumerate(answer)]
        case Letters(letters=letters):
            return [generated.logprobs[0][token].logprob for token in letters]
        case Reply():
            return generated.text


# ---- probes ----------------------------------------------------------------------------------------------------------


def probe(llm: LLM, asked: Asked, who: Iterable[Answerer]) -> None:
    """Checks that adapters change the answers and that the base's stay the same beside them.

    Raises SilentError that names the adapter and the numbers.
    """
    base = Answerer(name="base")
    alone = option_logprobs(llm, asked, [base])["base"]
    for group in chunks([w for w in who if w.adapter], MAX_ADAPTERS):
        together = option_logprobs(llm, asked, [base, *group])
        if not are_close(alone, together["base"], LEAK):
            raise SilentError(
                f"the base model scores {together['base']} beside adapters and {alone} alone: an adapter leaks into it"
            )
        for one in group:
            if are_close(alone, together[one.name], NOTHING):
                raise SilentError(f"adapter {one.name} ({one.adapter}) scores as its base, {alone}: it is not applied")


def option_logprobs(llm: LLM, asked: Asked, who: Sequence[Answerer]) -> dict[str, list[float]]:
    """Log-likelihoods of the options under several models in one batch."""
    rows = answer_group(llm, [(w, [asked]) for w in who])
    return {name: one["option_logprobs"] for name, [one] in rows.items()}


def are_close(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    """Equal within a relative tolerance."""
    return all(abs(x - y) <= tolerance * max(1.0, abs(x)) for x, y in zip(a, b, strict=True))
