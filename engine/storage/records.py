"""The records of a study's files, typed, and what travels between the phases.

Each record is one JSON file. What does not fit its type was written by another version, and is refused by name.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from engine import UserError
from engine.cluster.machines import Estimate, ServingPlacement, TrainingPlacement
from engine.news.items import NewsItem
from engine.storage.fingerprint import Identity
from engine.study import Trial

R = TypeVar("R")
ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
State = Literal["done", "trained", "to do", "failed", "stale", "damaged"]
Phase = Literal["self-play", "fine-tune", "evaluate", "storage"]  # storage: its files cannot be read
OTHER_VERSION = "use another --storage, or remove its folder if its results are not needed"


class RecordError(UserError):
    """A file that cannot be read as the record it should be; the message names it and says what to do."""


# ---- in memory -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A trial with its identity, its news, its state, where it will run and what it will take.

    `differs`: of a stale trial, the fields that are not as they were when it began; of a damaged one, what cannot be
    read and what to do. `training` places the trainee in DeepSpeed, `serving` in vLLM; `writing` places the generator
    in vLLM.
    """

    trial: Trial
    items: tuple[NewsItem, ...]
    identity: Identity
    state: State
    differs: tuple[str, ...]
    training: TrainingPlacement
    serving: ServingPlacement
    writing: ServingPlacement
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A trial that did not finish: why, in which phase, and where to look.

    `reason` is one line; `details` is the error as it was raised, with its traceback if there is one; `logs` is the
    folder of the logs on the machine where it ran.
    """

    key: str
    phase: Phase
    reason: str
    details: str = ""
    logs: str = ""


# ---- in files --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """`trial.json`: what was begun, by which versions of the parts, and what it was expected to take."""

    trial: Trial
    identity: Identity
    fingerprint: str
    versions: dict[str, str]
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """`checkpoints/last.json`: after how many steps all ranks have kept their parts."""

    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """`trained.json`: what training took, and where it ran.

    Tokens of all steps and of the distinct elements, operations, nats per learned token before training (on batches of
    the last epoch, at most 16) and in the last epoch, seconds. `weight_files`: SHA-256 of each file of the weights.
    """

    train_tokens: int
    unique_tokens: int
    train_flops: float
    untrained_loss: float
    train_loss: float
    steps: int
    train_seconds: float
    gpu_seconds: float
    device: Literal["cpu", "gpu"]
    device_name: str
    zero_stage: int
    n_workers: int
    weight_files: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """`result.json`, the last file of a trial: accuracies for a reader of the file, what evaluation took."""

    accuracy_closed_book: float
    accuracy_icl: float
    evaluate_seconds: float
    tensor_parallel: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolBegun:
    """`pool.json`."""

    identity: Identity
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Untrained:
    """`before.json`, the last file of an untrained model's scores."""

    trainee: str
    domain: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """`progress.json`: how far the phase that runs is, as its driver saw it `at` (seconds since 1970).

    Counts are of models or orders; `tokens` so far, in `seconds`. `work` of `all_work` is done, in elements that were
    written or trained; without it, whole models or orders count. `at_work`: the machine of what is worked on, by name.
    """

    phase: str
    total: int
    done: int
    running: int
    tokens: int
    work: int
    all_work: int
    seconds: float
    at_work: dict[str, str]
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """`spent.json`: the hours for which the cluster's nodes were up while phases ran, at work or not.

    `node_hours`: by what one node has, such as `8 × H100` (`engine.cluster.nodes.describe_node`).
    """

    node_hours: dict[str, float]


def adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """What reads and writes a kind of record; to make it takes longer than to read one, so that each is made once."""
    if kind not in ADAPTERS:
        ADAPTERS[kind] = TypeAdapter(kind)
    return ADAPTERS[kind]


def to_plain(record: Any) -> Any:
    """The record as plain data."""
    return adapter(type(record)).dump_python(record, mode="json")


def from_plain(kind: type[R], value: Any, source: str, remedy: str = OTHER_VERSION) -> R:
    """The record, read strictly enough to name what another version wrote. Raises RecordError; `source` is its file."""
    try:
        record: R = adapter(kind).validate_python(value)
        return record
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, fault["loc"])) or "all" for fault in error.errors()}))
        raise RecordError(
            f"{source}: written by another version of Engram, or damaged (fields: {fields}); {remedy}"
        ) from error
