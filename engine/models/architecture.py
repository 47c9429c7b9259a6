"""The shape of a decoder, and the exact parameter counts that follow from it.

    from engine.models.architecture import Architecture, n_params
    n_params(Architecture.from_config(json.load(open("config.json")), "config.json"))

The counts need no weights, so that the cost of a study is known before anything is downloaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from engine import UserError

Family = Literal["qwen2", "llama"]


class ModelError(UserError):
    """A model that cannot be found, read, verified or downloaded. The message is one line for the user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """The numbers that define the shape of a decoder. `max_context` is in tokens, the sizes are in units (neurons)."""

    family: Family
    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_context: int
    tied_embeddings: bool
    qkv_bias: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any], file: str | Path) -> "Architecture":
        """Makes it from a Hugging Face config.json. `file` only names the source in errors.

        Raises ModelError for another family, for a bias that the counts do not include, and for a missing key.
        """
        _require_known_family(config, file)
        try:
            return cls._from_known_family(config)
        except KeyError as missing:
            raise ModelError(f"{file}: {missing} is missing") from missing

    @classmethod
    def _from_known_family(cls, config: Mapping[str, Any]) -> "Architecture":
        n_heads, hidden_size = config["num_attention_heads"], config["hidden_size"]
        return cls(
            family=config["model_type"],
            vocab_size=config["vocab_size"],
            hidden_size=hidden_size,
            n_layers=config["num_hidden_layers"],
            n_heads=n_heads,
            n_kv_heads=config.get("num_key_value_heads") or n_heads,
            head_dim=config.get("head_dim") or hidden_size // n_heads,
            intermediate_size=config["intermediate_size"],
            max_context=config["max_position_embeddings"],
            tied_embeddings=config.get("tie_word_embeddings", False),
            qkv_bias=config["model_type"] == "qwen2",
        )

    def to_config(self) -> dict[str, Any]:
        """What `transformers.AutoConfig.for_model` takes."""
        return {
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_context,
            "tie_word_embeddings": self.tied_embeddings,
        }


def _require_known_family(config: Mapping[str, Any], file: str | Path) -> None:
    family = config.get("model_type")
    if family not in get_args(Family):
        raise ModelError(f"{file}: model_type {family!r} is not supported; supported are {', '.join(get_args(Family))}")
    for bias in ("attention_bias", "mlp_bias"):
        # With a bias on the output projection or in the feed-forward, every count below would be wrong.
        if family == "llama" and config.get(bias):
            raise ModelError(f"{file}: {bias} {config[bias]!r} is not supported for the llama family")


def linear_shapes(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each linear layer of one block: q, k, v, o, gate, up, down."""
    a = architecture
    queries, keys = a.n_heads * a.head_dim, a.n_kv_heads * a.head_dim
    return {
        "q": (a.hidden_size, queries),
        "k": (a.hidden_size, keys),
        "v": (a.hidden_size, keys),
        "o": (queries, a.hidden_size),
        "gate": (a.hidden_size, a.intermediate_size),
        "up": (a.hidden_size, a.intermediate_size),
        "down": (a.intermediate_size, a.hidden_size),
    }


def n_params_non_embedding(architecture: Architecture) -> int:
    """Parameters of the blocks (weights, biases, norms) and of the last norm: the convention of Qwen's model cards.

    Not counted: the input embedding and, where it is a matrix of its own (untied), the output head.
    """
    shapes = linear_shapes(architecture)
    weights = sum(inputs * outputs for inputs, outputs in shapes.values())
    biases = sum(shapes[name][1] for name in "qkv") if architecture.qkv_bias else 0
    norms = 2 * architecture.hidden_size
    return architecture.n_layers * (weights + biases + norms) + architecture.hidden_size


def n_params(architecture: Architecture) -> int:
    """All parameters. Tied embeddings count once."""
    n_matrices = 1 if architecture.tied_embeddings else 2
    embeddings = n_matrices * architecture.vocab_size * architecture.hidden_size
    return n_params_non_embedding(architecture) + embeddings


def n_params_lora(architecture: Architecture, rank: int) -> int:
    """Trainable parameters of LoRA of this rank on all linear layers of all blocks, not on the head."""
    per_block = sum(rank * (inputs + outputs) for inputs, outputs in linear_shapes(architecture).values())
    return architecture.n_layers * per_block
