"""What an engine answers: one vLLM engine per base model, for the base and for all its adapters, many at a time.

vLLM has been seen to give wrong numbers without an error, so each engine is probed before its scores are believed.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
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
LEAK, NOTHING = 1e-2, 1e-6  # relative: more than batching changes (bfloat16 too); less than any training does


@dataclass(frozen=True, kw_only=True, slots=True)
class Answerer:
    """A model that answers: the engine's own, with the LoRA adapter in the folder `adapter` unless that is None."""

    name: str
    adapter: str | None = None


Work = Sequence[tuple[Answerer, Sequence[Asked]]]
BASE = Answerer(name="base")


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
    options = {"logits_processors": [forced.PROCESSOR], "worker_extension_cls": clean.EXTENSION}
    return vllm_engine.start(folder, serving, precision, max_context, load_format="safetensors", **options, **adapters)


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
            return [logprob_of(token, generated.logprobs[place]) for place, token in enumerate(answer)]
        case Letters(letters=letters):
            return [logprob_of(token, generated.logprobs[0]) for token in letters]
        case Reply():
            return generated.text


def logprob_of(token: int, logprobs: Any) -> float:
    """A token's log-probability; NaN where the engine gives none, since the model's numbers overflow."""
    return float(logprobs[token].logprob) if token in logprobs else math.nan


# ---- probes ----------------------------------------------------------------------------------------------------------


def probe(llm: LLM, asked: Asked, who: Iterable[Answerer]) -> dict[str, str]:
    """What is wrong with adapters, by name: refused by the engine, not applied, or applied to the base beside them.

    Raises SilentError, with the numbers, if the fault is in no adapter.
    """
    models = list(who)
    faults = {one.name: fault for one in models if (fault := refusal(llm, one))}
    alone = option_logprobs(llm, asked, [BASE])[BASE.name]
    for group in chunks([one for one in models if one.name not in faults], MAX_ADAPTERS):
        faults |= probe_group(llm, asked, group, alone)
    return faults


def refusal(llm: LLM, one: Answerer) -> str | None:
    """Why the engine does not load an adapter, or None. Asked apart, since one that fails in a batch ends them all."""
    try:
        if request := adapter_request(one):
            llm.llm_engine.add_lora(request)
    except Exception as error:  # of any kind: vLLM's loaders raise what they meet
        return f"{one.adapter}: the engine does not load it: {error}"
    return None


def probe_group(llm: LLM, asked: Asked, group: Sequence[Answerer], alone: Sequence[float]) -> dict[str, str]:
    """Faults of adapters that are asked in one batch with their base, which scores `alone` without them."""
    together = option_logprobs(llm, asked, [BASE, *group])
    if not are_close(alone, together[BASE.name], LEAK):
        return find_leaks(llm, asked, group, alone, together[BASE.name])
    scores = {one: together[one.name] for one in group}
    what = marks.name_divergence(marks.NOT_FINITE)
    overflow = {one.name: what for one, mine in scores.items() if not all(map(math.isfinite, mine))}
    what = f"it scores as its base, {list(alone)}: the engine does not apply it"
    same = {one.name: f"{one.adapter}: {what}" for one, mine in scores.items() if are_close(alone, mine, NOTHING)}
    return overflow | same


def find_leaks(
    llm: LLM, asked: Asked, group: Sequence[Answerer], alone: Sequence[float], beside: Sequence[float]
) -> dict[str, str]:
    """Which adapters change their base's scores (from `alone` to `beside`), with what is wrong with the others."""
    what = f"the base model scores {list(beside)} beside it and {list(alone)} alone: it leaks into its base"
    if len(group) == 1:
        return {group[0].name: f"{group[0].adapter}: {what}"}
    apart = [probe_group(llm, asked, [one], alone) for one in group]
    faults = {name: fault for found in apart for name, fault in found.items()}
    sound = [one for one in group if one.name not in faults]
    if len(sound) == len(group):
        raise SilentError(f"{what}, and it is not one of {len(group)} adapters ({group[0].name}, …) that does it alone")
    return faults | probe_group(llm, asked, sound, alone) if sound else faults


def option_logprobs(llm: LLM, asked: Asked, who: Sequence[Answerer]) -> dict[str, list[float]]:
    """Log-likelihoods of the options under several models in one batch."""
    rows = answer_group(llm, [(w, [asked]) for w in who])
    return {name: one["option_logprobs"] for name, [one] in rows.items()}


def are_close(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    """Equal within a relative tolerance."""
    return all(abs(x - y) <= tolerance * max(1.0, abs(x)) for x, y in zip(a, b, strict=True))
