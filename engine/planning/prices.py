"""What remains of a study by phase, in hours of a device: of a GPU, or of a machine without one.

Each pool counts once, however many trials learn from it. Starts of processes and loads of weights are counted; what
waits for a free device is not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from engine.cluster.machines import Device, ServingPlacement
from engine.evaluation import questions
from engine.evaluation.questions import Option, Reply
from engine.models import catalogue
from engine.models.architecture import n_params
from engine.models.arithmetic import BYTES, forward_flops
from engine.news.items import NewsItem
from engine.planning.estimate import (
    CHARS_PER_TOKEN,
    CHAT_TOKENS,
    ELEMENT_TOKENS,
    START_S,
    load_seconds,
    news_tokens,
    nominal_flops,
)
from engine.storage.records import Planned
from engine.study import Precision

DECODING_SLOWDOWN = 3.0  # of writing token by token, against the operations per second of training
ENGINE_START_S: dict[Device, float] = {"cpu": 20.0, "gpu": 90.0}
REQUEST_S: dict[Device, float] = {"cpu": 0.0, "gpu": 0.002}  # of vLLM's own work per request


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseCost:
    """What one phase of a study will take: hours of a device (of a GPU, or of a machine without), and what of it."""

    phase: str
    hours: float
    basis: str


def price_phases(planned: Sequence[Planned]) -> list[PhaseCost]:
    """What remains of a study, by phase: each pool once, each trial that is not trained, each that is not scored."""
    unscored = [p for p in planned if p.state not in ("done", "stale", "damaged")]
    untrained = [p for p in unscored if p.state != "trained"]
    return [price_selfplay(planned, untrained), price_training(untrained), price_evaluation(unscored)]


def price_selfplay(planned: Sequence[Planned], untrained: Sequence[Planned]) -> PhaseCost:
    """The pools that untrained trials need, without what trained ones had written; one engine start per generator."""
    written, needed = most_per_pool(p for p in planned if p.state in ("trained", "done")), most_per_pool(untrained)
    missing = {n: p for n, p in needed.items() if flops_of(p) > flops_of(written.get(n))}
    writing = sum((flops_of(p) - flops_of(written.get(n))) * DECODING_SLOWDOWN for n, p in missing.items())
    engines = {(p.trial.writer, p.trial.precision): p for p in missing.values()}
    place = planned[0].writing
    seconds = writing / nominal_flops(place.device, place.threads, place.accelerator)
    starts = sum(engine_start(p.trial.writer, p.trial.precision, p.writing) for p in engines.values())
    return PhaseCost(
        phase="self-play",
        hours=(seconds + starts) / 3600,
        basis=f"{len(missing)} pools; {len(engines)} engine starts, {starts / 3600:.1f} h",
    )


def most_per_pool(planned: Iterable[Planned]) -> dict[str, Planned]:
    """Of each pool that is generated, the trial that needs most of it."""
    most: dict[str, Planned] = {}
    for p in planned:
        if flops_of(p) > flops_of(most.get(p.trial.pool)):
            most[p.trial.pool] = p
    return most


def flops_of(p: Planned | None) -> float:
    return p.estimate.selfplay_flops if p else 0.0


def price_training(untrained: Sequence[Planned]) -> PhaseCost:
    """All fine-tunes, with a start of processes and a load of weights for each."""
    device_seconds = sum(p.estimate.seconds * p.training.n_workers for p in untrained)
    starts = sum(
        (START_S + load_seconds(weight_bytes(p.trial.trainee, p.trial.precision), p.training.device, 1))
        * p.training.n_workers
        for p in untrained
    )
    basis = f"{len(untrained)} trials; starts and loading of weights {starts / 3600:.1f} h"
    return PhaseCost(phase="fine-tune", hours=device_seconds / 3600, basis=basis)


def price_evaluation(unscored: Sequence[Planned]) -> PhaseCost:
    """All that is asked of the trials and of their bases, once per trainee and domain; one engine start per base.

    A fully fine-tuned model needs an engine of its own.
    """
    bases = {(p.trial.trainee, p.trial.precision, p.trial.domain, p.trial.forms): p for p in unscored}
    asked = [*unscored, *bases.values()]
    engines = {(p.trial.trainee, p.trial.precision): p for p in unscored}
    own = [p for p in unscored if p.trial.training.method == "full"]
    starts = sum(engine_start(p.trial.trainee, p.trial.precision, p.serving) for p in [*engines.values(), *own])
    hours = (sum(ask_seconds(p) for p in asked) + starts) / 3600
    requests = sum(count_asked(p.items, p.trial.forms)[0] for p in asked)
    basis = f"{requests:,} requests; {len(engines) + len(own)} engine starts, {starts / 3600:.1f} h"
    return PhaseCost(phase="evaluate", hours=hours, basis=basis)


def ask_seconds(p: Planned) -> float:
    """Device seconds of asking one model all that a trial asks."""
    requests, tokens = count_asked(p.items, p.trial.forms)
    arch, device = catalogue.find(p.trial.trainee).architecture, p.serving.device
    speed = nominal_flops(device, p.serving.threads, p.serving.accelerator)
    arithmetic = forward_flops(arch, CHAT_TOKENS + news_tokens(p.items)) * tokens / speed
    return arithmetic + requests * REQUEST_S[device] * p.serving.tensor_parallel


def engine_start(model: str, precision: Precision, serving: ServingPlacement) -> float:
    """Device seconds until vLLM answers."""
    loading = load_seconds(weight_bytes(model, precision), serving.device, serving.tensor_parallel)
    return (ENGINE_START_S[serving.device] + loading) * serving.tensor_parallel


def weight_bytes(model: str, precision: Precision) -> float:
    """Bytes of a model's weights."""
    return float(n_params(catalogue.find(model).architecture) * BYTES[precision])


@cache
def count_asked(items: tuple[NewsItem, ...], forms: tuple[str, ...]) -> tuple[int, float]:
    """Requests of one model's evaluation, and their tokens; a prompt counts once for all of its options."""
    parts = [asked.parts for asked in questions.ask_all(Lengths(), items, forms)]
    prompts = sum(len(prompt) for of_one in parts for prompt in {part.prompt for part in of_one})
    answers = sum(len(part.answer) for of_one in parts for part in of_one if isinstance(part, Option))
    replies = sum(isinstance(part, Reply) for of_one in parts for part in of_one)
    return sum(map(len, parts)), prompts + answers + replies * ELEMENT_TOKENS * DECODING_SLOWDOWN


class Lengths:
    """In place of a tokenizer: a text becomes about as many tokens, of which the first is the text's own."""

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **_: object) -> str:
        return messages[0]["content"] + " " * int(CHAT_TOKENS * CHARS_PER_TOKEN)

    def encode(self, text: str, **_: object) -> list[int]:
        return [hash(text)] + [0] * int(len(text) / CHARS_PER_TOKEN)
