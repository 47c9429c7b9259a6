"""Are the numbers right on this device? Training and scoring in bfloat16 here, against float32 on the CPU.

Training is compared with bfloat16 on the CPU, too: in that precision the model itself learns a little more slowly.
Trained are LoRA adapters on the shipped news, scored are options of its questions: by transformers on the CPU, by the
engine's own paths on the device.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench import finetune
from bench.contest import Bed, Measure, apart, bed, report, write
from bench.evaluate import RANK, chosen, make_adapters
from engine.evaluation import questions
from engine.evaluation.questions import Option
from engine.inference import settings
from engine.inference.settings import MAX_CONTEXT
from engine.study import Precision
from engine.training.job import environment

STEPS, BATCH_SIZE, N_ITEMS = 20, 8, 2
LEARNING_RATE = 1e-4  # at the default, ten times as much, the loss jumps by nats, and rounding decides how far
# Nats: how far losses may be from those on the CPU, in a step and on average. Those in float32 were 0.36 and 0.10 from
# those in bfloat16 on a CPU, in plain torch, too, and with adapters in float32, too.
BOUNDS: dict[Precision, tuple[float, float]] = {"bfloat16": (0.12, 1.5e-2), "float32": (0.5, 0.15)}
OPTION = 0.1  # nats per token: how far an option's log-likelihood may be
CHANGE = 0.1  # nats: by how much an adapter has to change some option's log-likelihood, at least


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    parser.add_argument("--model", default="smollm2-135m", help="(default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu where there is one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes."""
    here = replace(bed(args.model, args.device), precision="bfloat16")
    there = replace(bed(args.model, "cpu"), precision="float32")
    mine, losses = train(here), {precision: train(replace(there, precision=precision)) for precision in BOUNDS}
    with tempfile.TemporaryDirectory() as folder:
        adapters, _ = apart(make_adapters, there.folder, folder, env={})
        scores, _ = apart(score_by_vllm, here, adapters[0], env=settings.environment(here.serving))
        expected, _ = apart(score_by_transformers, there, adapters[0], env={})
    measures = [one for precision in BOUNDS for one in compare_losses(mine, losses[precision], precision)]
    measures += compare_scores(scores, expected)
    named = {"bfloat16 here": mine} | {f"{precision} on the CPU": of_it for precision, of_it in losses.items()}
    runs = {name: [{"first_loss": of_it[0], "last_loss": of_it[-1]}] for name, of_it in named.items()}
    report(f"parity, {args.model}, {here.serving.device}", runs, ("first_loss", "last_loss"), measures)
    write(args.out, {"model": args.model, "device": args.device}, here, runs, measures)
    return int(any(one.verdict == "MISSED" for one in measures))


def compare_losses(here: Sequence[float], there: Sequence[float], precision: Precision) -> list[Measure]:
    """Step by step, and on average, with the CPU's in a precision."""
    step_bound, mean_bound = BOUNDS[precision]
    differences = [a - b for a, b in zip(here, there, strict=True)]
    largest, mean = max(map(abs, differences)), abs(sum(differences)) / len(differences)
    return [
        Measure(what=f"from {precision}: a step's loss (nats)", value=largest, goal=step_bound, at_most=True),
        Measure(what=f"from {precision}: the mean loss (nats)", value=mean, goal=mean_bound, at_most=True),
    ]


def compare_scores(here: dict[str, list[float]], there: dict[str, list[float]]) -> list[Measure]:
    """Option by option, per token, for the base and its adapter; and what the adapter changes here."""
    n_tokens = there.pop("tokens")
    differences = {
        name: max(abs(a - b) / n for a, b, n in zip(here[name], there[name], n_tokens, strict=True)) for name in there
    }
    measures = [
        Measure(what=f"{name}: an option (nats per token)", value=value, goal=OPTION, at_most=True)
        for name, value in differences.items()
    ]
    change = max(abs(a - b) for a, b in zip(here["base"], here["adapter"], strict=True))
    return [*measures, Measure(what="what the adapter changes, at most (nats)", value=change, goal=CHANGE)]


# ---- training --------------------------------------------------------------------------------------------------------


def train(bed_: Bed) -> list[float]:
    """Losses of some steps."""
    job = finetune.make_job(bed_, BATCH_SIZE)
    gently = replace(job.trial, training=replace(job.trial.training, learning_rate=LEARNING_RATE))
    job = replace(job, trial=gently)
    mixed = finetune.whole_batches(finetune.elements(None), BATCH_SIZE)
    result = finetune.only(finetune.ours, job, mixed, STEPS, environment(job.placement))
    return [float(loss) for loss in result["losses"]]


# ---- scoring, in processes of their own ------------------------------------------------------------------------------


def score_by_vllm(bed_: Bed, adapter: str) -> dict[str, list[float]]:
    """Log-likelihoods (nats) of all options, of the base and of its adapter beside it."""
    from engine.evaluation import likelihood

    llm = likelihood.start(bed_.folder, bed_.serving, bed_.precision, MAX_CONTEXT, RANK, n_adapters=1)
    asked = list(questions.ask_all(llm.get_tokenizer(), chosen(N_ITEMS), (questions.CHOICE.name,)))
    models = (likelihood.BASE, likelihood.Answerer(name="adapter", adapter=adapter))
    [rows] = likelihood.answer_all(llm, [(model, asked) for model in models])
    return {name: [score for row in mine for score in row["option_logprobs"]] for name, mine in rows.items()}


def score_by_transformers(bed_: Bed, adapter: str) -> dict[str, list[float]]:
    """The same, one option after the other, without any of the engine's code; and the tokens of each option."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bed_.folder)
    asked = questions.ask_all(tokenizer, chosen(N_ITEMS), (questions.CHOICE.name,))
    parts = [part for one in asked for part in one.parts if isinstance(part, Option)]
    base: Any = AutoModelForCausalLM.from_pretrained(bed_.folder, dtype=bed_.precision)
    scores = {"base": [log_likelihood(base, part) for part in parts]}
    tuned = PeftModel.from_pretrained(base, adapter)
    scores["adapter"] = [log_likelihood(tuned, part) for part in parts]
    return scores | {"tokens": [float(len(part.answer)) for part in parts]}


def log_likelihood(model: Any, part: Option) -> float:
    """Summed log-probability (nats) of an option's tokens after its prompt."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([[*part.prompt, *part.answer]])).logits[0, len(part.prompt) - 1 : -1]
    chosen_ = logits.log_softmax(-1)[torch.arange(len(part.answer)), torch.tensor(part.answer)]
    return float(chosen_.sum())
