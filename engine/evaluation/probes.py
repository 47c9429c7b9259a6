"""Can an engine's scores be believed? vLLM has been seen to give wrong numbers without an error.

An adapter has to change the scores of its model, and must not change those of its base beside it. What counts as a
change is measured: the base's own scores differ a little with what else is in its batch, in bfloat16 more.
"""

import math
from collections.abc import Iterable, Sequence

from vllm import LLM

from engine.evaluation import marks
from engine.evaluation.likelihood import BASE, MAX_ADAPTERS, Answerer, adapter_request, answer_group, chunks
from engine.evaluation.questions import Asked, Option

Scores = Sequence[float]  # log-likelihoods (nats) of all options of some questions
N_QUESTIONS = 4  # that are asked as a probe
TIMES = 5.0  # the noise: what is more is no noise
# Nats. A leak changes the base's scores by much more, training its model's by much more than the other.
LEAK_FLOOR, CHANGE_FLOOR = 1e-2, 1e-5


class SilentError(Exception):
    """The engine gives numbers that cannot be right."""


def probe(llm: LLM, asked: Sequence[Asked], who: Iterable[Answerer]) -> dict[str, str]:
    """What is wrong with adapters, by name: refused by the engine, not applied, or applied to the base beside them.

    `asked`: questions, of which a few are used. Raises SilentError, with the numbers, if the fault is in
    no adapter.
    """
    asked, models = choices(asked)[:N_QUESTIONS], list(who)
    faults = {one.name: fault for one in models if (fault := refusal(llm, one))}
    alone = option_logprobs(llm, asked, [BASE])[BASE.name]
    noise = distance(alone, [score for one in asked for score in option_logprobs(llm, [one], [BASE])[BASE.name]])
    for group in chunks([one for one in models if one.name not in faults], MAX_ADAPTERS):
        faults |= probe_group(llm, asked, group, alone, noise)
    return faults


def choices(asked: Sequence[Asked]) -> list[Asked]:
    """The questions that are asked by the log-likelihoods of their options."""
    return [one for one in asked if all(isinstance(part, Option) for part in one.parts)]


def refusal(llm: LLM, one: Answerer) -> str | None:
    """Why the engine does not load an adapter, or None. Asked apart, since one that fails in a batch ends them all."""
    try:
        if request := adapter_request(one):
            llm.llm_engine.add_lora(request)
    except Exception as error:  # of any kind: vLLM's loaders raise what they meet
        return f"{one.adapter}: the engine does not load it: {error}"
    return None


def probe_group(
    llm: LLM, asked: Sequence[Asked], group: Sequence[Answerer], alone: Scores, noise: float
) -> dict[str, str]:
    """Faults of adapters that are asked in one batch with their base, which scores `alone` without them."""
    together = option_logprobs(llm, asked, [BASE, *group])
    if not distance(alone, together[BASE.name]) <= LEAK_FLOOR + TIMES * noise:
        return find_leaks(llm, asked, group, alone, together[BASE.name], noise)
    return {one.name: fault for one in group if (fault := why_useless(one, together[one.name], alone, noise))}


def why_useless(one: Answerer, scores: Scores, alone: Scores, noise: float) -> str | None:
    """What is wrong with an adapter's scores, compared with its base's alone; None if they can be believed."""
    if not all(map(math.isfinite, scores)):
        return marks.name_divergence(marks.NOT_FINITE)
    if distance(alone, scores) <= CHANGE_FLOOR + TIMES * noise:
        return f"{one.adapter}: it scores as its base, {list(alone)}: the engine does not apply it"
    return None


def find_leaks(
    llm: LLM, asked: Sequence[Asked], group: Sequence[Answerer], alone: Scores, beside: Scores, noise: float
) -> dict[str, str]:
    """Which adapters change their base's scores (from `alone` to `beside`), with what is wrong with the others."""
    what = f"the base model scores {list(beside)} beside it and {list(alone)} alone: it leaks into its base"
    if len(group) == 1:
        return {group[0].name: f"{group[0].adapter}: {what}"}
    apart = [probe_group(llm, asked, [one], alone, noise) for one in group]
    faults = {name: fault for found in apart for name, fault in found.items()}
    sound = [one for one in group if one.name not in faults]
    if len(sound) == len(group):
        raise SilentError(f"{what}, and it is not one of {len(group)} adapters ({group[0].name}, …) that does it alone")
    return faults | probe_group(llm, asked, sound, alone, noise) if sound else faults


def option_logprobs(llm: LLM, asked: Sequence[Asked], who: Sequence[Answerer]) -> dict[str, list[float]]:
    """Log-likelihoods of the options of all questions under several models, in one batch."""
    rows = answer_group(llm, [(w, asked) for w in who])
    return {name: [score for row in mine for score in row["option_logprobs"]] for name, mine in rows.items()}


def distance(a: Scores, b: Scores) -> float:
    """The largest difference of two scores; NaN if one is not a number."""
    differences = [abs(x - y) for x, y in zip(a, b, strict=True)]
    return math.nan if any(map(math.isnan, differences)) else max(differences)
