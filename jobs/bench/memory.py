"""Memory and speed of training steps on a GPU against the plan's: models of true shapes with random weights."""

import argparse
import tempfile
from dataclasses import replace
from typing import Any

from bench import finetune
from bench.contest import Bed, Measure, apart, at_least_one, bed, medians, report, write
from engine import UserError
from engine.cluster.machines import GIB
from engine.inference.chat import Element
from engine.models import catalogue
from engine.models.architecture import Architecture
from engine.news.items import load_news
from engine.selfplay import protocols
from engine.training.job import environment

MODELS = ("qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-7b")
TOKENIZER = "smollm2-135m"  # whose ids all of these models have
STEPS, BATCH_SIZE = 4, 8
MOST = 1.0  # of what was planned


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help=f"(default: {' '.join(MODELS)})")
    parser.add_argument(
        "--steps", type=at_least_one, default=STEPS, help="the first is not timed (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes. Raises UserError where there is no GPU."""
    here = bed(TOKENIZER, None)
    if here.serving.device == "cpu":
        raise UserError("this machine has no GPU: memory is measured on one")
    runs = {name: [measure(here, name, args.steps)] for name in args.models}
    peak, planned = medians(runs, "peak_gib"), medians(runs, "planned_gib")
    measures = [
        Measure(what=f"{name}: peak memory over planned", value=peak[name] / planned[name], goal=MOST, at_most=True)
        for name in runs
    ]
    report(f"memory, LoRA, steps of {BATCH_SIZE} elements", runs, ("tokens_s", "peak_gib", "planned_gib"), measures)
    write(args.out, {"models": list(args.models), "steps": args.steps}, here, runs, measures)
    return int(any(one.verdict == "MISSED" for one in measures))


def measure(here: Bed, name: str, steps: int) -> dict[str, Any]:
    """A few steps of one model, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        apart(make_model, catalogue.find(name).architecture, here.folder, folder, here.precision, env={})
        job = finetune.make_job(replace(here, name=folder, folder=folder), BATCH_SIZE)
        (result, peak), _ = apart(peak_of, job, steps, env=environment(job.placement))
    return result | {"peak_gib": peak, "planned_gib": job.placement.memory_gib}


# ---- in processes of their own ---------------------------------------------------------------------------------------


def make_model(arch: Architecture, tokenizer: str, folder: str, precision: str) -> None:
    """Writes a model of this shape with random weights, and a tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**arch.to_config()), dtype=precision)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def peak_of(job: Any, steps: int) -> tuple[dict[str, Any], float]:
    """What `finetune.ours` measures on the longest elements there are, and the most memory that it took (GiB)."""
    import torch

    longest = sorted(load_news(), key=lambda item: -len(item.text))[: BATCH_SIZE * steps]
    mixed = [Element(user=protocols.TELL, assistant=item.text) for item in longest]
    return finetune.ours(job, mixed, steps), torch.cuda.max_memory_allocated() / GIB
