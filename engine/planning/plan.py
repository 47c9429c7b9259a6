"""What of a study is done, what remains and what it costs: read from the files. Starts nothing.

python jobs/grid.py --study quickstart --plan
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine import UserError
from engine.cluster.machines import Cluster, Device, ServingPlacement, TrainingPlacement
from engine.models import catalogue
from engine.news.items import NewsItem
from engine.planning import checks, estimate, identity, placement
from engine.planning.estimate import Speeds
from engine.storage.ledger import Ledger, name_untrained
from engine.storage.records import Planned
from engine.study import Study, Trial


class Refused(UserError):
    """A study that cannot be run as it is; the message lists every reason, one line per reason."""


def plan(study: Study, ledger: Ledger, cluster: Cluster) -> list[Planned]:
    """All trials of the study, the longest first. Raises Refused or NewsError on anything wrong with the study."""
    by_domain = checks.select_items(study)
    study = replace(study, trials=tuple(resolve_precision(t, cluster.device) for t in study.trials))
    faults = checks.find_faults(study, by_domain)
    if faults := faults + checks.group((t, device_faults(t, cluster.device)) for t in study.trials):
        raise Refused("\n".join(faults))
    checks.check_lengths(study, by_domain)
    speeds = estimate.measured_speeds(ledger)
    planned = [plan_trial(t, tuple(by_domain[t.domain]), cluster, speeds) for t in study.trials]
    return sorted(read_states(planned, ledger), key=lambda p: -p.estimate.seconds)


def resolve_precision(trial: Trial, device: Device) -> Trial:
    """The trial with the precision that "auto" means on this device."""
    if trial.precision != "auto":
        return trial
    return replace(trial, precision="bfloat16" if device == "gpu" else "float32")


def device_faults(trial: Trial, device: Device) -> Iterator[str]:
    """What a trial asks of a device that it cannot do."""
    if (device, trial.precision) == ("gpu", "float32") and getattr(trial.training, "method", None) == "lora":
        yield (
            "precision is 'float32': on a GPU, vLLM runs LoRA adapters in 16 bits only; "
            "use precision='auto' or 'bfloat16', or train with method='full'"
        )


def read_states(planned: Sequence[Planned], ledger: Ledger) -> list[Planned]:
    """The trials with their states as they are now. A trial is damaged, too, if its pool is."""
    of_pool = {name: tuple(ledger.find_pool_faults(name)) for name in sorted({p.trial.pool for p in planned})}
    users = {name_asked(p): p for p in planned}
    untrained = {asked: name_untrained(p.identity) for asked, p in users.items()}
    now = []
    for p in planned:
        state, differs = ledger.state(p.trial, p.identity, untrained[name_asked(p)])
        if state != "stale" and of_pool[p.trial.pool]:
            state, differs = "damaged", differs + of_pool[p.trial.pool]
        now.append(replace(p, state=state, differs=differs))
    return now


def name_asked(p: Planned) -> tuple[object, ...]:
    """Equal for trials whose untrained model is the same and is asked the same about the same news."""
    return p.trial.trainee, p.trial.precision, p.trial.domain, tuple(p.trial.forms), p.items


def plan_trial(trial: Trial, items: tuple[NewsItem, ...], cluster: Cluster, speeds: Speeds) -> Planned:
    """One trial with its places and its price. Its state is not read yet."""
    training, serving, writing = place_trial(trial, items, cluster)
    return Planned(
        trial=trial,
        items=items,
        identity=identity.identify_trial(trial, items),
        state="to do",
        differs=(),
        training=training,
        serving=serving,
        writing=writing,
        estimate=estimate.estimate(trial, items, training, speeds),
    )


def place_trial(
    trial: Trial, items: Sequence[NewsItem], cluster: Cluster
) -> tuple[TrainingPlacement, ServingPlacement, ServingPlacement]:
    """Where its trainee is trained and asked, and where its generator writes."""
    trainee, writer = (catalogue.find(name).architecture for name in (trial.trainee, trial.writer))
    longest = estimate.longest_element(trial, items)
    return (
        placement.place_training(trainee, trial.training, trial.precision, cluster, longest),
        placement.place_serving(trainee, trial.precision, cluster),
        placement.place_serving(writer, trial.precision, cluster),
    )


def refuse_stale(planned: Sequence[Planned], ledger: Ledger) -> None:
    """Raises Refused that shows, for each stale trial, the fields that differ and what to do."""
    stale = [p for p in planned if p.state == "stale"]
    lines = [f"{p.trial.key} was begun with other settings:\n    " + "\n    ".join(p.differs) for p in stale]
    if lines:
        lines.append(
            f"Use another --storage, or remove these folders of {ledger.store.root}/trials "
            "if their results are not needed."
        )
        raise Refused("\n".join(lines))
