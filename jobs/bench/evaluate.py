"""Evaluation's speed: many adapters on one engine against one engine per adapter, from process start to end.

The engine per adapter is ours, or lm-evaluation-harness with its vLLM backend.
"""

import argparse
import tempfile
from collections.abc import Sequence
from typing import Any

from bench import harness
from bench.contest import Bed, Measure, add_arguments, apart, bed, in_turns, medians, report, write
from engine import UserError
from engine.evaluation import questions
from engine.inference import settings
from engine.inference.settings import MAX_CONTEXT
from engine.news.items import NewsItem, load_news

N_ADAPTERS, RANK, ALPHA = 8, 16, 32
GOAL, TOLERANCE = 4.0, 1e-3

Rows = list[dict[str, Any]]


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    add_arguments(parser, repeat=1)
    parser.add_argument("--items", type=int, default=8, help="news items about events, 5 questions each (default: 8)")
    parser.add_argument(
        "--against", choices=list(CONTENDERS), default="ours", help="whose engine each adapter gets (default: ours)"
    )
    parser.add_argument(
        "--separate",
        type=int,
        default=N_ADAPTERS,
        metavar="N",
        help=f"run so many of the {N_ADAPTERS} engines apart, and scale their seconds to all (default: all)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes."""
    if not 1 <= args.separate <= N_ADAPTERS:
        raise UserError(f"--separate {args.separate}: from 1 to {N_ADAPTERS}")
    bed_ = bed(args.model, args.device)
    with tempfile.TemporaryDirectory() as folder:
        env = settings.environment(bed_.serving)
        adapters, _ = apart(make_adapters, bed_.folder, folder, env=env)
        separate = CONTENDERS[args.against]
        contenders = {
            "one engine": lambda: one_engine(bed_, adapters, args.items, env),
            "one engine per adapter": lambda: separate(bed_, adapters[: args.separate], args.items, env),
        }
        runs = in_turns(contenders, args.repeat)
    subject = f"{n_questions(args.items)} questions closed-book and in context, {N_ADAPTERS} adapters"
    if args.separate < N_ADAPTERS:
        subject += f"; {args.separate} run apart, scaled to {N_ADAPTERS}"
    subject += f", against {args.against}"
    measures = compare(runs)
    report(f"evaluate, {args.model}, {subject}", runs, ("seconds", "measured_s", "engines"), measures)
    write(args.out, {k: v for k, v in vars(args).items() if k != "run"}, bed_, runs, measures)
    return 0


def compare(runs: dict[str, list[dict[str, Any]]]) -> list[Measure]:
    """How many times faster, and how far apart the scores are."""
    seconds = medians(runs, "seconds")
    times = seconds["one engine per adapter"] / seconds["one engine"]
    together, separate = (runs[name][0] for name in ("one engine", "one engine per adapter"))
    measures = [
        Measure(what="seconds of one engine per adapter over one engine for all", value=times, goal=GOAL),
        Measure(what="questions that only one of them marks as right", value=n_different(together, separate)),
    ]
    if "scores" in separate:
        what = "largest difference of an option's log-likelihood (nats per token)"
        difference = largest_difference(together["scores"], separate["scores"])
        measures.append(Measure(what=what, value=difference, goal=TOLERANCE, at_most=True))
    return measures


def n_different(together: dict[str, Any], separate: dict[str, Any]) -> int:
    """Over the adapters that were asked both ways: to how many questions one answer is right and the other is not."""
    pairs = [
        pair
        for name in separate["right"]
        for pair in zip(together["right"][name], separate["right"][name], strict=True)
    ]
    return sum(a != b for a, b in pairs)


def largest_difference(together: dict[str, Rows], apart_: dict[str, Rows]) -> float:
    """Over the adapters that were scored both ways."""
    pairs = [pair for name in apart_ for pair in zip(together[name], apart_[name], strict=True)]
    return max(
        abs(float(a) - float(b)) / int(n)
        for one, other in pairs
        for a, b, n in zip(one["option_logprobs"], other["option_logprobs"], one["option_tokens"], strict=True)
    )


def one_engine(bed_: Bed, adapters: Sequence[str], n_items: int, env: dict[str, str]) -> dict[str, Any]:
    """All adapters in one process."""
    scores, seconds = apart(score, bed_, adapters, n_items, env=env)
    return {"seconds": seconds, "measured_s": seconds, "engines": 1, "scores": scores, "right": right(scores)}


def many_engines(bed_: Bed, adapters: Sequence[str], n_items: int, env: dict[str, str]) -> dict[str, Any]:
    """A process for each adapter, one after the other; seconds scaled to all adapters."""
    parts = [apart(score, bed_, [adapter], n_items, env=env) for adapter in adapters]
    measured = sum(seconds for _, seconds in parts)
    scores = {name: rows for scores, _ in parts for name, rows in scores.items()}
    return {**scaled(measured, len(adapters)), "scores": scores, "right": right(scores)}


def harness_engines(bed_: Bed, adapters: Sequence[str], n_items: int, env: dict[str, str]) -> dict[str, Any]:
    """A process of lm-evaluation-harness for each adapter, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [apart(harness.score, bed_, adapter, RANK, chosen(n_items), folder, env=env) for adapter in adapters]
    answers = {adapter: answered for adapter, (answered, _) in zip(adapters, parts, strict=True)}
    return {**scaled(sum(seconds for _, seconds in parts), len(adapters)), "right": answers}


def scaled(measured: float, engines: int) -> dict[str, Any]:
    """Seconds of so many engines, scaled to all adapters."""
    return {"seconds": measured * N_ADAPTERS / engines, "measured_s": measured, "engines": engines}


def right(scores: dict[str, Rows]) -> dict[str, list[bool]]:
    """By adapter, which questions it answered right."""
    return {name: [row["correct"] for row in rows] for name, rows in scores.items()}


CONTENDERS = {"ours": many_engines, "lm-eval": harness_engines}


# ---- in processes of their own ---------------------------------------------------------------------------------------


def chosen(n_items: int) -> list[NewsItem]:
    """The first items about events."""
    return [item for item in load_news() if item.domain == "events"][:n_items]


def n_questions(n_items: int) -> int:
    """Questions of the chosen items."""
    return sum(len(item.questions) for item in chosen(n_items))


def score(bed_: Bed, adapters: Sequence[str], n_items: int) -> dict[str, Rows]:
    """Scores of the adapters on one engine: the same code for one of them and for all."""
    from engine.evaluation import likelihood

    # An engine for one adapter has to pay for the places of one only.
    llm = likelihood.start(bed_.folder, bed_.serving, bed_.precision, MAX_CONTEXT, RANK, n_adapters=len(adapters))
    asked = list(questions.ask_all(llm.get_tokenizer(), chosen(n_items), (questions.CHOICE.name,)))
    kept = ("option_logprobs", "option_tokens", "correct")
    work = [(likelihood.Answerer(name=adapter, adapter=adapter), asked) for adapter in adapters]
    [by_adapter] = likelihood.answer_all(llm, work)
    return {name: [{k: row[k] for k in kept} for row in rows] for name, rows in by_adapter.items()}


def make_adapters(model_folder: str, folder: str) -> list[str]:
    """Saves small random adapters of the shape that fine-tuning gives; gives their folders."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32), config)
    paths = [f"{folder}/adapter{i}" for i in range(N_ADAPTERS)]
    for seed, path in enumerate(paths):
        randomise(model, seed)
        model.save_pretrained(path)
    return paths


def randomise(model: Any, seed: int) -> None:
    """Adapters that change the weights by some percent."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.04 if "lora_A" in name else 0.01)
