"""What of a study is done, what remains and what it costs: read from the files. Starts nothing.

python jobs/grid.py --study quickstart --plan
"""

from collections.abc import Sequence
from dataclasses import replace

from engine import UserError
from engine.cluster.machines import Machine
from engine.models import catalogue
from engine.news.items import NewsItem
from engine.planning import checks, estimate, identity, placement
from engine.planning.estimate import Speeds
from engine.selfplay import protocols
from engine.storage.ledger import Ledger, name_untrained
from engine.storage.records import Planned
from engine.study import Study, Trial


class Refused(UserError):
    """A study that cannot be run as it is; the message lists every reason, one line per reason."""


def plan(study: Study, ledger: Ledger, machine: Machine) -> list[Planned]:
    """All trials of the study, the longest first. Raises Refused or NewsError on anything wrong with the study."""
    by_domain = checks.select_items(study)
    if faults := checks.find_faults(study, by_domain):
        raise Refused("\n".join(faults))
    checks.check_lengths(study, by_domain)
    speeds = estimate.measured_speeds(ledger)
    planned = [plan_trial(t, tuple(by_domain[t.domain]), machine, speeds) for t in study.trials]
    return sorted(read_states(planned, ledger), key=lambda p: -p.estimate.seconds)


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


def plan_trial(trial: Trial, items: tuple[NewsItem, ...], machine: Machine, speeds: Speeds) -> Planned:
    """One trial with its places and its price. Its state is not read yet."""
    trainee, writer = (catalogue.find(name).architecture for name in (trial.trainee, trial.writer))
    training = placement.place_training(trainee, trial.training, trial.precision, machine)
    speed, basis = estimate.speed_of(trial.trainee, training, speeds)
    expected = estimate.estimate(
        trainee,
        writer if protocols.find(trial.protocol).write else None,
        trial.training,
        n_elements=trial.budget * len(items),
        news_chars=estimate.mean_chars(item.text for item in items),
        in_front=trial.context_mode != "none",
        speed=speed,
        basis=basis,
    )
    return Planned(
        trial=trial,
        items=items,
        identity=identity.identify_trial(trial, items),
        state="to do",
        differs=(),
        training=training,
        serving=placement.place_serving(trainee, trial.precision, machine),
        writing=placement.place_serving(writer, trial.precision, machine),
        estimate=expected,
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
