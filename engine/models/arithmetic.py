"""FLOPs and bytes of training and serving a model, computed from its shape.

FLOPs are floating-point operations; a multiply-add is two. Per matrix parameter and token, a forward pass takes 2
FLOPs; a backward pass takes 2 for the activations and 2 for the trained parameters (Kaplan et al. 2020, arXiv
2001.08361). Attention adds 4·n_layers·width·context per token to a forward pass. Memory follows Rajbhandari et al.
2020, arXiv 1910.02054 (ZeRO).
"""

from engine.models.architecture import Architecture, n_params, n_params_lora, n_params_non_embedding
from engine.study import Precision, Training

BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2}  # of a planned trial, where none is "auto"
# DeepSpeed's `reduce_bucket_size` and `stage3_max_live_parameters`, where nothing else is said.
BUCKET_VALUES, GATHERED_VALUES = 500_000_000, 1_000_000_000


def matrix_params(arch: Architecture) -> int:
    """Parameters that each token is multiplied with: those of the layers and of the output head."""
    return n_params_non_embedding(arch) + arch.vocab_size * arch.hidden_size


def forward_flops(arch: Architecture, context: float) -> float:
    """FLOPs of a forward pass per token, if a token attends to `context` tokens on average."""
    return 2.0 * matrix_params(arch) + 4.0 * arch.n_layers * arch.n_heads * arch.head_dim * context


def train_flops(arch: Architecture, training: Training, n_tokens: float, context: float) -> float:
    """FLOPs of training on `n_tokens`, if a token attends to `context` tokens on average (half an element).

    LoRA computes no gradients for the parameters of the base.
    """
    forward = forward_flops(arch, context)
    if training.method == "full":
        return 3.0 * forward * n_tokens
    return (2.0 * forward + 6.0 * n_params_lora(arch, training.lora_rank)) * n_tokens


def selfplay_flops(arch: Architecture, prompt_tokens: float, new_tokens: float, context: float) -> float:
    """FLOPs of reading prompts and writing completions, without the savings of a prefix cache."""
    return forward_flops(arch, context) * (prompt_tokens + new_tokens)


def train_bytes(
    arch: Architecture, training: Training, precision: Precision, stage: int, n: int, tokens: int, recompute: bool
) -> float:
    """Bytes per device in training, with ZeRO `stage` on `n` devices and `tokens` per micro-batch.

    Each trained parameter has a gradient, two moments in float32 and, in bfloat16, a master copy in float32.
    """
    width, weights, trained = BYTES[precision], n_params(arch) * BYTES[precision], n_trained(arch, training)
    optimizer = trained * (8 if precision == "float32" else 12) / (n if stage >= 1 else 1)
    gradients = trained * width / (n if stage >= 2 else 1)
    return weights / (n if stage == 3 else 1) + optimizer + gradients + activation_bytes(arch, width, tokens, recompute)


def buffer_bytes(precision: Precision, stage: int) -> float:
    """Bytes of what DeepSpeed exchanges at once: a bucket of gradients, and in stage 3 gathered parameters."""
    values = (BUCKET_VALUES if stage >= 1 else 0) + (GATHERED_VALUES if stage == 3 else 0)
    return float(values * BYTES[precision])


def gradient_copy_bytes(arch: Architecture, training: Training, precision: Precision, stage: int, n: int) -> float:
    """Bytes of the gradients in float32 that an update in bfloat16 takes, after all activations are gone."""
    return 0.0 if precision == "float32" else 4.0 * n_trained(arch, training) / (n if stage >= 1 else 1)


def cache_bytes(arch: Architecture, precision: Precision, n: int, tokens: int) -> float:
    """Bytes per GPU of the keys and values of `tokens`, served on n GPUs; each has one head of keys at least."""
    heads = max(1.0, arch.n_kv_heads / n)
    return 2.0 * arch.n_layers * heads * arch.head_dim * BYTES[precision] * tokens


def n_trained(arch: Architecture, training: Training) -> int:
    """Trained parameters."""
    return n_params(arch) if training.method == "full" else n_params_lora(arch, training.lora_rank)


def activation_bytes(arch: Architecture, width: int, tokens: int, recompute: bool) -> float:
    """Bytes of the stored activations of `tokens`, `width` bytes per value, and of their logits (8 bytes per logit).

    The activations follow Korthikanti et al. 2022, arXiv 2205.05198, for a gated MLP. With `recompute`, only the inputs
    of all layers and the activations of one layer are stored.
    """
    per_layer = 16 * arch.hidden_size + 4 * arch.intermediate_size
    values = arch.n_layers * arch.hidden_size + per_layer if recompute else arch.n_layers * per_layer
    return float(tokens) * (width * values + 8 * arch.vocab_size)
