"""Exact parameter counts, and weights that arrive whole, verified, or not at all. `pytest tests/test_models.py`"""

import hashlib
import json
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.models import catalogue, hub, weights
from engine.models.architecture import Architecture, ModelError, n_params, n_params_lora, n_params_non_embedding
from engine.models.catalogue import KNOWN, REGISTRY_NAMES, Folder, Hub, Model, Part, Registry, find

LORA_RANK = 16
TINY_LLAMA = replace(
    catalogue.SMOLLM2_135M,
    vocab_size=64,
    hidden_size=16,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    head_dim=8,
    intermediate_size=24,
)
PUBLISHED_BILLIONS = {
    "smollm2-135m": (0.135, 0.106),
    "qwen2.5-0.5b": (0.49, 0.36),
    "qwen2.5-1.5b": (1.54, 1.31),
    "qwen2.5-3b": (3.09, 2.77),
    "qwen2.5-7b": (7.61, 6.53),
    "qwen2.5-14b": (14.7, 13.1),
    "qwen2.5-32b": (32.5, 31.0),
    "qwen2.5-72b": (72.7, 70.0),
}


def hugging_face_config(architecture: Architecture) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(
        architecture.family,
        vocab_size=architecture.vocab_size,
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.n_layers,
        num_attention_heads=architecture.n_heads,
        num_key_value_heads=architecture.n_kv_heads,
        head_dim=architecture.head_dim,
        intermediate_size=architecture.intermediate_size,
        max_position_embeddings=architecture.max_context,
        tie_word_embeddings=architecture.tied_embeddings,
    )


def network_without_weights(architecture: Architecture) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(hugging_face_config(architecture))


UNTIED_LLAMA = replace(TINY_LLAMA, tied_embeddings=False, head_dim=12)
ARCHITECTURES = {name: model.architecture for name, model in KNOWN.items()} | {"untied llama": UNTIED_LLAMA}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_counts_are_those_of_the_real_network(architecture: Architecture) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    network = network_without_weights(architecture)
    blocks = sum(
        p.numel() for name, p in network.named_parameters() if "embed_tokens" not in name and "lm_head" not in name
    )
    assert n_params(architecture) == sum(p.numel() for p in network.parameters())
    assert n_params_non_embedding(architecture) == blocks
    with torch.device("meta"):
        adapted = get_peft_model(network, LoraConfig(r=LORA_RANK, target_modules="all-linear"))
    assert n_params_lora(architecture, LORA_RANK) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", PUBLISHED_BILLIONS)
def test_counts_are_near_the_published_ones(name: str) -> None:
    architecture = find(name).architecture
    total, non_embedding = PUBLISHED_BILLIONS[name]
    assert n_params(architecture) / 1e9 == pytest.approx(total, rel=0.01)
    assert n_params_non_embedding(architecture) / 1e9 == pytest.approx(non_embedding, rel=0.01)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_written_configuration_is_read_back(architecture: Architecture, tmp_path: Path) -> None:
    hugging_face_config(architecture).save_pretrained(tmp_path)
    assert find(str(tmp_path)).architecture == architecture


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
    ],
)
def test_an_unsupported_configuration_names_file_and_value(
    change: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    config = hugging_face_config(TINY_LLAMA).to_dict() | change
    file = tmp_path / "config.json"
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(ModelError) as caught:
        find(str(tmp_path))
    assert str(file) in str(caught.value)
    assert complaint in str(caught.value)


def test_an_unknown_name_gets_suggestions_and_the_known_names() -> None:
    with pytest.raises(ModelError, match=r"did you mean qwen2\.5-0\.5b.*known: smollm2-135m"):
        find("qwen2.5-05b")


def test_finding_and_counting_load_no_heavy_library() -> None:
    check = (
        "import sys, engine.models, engine.weights; engine.models.find('qwen2.5-72b');"
        "print({'torch', 'transformers', 'ray', 'vllm', 'huggingface_hub'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", check], text=True) == "set()\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


GGUF_PARTS = (b"first half, ", b"second half")


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Model:
    """A model whose two parts lie in two installed distributions, and a converter that only counts its calls."""
    for n, content in enumerate(GGUF_PARTS, start=1):
        information = tmp_path / "site" / f"tiny_part{n}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny-part{n}\nVersion: 1.0\n")
        data = tmp_path / "site" / f"tiny_part{n}" / "data" / f"part{n:02d}.bin"
        data.parent.mkdir(parents=True)
        data.write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(weights, "convert", count_conversion)
    return tiny_model()


def tiny_model(**changes: Any) -> Model:
    content = b"".join(GGUF_PARTS)
    source = Registry(
        extra="tiny-extra",
        parts=catalogue._split_over("tiny", len(GGUF_PARTS), "1.0"),
        n_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        tokenizer_rules="smollm",
    )
    return Model(name="tiny", architecture=TINY_LLAMA, source=replace(source, **changes), license=None)


def count_conversion(model: Model, gguf: Path, folder: Path) -> None:
    with (weights.cache_root() / "conversions").open("a") as conversions:
        conversions.write("x")
    gguf.rename(folder / "model.safetensors")


def test_parts_are_joined_in_order_into_one_whole_folder(packaged: Model, cache: Path) -> None:
    assert weights.pulled(packaged) is None
    folder = weights.pull(packaged)
    assert (folder / "model.safetensors").read_bytes() == b"".join(GGUF_PARTS)
    assert weights.pulled(packaged) == folder
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folder.name]


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"n_bytes": 1}], ids=["hash", "size"])
def test_bytes_that_are_not_the_pinned_ones_are_refused(packaged: Model, changes: dict[str, Any]) -> None:
    changed = tiny_model(**changes)
    with pytest.raises(ModelError, match=r"refused: expected .* found"):
        weights.pull(changed)
    assert weights.pulled(changed) is None


def test_a_failed_pull_is_made_good_by_the_next(packaged: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(weights, "convert", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            weights.pull(packaged)
    assert weights.pulled(packaged) is None
    assert weights.pull(packaged).is_dir()


def test_processes_that_pull_at_once_convert_once(packaged: Model, cache: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=weights.pull, args=(packaged,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (cache / "conversions").read_text() == "x"


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (Part("no-such-package", "1.0", "x"), "not installed.*tiny-extra"),
        (Part("tiny-part1", "2.0", "x"), "tiny-part1 is 1.0, expected 2.0.*tiny-extra"),
        (Part("tiny-part1", "1.0", "x"), "has no file x"),
    ],
)
def test_a_package_that_is_not_there_or_not_the_pinned_one_is_named(
    packaged: Model, part: Part, complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        weights.pull(tiny_model(parts=(part,)))


@pytest.mark.parametrize("attempt", [lambda: weights.pull(find("qwen2.5-7b")), lambda: find("some/model")])
def test_without_a_hub_the_error_names_models_that_need_none(attempt: Any, cache: Path, no_hub: None) -> None:
    with pytest.raises(ModelError) as caught:
        attempt()
    assert all(name in str(caught.value) for name in REGISTRY_NAMES)


def test_a_hub_model_is_pinned_and_brings_no_pickles(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def snapshot(repo: str, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        asked.update(repo=repo, revision=revision, patterns=allow_patterns)
        (local_dir / "model.safetensors").touch()

    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model = find("qwen2.5-0.5b")
    assert isinstance(model.source, Hub)
    folder = weights.pull(model)
    assert asked["revision"] == model.source.revision
    assert folder.name.endswith(model.source.revision)
    assert not any(Path("pytorch_model.bin").match(pattern) for pattern in asked["patterns"])


def test_a_hub_id_is_resolved_to_its_commit(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "snapshots" / "c0ffee"
    hugging_face_config(TINY_LLAMA).save_pretrained(snapshot)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(snapshot / "config.json"))
    model = find("some/model@branch")
    assert model == find(model.name)
    assert (model.name, model.revision, model.slug) == ("some/model@c0ffee", "c0ffee", "some--model")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Model:
    path = tmp_path / "mine"
    hugging_face_config(TINY_LLAMA).save_pretrained(path)
    (path / "model.safetensors").write_bytes(b"weights")
    return find(str(path))


def test_a_folder_is_used_in_place(folder: Model) -> None:
    assert isinstance(folder.source, Folder)
    assert weights.pull(folder) == weights.pulled(folder) == folder.source.path
    assert folder.slug == "mine"


@pytest.mark.parametrize(("file", "complaint"), [("pytorch_model.bin", "pickled"), (None, "no \\*.safetensors")])
def test_a_folder_without_safe_weights_is_refused(folder: Model, file: str | None, complaint: str) -> None:
    path = Path(folder.name)
    (path / "model.safetensors").rename(path / (file or "weights.other"))
    with pytest.raises(ModelError, match=complaint):
        weights.pull(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_folders_revision_follows_its_contents(folder: Model, file: str) -> None:
    before = weights.revision(folder)
    with (Path(folder.name) / file).open("ab") as stream:
        stream.write(b" ")
    assert weights.revision(folder) != before


def test_a_folder_is_hashed_once(folder: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights.revision(folder)
    monkeypatch.setattr(weights, "_hash_files", lambda files: pytest.fail("hashed again"))
    assert weights.revision(folder) == before


def test_a_copied_folder_has_the_same_revision(folder: Model, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path(folder.name).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert weights.revision(find(str(copy))) == weights.revision(folder)
