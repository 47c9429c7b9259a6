"""Are a trial's weights those that training wrote, and can an engine be given them?

An engine that meets one damaged adapter ends with all others of its base. So each is checked by itself before.
"""

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from engine.inference.settings import served_rank
from engine.models import catalogue
from engine.models.architecture import linear_shapes, n_params_lora
from engine.storage.digests import find_damage
from engine.storage.ledger import Ledger
from engine.storage.records import Planned

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # of an adapter, as PEFT names them


class Damaged(Exception):
    """Weights that are not whole; the message names the file. Only training them again helps."""


def find_weights(p: Planned, ledger: Ledger, scratch: str) -> str:
    """A local folder with a trial's weights, checked. Raises Damaged, UserError, OSError."""
    written = ledger.trained(p.trial.key).weight_files
    try:
        folder = Path(ledger.weights(p.trial, scratch))
    except FileNotFoundError as missing:
        raise Damaged(f"{missing}: missing") from missing
    if damage := find_damage(folder, written):
        raise Damaged(damage)
    for file in sorted(folder.glob("*.safetensors")):
        check_values(file)
    if p.trial.training.method == "lora":
        check_adapter(p, folder)
    return str(folder)


def check_values(file: Path) -> None:
    """Raises Damaged if a safetensors file cannot be read or a value is not finite."""
    try:
        with safe_open(file, framework="pt") as stored:
            names = stored.keys()
            wrong = [name for name in names if not stored.get_tensor(name).isfinite().all()]
    except SafetensorError as error:
        raise Damaged(f"{file}: not readable as safetensors ({error})") from error
    if wrong:
        raise Damaged(f"{file}: {wrong[0]} has values that are not finite")


def check_adapter(p: Planned, folder: Path) -> None:
    """Raises Damaged for an adapter not of the trial's rank on all linear layers, UserError if vLLM serves no such."""
    rank, arch = p.trial.training.lora_rank, catalogue.find(p.trial.trainee).architecture
    served_rank(rank)
    config = read_config(folder / CONFIG)
    layers = {str(module).rpartition(".")[2].removesuffix("_proj") for module in config.get("target_modules") or ()}
    found, expected = (config.get("peft_type"), config.get("r"), layers), ("LORA", rank, set(linear_shapes(arch)))
    if found != expected:
        raise Damaged(f"{folder / CONFIG}: type, rank and layers are {found}, not {expected}")
    if (n := count_values(folder / WEIGHTS)) != (wanted := n_params_lora(arch, rank)):
        raise Damaged(f"{folder / WEIGHTS}: {n:,} values, not the {wanted:,} of rank {rank}")


def count_values(file: Path) -> int:
    """How many numbers a safetensors file holds."""
    with safe_open(file, framework="pt") as stored:
        names = stored.keys()
        return sum(math.prod(stored.get_slice(name).get_shape()) for name in names)


def read_config(file: Path) -> dict[str, Any]:
    """An adapter's settings. Raises Damaged if they are not there or no JSON object."""
    try:
        config = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise Damaged(f"{file}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise Damaged(f"{file}: not a JSON object")
    return config
