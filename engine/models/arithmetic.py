"""What training and serving a model costs: floating-point operations and bytes, from its shape alone.

Conventions: a multiply-add is two operations; a forward pass costs 2 operations per matrix parameter and token, its
backward pass 2 for the activations and 2 for the trained parameters (Kaplan et al. 2020, arXiv 2001.08361, with
attention's own 4·n_layers·width·context added). Memory follows Rajbhandari et al. 2020, arXiv 1910.02054 (ZeRO).
"""

from engine.models.architecture import Architecture, n_params, n_params_lora, n_params_non_embedding
from engine.study import Precision, Training

BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2}


def matrix_params(arch: Architecture) -> int:
    """Parameters that take part in a matrix product for each token: the layers and the output head."""
    return n_params_non_embedding(arch) + arch.vocab_size * arch.hidden_size


def forward_flops(arch: Architecture, context: float) -> float:
    """Operations to process one token that attends to `context` tokens on average."""
    return 2.0 * matrix_params(arch) + 4.0 * arch.n_layers * arch.n_heads * arch.head_dim * context


def train_flops(arch: Architecture, training: Training, n_tokens: float, context: float) -> float:
    """Operations to train on `n_tokens` of elements of `2·context` tokens each. LoRA saves the base's gradients."""
    forward = forward_flops(arch, context)
    if training.method == "full":
        return 3.0 * forward * n_tokens
    return (2.0 * forward + 6.0 * n_params_lora(arch, training.lora_rank)) * n_tokens


def selfplay_flops(arch: Architecture, prompt_tokens: float, new_tokens: float, context: float) -> float:
    """Operations to read prompts and write completions (without what a prefix cache saves)."""
    return forward_flops(arch, context) * (prompt_tokens + new_tokens)


def train_bytes(
    arch: Architecture, training: Training, precision: Precision, stage: int, n: int, tokens: int, recompute: bool
) -> float:
    """Bytes per device in training under ZeRO `stage` on `n` devices with micro-batches of `tokens`.

    Each trained parameter takes a gradient, a float32 master copy (in bfloat16) and two float32 moments.
    """
    width, weights = BYTES[precision], n_params(arch) * BYTES[precision]
    trained = n_params(arch) if training.method == "full" else n_params_lora(arch, training.lora_rank)
    optimizer = trained * (8 if precision == "float32" else 12) / (n if stage >= 1 else 1)
    gradients = trained * width / (n if stage >= 2 else 1)
    return weights / (n if stage == 3 else 1) + optimizer + gradients + activation_bytes(arch, width, tokens, recompute)


def activation_bytes(arch: Architecture, width: int, tokens: int, recompute: bool) -> float:
    """Bytes of kept activations (Korthikanti et al. 2022, arXiv 2205.05198, gated MLP) and of the logits in float32."""
    per_layer = 16 * arch.hidden_size + 4 * arch.intermediate_size
    kept = arch.n_layers * arch.hidden_size + per_layer if recompute else arch.n_layers * per_layer
    return float(tokens) * (width * kept + 8 * arch.vocab_size)
