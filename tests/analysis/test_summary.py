"""The summary of the results: shares pooled over domains and seeds, Wilson's intervals, the gap of each arm."""

import polars as pl
import pytest

from analysis.study import summary

ACCURACIES = {  # domain → accuracies before and after, closed-book and with the news
    "events": {"before": (0.3, 0.9), "after": (0.5, 0.8)},
    "coding": {"before": (0.2, 0.7), "after": (0.4, 0.7)},
}


def make_trials(domains: list[str], protocol: str = "naive") -> pl.DataFrame:
    return pl.DataFrame(
        {"trainee": "small", "protocol": protocol, "context_mode": "none", "budget": 4, "n_questions": 10}
        | {"domain": domain, "moment": moment, "condition": condition, "accuracy": accuracy}
        for domain in domains
        for moment, pair in ACCURACIES[domain].items()
        for condition, accuracy in zip(("closed_book", "icl"), pair, strict=True)
    )


def test_an_arm_is_pooled_over_its_domains_with_wilson_s_interval() -> None:
    before, after = summary.summarise(make_trials(["events", "coding"])).to_dicts()
    assert (before["protocol"], after["protocol"]) == ("before", "naive")
    assert (after["n"], after["closed_book"], after["icl"]) == (20, 0.45, 0.75)
    z, n, p = 1.96, 20, 0.45
    middle, half = (p + z**2 / 2 / n), z * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5
    wanted = [(middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)]
    assert [after["closed_book_low"], after["closed_book_high"]] == pytest.approx(wanted, abs=1e-4)
    assert before["closed_book"] == 0.25
    assert after["gap"] == pytest.approx(0.8 - 0.45)


def test_the_gap_of_an_arm_is_over_its_own_domains() -> None:
    trials = pl.concat([make_trials(["events", "coding"]), make_trials(["coding"], protocol="self_qa")])
    gaps = {row["protocol"]: row["gap"] for row in summary.summarise(trials).to_dicts()}
    assert gaps["self_qa"] == pytest.approx(0.7 - 0.4)
    assert gaps["before"] == pytest.approx(0.8 - 0.25)
