"""General ability on public benchmarks, by lm-evaluation-harness (extra `harness`), whose tasks need a hub.

    python jobs/harness.py qwen2.5-0.5b --adapter runs/newnews/trials/KEY/adapter

The shipped questions of `engine.news.general` need neither.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from engine import UserError
from engine.cluster.machines import Device
from engine.evaluation.intact import CONFIG, WEIGHTS
from engine.inference.settings import served_rank
from engine.models import catalogue, hub, weights
from engine.study import Precision

TASKS = ("mmlu_pro", "gsm8k", "ifeval")


class HarnessError(UserError):
    """The harness cannot be run here; the message says what to do."""


def command(
    model: str, adapter: str | None, tasks: Sequence[str], device: Device, precision: Precision, out: str
) -> list[str]:
    """The command line of the harness: vLLM on a GPU, transformers on a CPU (its vLLM backend knows no CPU)."""
    folder = weights.pull(catalogue.find(model))
    arguments = {"pretrained": str(folder), "dtype": precision}
    if adapter and device == "gpu":
        arguments |= {"lora_local_path": adapter, "max_lora_rank": str(served_rank(lora_rank(adapter)))}
    elif adapter:
        arguments |= {"peft": adapter}
    backend = ["--model", "vllm"] if device == "gpu" else ["--model", "hf", "--device", "cpu"]
    model_args = ",".join(f"{name}={value}" for name, value in arguments.items())
    where = ["--model_args", model_args, "--tasks", ",".join(tasks), "--apply_chat_template", "--output_path", out]
    return [sys.executable, "-m", "lm_eval", "run", *backend, *where]


def lora_rank(adapter: str) -> int:
    """The rank that a PEFT adapter was trained with. Raises HarnessError if the folder holds none as safetensors."""
    for name in (CONFIG, WEIGHTS):
        if not (Path(adapter) / name).is_file():
            raise HarnessError(f"{adapter}: no {name} in it; give the folder of a PEFT adapter")
    file = Path(adapter) / CONFIG
    try:
        return int(json.loads(file.read_bytes())["r"])
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{file}: no LoRA rank `r` can be read from it ({error!r})") from error


def check(adapter: str | None, tasks: Sequence[str], own_tasks: bool) -> None:
    """Raises HarnessError if anything is missing, before a model is loaded."""
    if adapter:
        lora_rank(adapter)
    if find_spec("lm_eval") is None:
        raise HarnessError("lm-evaluation-harness is not installed; install the extra: pip install -e '.[harness]'")
    if not own_tasks and not hub.is_reachable():
        raise HarnessError(
            f"no hub can be reached, and {', '.join(tasks)} load their questions from there; the shipped questions "
            'of general ability need no hub: every study whose `forms` name "general" asks them'
        )


def run(line: Sequence[str]) -> int:
    """Runs the harness; its exit status."""
    return subprocess.run(line, check=False).returncode
