"""The studies that ship. Each is a function that returns a `Study`; a variant calls another and changes fields.

python jobs/grid.py --study quickstart
python jobs/grid.py --study my_study.py:mine
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

from engine import UserError
from engine.news.items import DOMAINS
from engine.planning import checks
from engine.study import Sampling, Study, Training, grid

PROTOCOLS = ("naive", "paraphrase", "implication", "self_qa")


def quickstart() -> Study:
    """The paper's questions in miniature, on a laptop: 135M parameters, two domains, six plainly worded items."""
    cells = partial(
        grid,
        trainees=["smollm2-135m"],
        budgets=[4],
        # A small model wanders off at high temperature; in so few steps LoRA learns at a high learning rate only.
        sampling=Sampling(temperature=0.4, max_tokens=128),
        training=Training(learning_rate=1e-3, epochs=4, batch_size=4),
        forms=("choice",),  # a model of this size answers the others at random, and they take time
    )
    arms = cells(domains=["events", "discoveries"], protocols=PROTOCOLS)
    shadow = cells(domains=["events"], protocols=["implication"], context_modes=["prefix"])
    plain = str(files("engine.news") / "shipped" / "quickstart.jsonl")  # a model of this size answers few of the others
    return Study(name="quickstart", trials=arms + shadow, news=plain)


def qwen_small() -> Study:
    """Two real Qwen2.5 sizes whose weights come with registry packages: real on a small machine, in hours."""
    trials = grid(
        trainees=["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"],
        domains=DOMAINS,
        protocols=PROTOCOLS,
        budgets=[8],
        sampling=Sampling(temperature=0.7),
        training=Training(learning_rate=5e-4, epochs=4),
        forms=("choice", "statement", "task"),
    )
    return Study(name="qwen-small", trials=trials, n_items=4)


def newnews() -> Study:
    """The grid of the paper: Qwen2.5 from 0.5B to 72B, all protocols and their shadowing arms."""
    cells = partial(
        grid,
        trainees=[f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")],
        domains=DOMAINS,
        protocols=PROTOCOLS,
        precision="bfloat16",
        training=Training(learning_rate=2e-4, epochs=1),
    )
    arms = cells(budgets=[16, 64, 256, 1024], seeds=[0, 1, 2])
    return Study(name="newnews", trials=arms + cells(budgets=[256], context_modes=["prefix", "prefix_loss"]))


STUDIES: dict[str, Callable[[], Study]] = {"quickstart": quickstart, "qwen-small": qwen_small, "newnews": newnews}


def load(name: str) -> Study:
    """A shipped study by name, or a user's own as `file.py:function`. Raises UserError that says what is wrong."""
    if ".py:" in name:
        return own(*name.rsplit(":", 1))
    if name not in STUDIES:
        raise UserError(f"unknown study {name!r}; known: {', '.join(STUDIES)}, or a file of your own: my_study.py:name")
    return STUDIES[name]()


def own(file: str, function: str) -> Study:
    """Runs a user's file, which may also register protocols, and calls the function in it."""
    path = Path(file).resolve()
    if not path.is_file():
        raise UserError(f"no study file {file!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    study = getattr(module, function, lambda: None)()
    if not isinstance(study, Study):
        raise UserError(f"{file}: {function!r} is not a function that returns a Study")
    checks.refuse_unreadable(study)
    return replace(study, news=study.news and str((path.parent / study.news).resolve()))
