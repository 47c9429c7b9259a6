"""Lists the models, brings one here, or shows its shape and its parameter counts.

examples:
  python jobs/models.py list
  python jobs/models.py pull smollm2-135m
  python jobs/models.py show qwen2.5-7b
"""

import argparse
import logging
import sys

from cli import exit_status
from rich.console import Console
from rich.table import Table

from engine.models.architecture import n_params, n_params_lora, n_params_non_embedding
from engine.models.catalogue import KNOWN, Folder, Hub, Model, Registry, find
from engine.models.weights import pull, pulled

LORA_RANK = 16
GIB = 2**30


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the known models, and which are on this machine")
    for command, purpose in (("pull", "bring a model's weights here"), ("show", "a model's shape and counts")):
        one = commands.add_parser(command, help=purpose, description=f"For example: models.py {command} smollm2-135m")
        one.add_argument("name", help="a known name, a folder, or a hub id org/name[@revision]")
    return parser.parse_args()


def origin(model: Model) -> str:
    match model.source:
        case Hub(repo=repo):
            return f"hub: {repo}"
        case Registry(extra=extra):
            return f"package: engram\\[{extra}]"  # The backslash keeps rich from reading a style.
        case Folder(path=path):
            return f"folder: {path}"


def table_of_known_models() -> Table:
    table = Table("name", "params", "non-embedding", "license", "from", "here")
    for model in KNOWN.values():
        counts = (f"{count(model.architecture):,}" for count in (n_params, n_params_non_embedding))
        table.add_row(model.name, *counts, model.license, origin(model), "yes" if pulled(model) else "")
    return table


def table_of_one(model: Model) -> Table:
    shape, total = model.architecture, n_params(model.architecture)
    rows = {name: getattr(shape, name) for name in shape.__dataclass_fields__} | {
        "params": f"{total:,}",
        "non-embedding": f"{n_params_non_embedding(shape):,}",
        f"LoRA, rank {LORA_RANK}": f"{n_params_lora(shape, LORA_RANK):,}",
        "weights in float32": f"{4 * total / GIB:.2f} GiB",
        "weights in bfloat16": f"{2 * total / GIB:.2f} GiB",
        "revision": model.revision or "by content",
        "license": model.license or "unknown",
        "from": origin(model),
        "here": pulled(model) or "no",
    }
    table = Table(model.name, "")
    for row in rows.items():
        table.add_row(*map(str, row))
    return table


def run(arguments: argparse.Namespace, console: Console) -> None:
    match arguments.command:
        case "list":
            console.print(table_of_known_models())
        case "show":
            console.print(table_of_one(find(arguments.name)))
        case "pull":
            console.print(str(pull(find(arguments.name))), soft_wrap=True)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run(parse_arguments(), Console())
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
