"""The Hugging Face hub: resolve a branch to its commit, download safetensors, report a hub error in one line.

with hub.translate_errors("Qwen/Qwen2.5-0.5B-Instruct", instead=["smollm2-135m"]):
    file, commit = hub.fetch_config("Qwen/Qwen2.5-0.5B-Instruct", "main")
"""

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.models.architecture import ModelError

# No *.bin, *.pt or other pickles: loading a pickle can run code.
WANTED = ("*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model")
REACH_TIMEOUT = 5.0  # seconds


def is_reachable() -> bool:
    """Sends one request without retries. The hub client would retry for half a minute before it gives up."""
    from huggingface_hub import constants

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=REACH_TIMEOUT):
            return not constants.HF_HUB_OFFLINE
    except urllib.error.HTTPError:
        return True  # It answers, even if it refuses this request.
    except OSError:
        return False


def fetch_config(repo: str, revision: str) -> tuple[Path, str]:
    """The repository's config.json, and the commit (40 hex digits) of `revision`, a branch, tag or commit.

    If the hub cannot be reached, both come from the hub client's cache.
    """
    from huggingface_hub import hf_hub_download

    file = Path(hf_hub_download(repo, "config.json", revision=revision, local_files_only=not is_reachable()))
    # The hub client stores a file as snapshots/<commit>/<name>.
    return file, file.parent.name


def download(repo: str, commit: str, folder: Path) -> None:
    """Downloads safetensors, tokenizer and settings into `folder`. Continues an interrupted download."""
    from huggingface_hub import snapshot_download

    # Checked first: without a hub, the client accepts an incomplete folder as complete.
    if not is_reachable():
        raise ConnectionError
    snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=list(WANTED))
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # What the client needs to continue a download.


@contextmanager
def translate_errors(repo: str, instead: Sequence[str]) -> Iterator[None]:
    """Turns an error of the hub client into a ModelError of one line. `instead`: models that need no hub.

    The errors: the hub cannot be reached; the connection breaks; the hub refuses (the repository, revision or file does
    not exist, or is gated).
    """
    from huggingface_hub import errors as client

    try:
        yield
    except (client.HfHubHTTPError, client.HFValidationError) as error:
        raise ModelError(f"the hub refuses {repo}: {_shorten(error)}") from error
    except (client.LocalEntryNotFoundError, ConnectionError) as error:
        raise ModelError(
            f"{repo} is not cached here and no model hub can be reached; "
            f"these models are Python packages and need no hub: {', '.join(instead)}"
        ) from error
    except client.HTTPError as error:  # type: ignore[attr-defined]  # The base class of the errors of its HTTP library.
        reason = f"the connection to the hub broke ({_shorten(error)})"
        raise ModelError(f"{reason}; run the command again to continue") from error


def _shorten(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
