"""Evaluation: one vLLM engine a base model answers for the base and for all its adapters, many at a time.

    python jobs/evaluate.py --study quickstart

An option is scored by making the engine emit it: a logits processor allows nothing but the option's next token, and the
raw log-probability of that token is what the model gave it. `prompt_logprobs` gives the same numbers (a test holds it)
but cannot use the prefix cache, and took 4 times as long on news, questions and options that share most of their text.

vLLM has been seen to give wrong numbers without an error; each engine is probed before its scores are believed.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from engine import inference, progress
from engine.asking import Ask, AskedTask, Letters, Option, mark, score
from engine.cost import Profile
from engine.inference import Request
from engine.study import Precision

MAX_ADAPTERS = 8  # in flight at once
REPLY_TOKENS = 24  # of a task's answer
LEAK, NOTHING = 1e-2, 1e-6  # relative: more than batching changes (bfloat16 too); less than any training does


@dataclass(frozen=True, kw_only=True, slots=True)
class Answering:
    """A model that answers: the base in `folder`, with the LoRA adapter in `adapter` unless that is None."""

    name: str
    adapter: str | None = None


Work = Sequence[tuple[Answering, Sequence[Ask]]]
Part = Option | Letters | AskedTask  # what one request answers
Row = dict[str, Any]


class SilentError(Exception):
    """The engine gives numbers that cannot be right."""


class Forced(AdapterLogitsProcessor):
    """Lets a request emit the tokens of its `extra_args["forced"]`, and nothing else."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> Any:
        forced = (params.extra_args or {}).get("forced")
        if forced is None:
            return None

        def only(emitted: list[int], logits: Any) -> Any:
            token = forced[len(emitted)]
            kept = logits[token].clone()
            return logits.fill_(-math.inf).index_fill_(0, logits.new_tensor([token]).long(), float(kept))

        return only


def engine(folder: str, profile: Profile, precision: Precision, max_context: int, rank: int | None) -> Any:
    """A vLLM engine for scoring; with adapters of LoRA rank up to `rank`, or without any if None.

    One place more than there are adapters in flight: without it a base request batched with them gets one applied.
    """
    lora = (
        {"enable_lora": True, "max_loras": MAX_ADAPTERS + 1, "max_lora_rank": inference.lora_rank(rank)} if rank else {}
    )
    processor = f"{__name__}:{Forced.__name__}"
    return inference.start(folder, profile, precision, max_context, logits_processors=[processor], **lora)


# ---- asking ----------------------------------------------------------------------------------------------------------


def evaluate(llm: Any, work: Work) -> Iterator[tuple[str, list[Row]]]:
    """Asks each model its questions, the adapters in groups; yields (model's name, rows) as groups finish."""
    for group in chunks(work, MAX_ADAPTERS):
        progress.report(running=len(group))
        rows = answers(llm, group)
        for who, asked in group:
            progress.report(running=-1, done=1, tokens=sum(map(n_tokens, asked)))
            yield who.name, rows[who.name]


def n_tokens(asked: Ask) -> int:
    """Tokens that the question's answers stand in, for the progress line; letters are not counted."""
    parts = [asked.prompt] if isinstance(asked, AskedTask) else [o.prompt + o.answer for o in asked.options]
    return sum(map(len, parts))


def chunks(work: Sequence[Any], n: int) -> Iterator[Sequence[Any]]:
    """Groups of n."""
    return (work[i : i + n] for i in range(0, len(work), n))


def answers(llm: Any, group: Work) -> dict[str, list[Row]]:
    """The rows of a group of models, all asked at once."""
    requests = [r for who, asked in group for r in requests_for(who, asked)]
    given = {tag: read(tag[2], output) for tag, output in inference.run(llm, requests)}
    return {who.name: [row(who, i, a, given) for i, a in enumerate(asked)] for who, asked in group}


def row(who: Answering, i: int, asked: Ask, given: dict[Any, Any]) -> Row:
    """One question's row, from what the engine gave for its parts."""
    if isinstance(asked, AskedTask):
        return mark(asked, given[(who.name, i, asked)])
    options = [given[(who.name, i, o)] for o in asked.options]
    letters = [given[(who.name, i, r)] for r in asked.rotations]
    return score(asked, options, letters)


def lora(who: Answering) -> LoRARequest | None:
    """The adapter for vLLM. It keeps loaded adapters by number, so the number has to be the adapter's own."""
    if who.adapter is None:
        return None
    number = int.from_bytes(hashlib.sha256(who.adapter.encode()).digest()[:4]) // 2 + 1
    return LoRARequest(who.name, number, who.adapter)


def requests_for(who: Answering, asked: Sequence[Ask]) -> Iterator[Request]:
    """All requests of a model's questions; those that share a prefix follow each other."""
    adapter = lora(who)
    for i, one in enumerate(asked):
        parts: tuple[Part, ...] = (one,) if isinstance(one, AskedTask) else (*one.options, *one.rotations)
        for part in parts:
            yield Request(tag=(who.name, i, part), ids=list(part.prompt), params=params(part), adapter=adapter)


def params(part: Part) -> SamplingParams:
    """How the engine is to answer one part of a question."""
    if isinstance(part, Option):
        return forcing(part.answer)
    if isinstance(part, Letters):
        return naming(part.letters)
    return SamplingParams(temperature=0, max_tokens=REPLY_TOKENS)


def forcing(answer: Sequence[int]) -> SamplingParams:
    """Emit exactly these tokens, and tell the log-probability of each."""
    return SamplingParams(
        temperature=0,
        max_tokens=len(answer),
        logprobs=0,
        ignore_eos=True,
        detokenize=False,
        extra_args={"forced": list(answer)},
    )


def naming(letters: Sequence[int]) -> SamplingParams:
    """Emit one token, and tell the log-probability of each letter."""
    return SamplingParams(
        temperature=0, max_tokens=1, ignore_eos=True, detokenize=False, logprob_token_ids=list(letters)
    )


def read(part: Part, output: Any) -> Any:
    """The log-probabilities (nats) that were asked for; the text of a reply."""
    if isinstance(part, AskedTask):
        return output.outputs[0].text
    given = output.outputs[0].logprobs
    if isinstance(part, Letters):
        return [given[0][token].logprob for token in part.letters]
    return [given[place][token].logprob for place, token in enumerate(part.answer)]


# ---- probes ----------------------------------------------------------------------------------------------------------


def probe(llm: Any, asked: Ask, who: Iterable[Answering]) -> None:
    """Asserts that adapters change the answers and that the base's stay the same beside them.

    Raises SilentError that names the adapter and the numbers.
    """
    base = Answering(name="base")
    alone = option_logprobs(llm, asked, [base])["base"]
    for group in chunks([w for w in who if w.adapter], MAX_ADAPTERS):
        together = option_logprobs(llm, asked, [base, *group])
        if not close(alone, together["base"], LEAK):
            raise SilentError(
                f"the base model scores {together['base']} beside adapters and {alone} alone: an adapter leaks into it"
            )
        for one in group:
            if close(alone, together[one.name], NOTHING):
                raise SilentError(f"adapter {one.name} ({one.adapter}) scores as its base, {alone}: it is not applied")


def option_logprobs(llm: Any, asked: Ask, who: Sequence[Answering]) -> dict[str, list[float]]:
    """Log-likelihoods of the options under several models in one batch."""
    rows = answers(llm, [(w, [asked]) for w in who])
    return {name: r[0]["option_logprobs"] for name, r in rows.items()}


def close(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    """Equal within a relative tolerance."""
    return all(abs(x - y) <= tolerance * max(1.0, abs(x)) for x, y in zip(a, b, strict=True))
