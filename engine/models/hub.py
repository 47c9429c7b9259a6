"""The Hugging Face hub: resolve a branch, download safetensors, and say clearly when there is no hub to reach.

    with hub.errors("Qwen/Qwen2.5-0.5B-Instruct", instead=["smollm2-135m"]):
        file, commit = hub.config_file("Qwen/Qwen2.5-0.5B-Instruct", "main")

The models in `instead` need no hub; the error names them.
"""

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.models.architecture import ModelError

# No *.bin, *.pt or other pickles: loading one can run code.
WANTED = ("*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model")
REACH_TIMEOUT = 5.0  # seconds


def is_reachable() -> bool:
    """One request without retries: the hub client itself tries for half a minute before it gives up."""
    from huggingface_hub import constants

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=REACH_TIMEOUT):
            return not constants.HF_HUB_OFFLINE
    except urllib.error.HTTPError:
        return True  # It answers, if only to refuse this request.
    except OSError:
        return False


def config_file(repo: str, revision: str) -> tuple[Path, str]:
    """The repository's config.json, and the commit (40 hex digits) that `revision` stands at.

    Without a hub, both are what the hub client last cached.
    """
    from huggingface_hub import hf_hub_download

    file = Path(hf_hub_download(repo, "config.json", revision=revision, local_files_only=not is_reachable()))
    # The hub client keeps a file under snapshots/<commit>/.
    return file, file.parent.name


def download(repo: str, commit: str, folder: Path) -> None:
    """Bring safetensors, tokenizer and settings into `folder`; an interrupted download goes on where it stopped."""
    from huggingface_hub import snapshot_download

    # Asked first, because the client takes an incomplete folder for a whole one when it cannot reach the hub.
    if not is_reachable():
        raise ConnectionError
    snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=list(WANTED))
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # The client's notes for going on.


@contextmanager
def errors(repo: str, instead: Sequence[str]) -> Iterator[None]:
    """Turn the hub client's errors into one line. `instead` are models that need no hub.

    Raises ModelError when the hub is out of reach or breaks off, and when it refuses: no such repository, revision or
    file, or a gated one.
    """
    from huggingface_hub import errors as client

    try:
        yield
    except (client.HfHubHTTPError, client.HFValidationError) as error:
        raise ModelError(f"the hub refuses {repo}: {_first_line(error)}") from error
    except (client.LocalEntryNotFoundError, ConnectionError) as error:
        raise ModelError(
            f"{repo} is not cached here and no model hub can be reached; "
            f"without a hub there are {', '.join(instead)}, which come as Python packages"
        ) from error
    except client.HTTPError as error:  # type: ignore[attr-defined]  # The base of the HTTP library in use.
        raise ModelError(f"the connection to the hub broke ({_first_line(error)}); run it again to go on") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
