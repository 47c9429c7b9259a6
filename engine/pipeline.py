"""A study from news to results table: all pools, then all fine-tunes, then all scores.

Each phase reads only what the phase before it wrote, and does only what is not done: it can be run alone, again, or on
another machine.
"""

import platform
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from ray.exceptions import RayError

from engine import UserError, results
from engine.cluster import session
from engine.evaluation import phase as evaluation
from engine.models import catalogue, weights
from engine.monitor import errors
from engine.selfplay import phase as selfplay
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Phase, Planned
from engine.storage.store import Store
from engine.training import phase as training

PARTS = ("engram", "ray", "torch", "deepspeed", "transformers", "peft")
RunPhase = Callable[[Sequence[Planned], Ledger], list[Failure]]


def run(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Brings all planned trials to their results; gives those that failed or cannot be read. Ray has to be running."""
    prepare(planned, ledger)
    failures: list[Failure] = []
    for run_phase in (self_play, fine_tune, evaluate):
        failed = {f.key for f in failures}
        failures += run_phase([p for p in planned if p.trial.key not in failed], ledger)
    return failures + results.collect(ledger)


def prepare(planned: Sequence[Planned], ledger: Ledger) -> None:
    """Brings the models to all machines and records each trial's settings; nothing has been computed yet.

    Raises UserError if a machine does not see the storage.
    """
    names = sorted({m for p in planned for m in (p.trial.trainee, p.trial.writer)})
    mark = f"mark-{uuid.uuid4().hex}"
    ledger.store.write_bytes(mark, b"")
    try:
        with in_plain_words():
            for device in {p.serving.device for p in planned}:
                session.on_each_node(prepare_node, device, ledger.store, mark, names)
    finally:
        ledger.store.remove(mark)
    for p in planned:
        ledger.begin(p, versions())


def prepare_node(store: Store, mark: str, names: Sequence[str]) -> None:
    """On each machine, before any of its GPUs is reserved: does it see the storage? Brings the models there."""
    if not store.exists(mark):
        raise UserError(
            f"{store.root}: the machine {socket.gethostname()} does not see what the job's machine writes there; "
            "use a --storage that all machines share, such as a network file system or s3://bucket/runs"
        )
    store.check_writable()
    for name in names:
        weights.pull(catalogue.find(name))


def versions() -> dict[str, str]:
    """Of all parts that a result may depend on."""
    return {"python": platform.python_version()} | {part: version(part) for part in PARTS} | _vllm_version()


def _vllm_version() -> dict[str, str]:
    """vLLM is installed under one of two names, for CPUs or for GPUs."""
    from importlib.metadata import packages_distributions

    [name] = packages_distributions()["vllm"]
    return {"vllm": version(name)}


# ---- the phases ------------------------------------------------------------------------------------------------------


def self_play(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Writes what is missing in the pools."""
    return run_phase("self-play", selfplay.run, planned, ledger)


def fine_tune(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Fine-tunes what is not trained."""
    return run_phase("fine-tune", training.run, planned, ledger)


def evaluate(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Scores what is trained and has no scores."""
    return run_phase("evaluate", evaluation.run, planned, ledger)


def run_phase(name: Phase, run: RunPhase, planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Runs one phase, and records which trials failed in it and why; what failed in it before is tried again.

    Raises UserError if it ended for a reason that its user can fix: one that a worker gave, or storage that is full.
    """
    for p in planned:
        ledger.clear_failure(p.trial.key, name)
    try:
        with in_plain_words():
            failures = run(planned, ledger)
    except Exception as error:
        errors.check_room(str(error), ledger.store)
        ledger.store.check_writable()  # Ray keeps files there, too, and may fail over them in any way
        raise
    for failure in failures:
        errors.check_room(failure.details, ledger.store)
        ledger.fail(failure)
    return failures


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Turns a worker's error that the user can fix into that error, without its traceback."""
    try:
        yield
    except RayError as error:
        if lines := find_user_errors(str(error)):
            raise UserError("\n".join(lines)) from error
        raise


def find_user_errors(text: str) -> list[str]:
    """The messages in a worker's traceback that its user can fix. Ray Data keeps no more of an error than this text."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in list_kinds(UserError)}
    lines = (line.partition(": ") for line in text.splitlines())
    return list(dict.fromkeys(message for kind, _, message in lines if kind in kinds))


def list_kinds(kind: type[Exception]) -> Iterator[type[Exception]]:
    """A class of errors with all that derive from it."""
    yield kind
    for narrower in kind.__subclasses__():
        yield from list_kinds(narrower)
