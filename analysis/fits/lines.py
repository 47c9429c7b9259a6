"""A record of `fits.group` as lines for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def write_lines(record: Mapping[str, Any]) -> list[str]:
    """The fit first, then its warnings, then what it is used for."""
    lines = [write_fit(record)]
    lines += [f"  {text}" for text in (*([record["choice"]] if "choice" in record else []), *record["warnings"])]
    lines += [f"  predicted: {write_numbers(row)}" for row in record.get("predictions", [])]
    lines += [f"  run next: {write_suggestion(one)}" for one in record.get("suggestions", [])]
    lines += [f"  best for {write_allocation(one)}" for one in record.get("allocations", [])]
    lines += write_isoflop(record["isoflop"]) if "isoflop" in record else []
    return lines + (write_chain(record["chain"]) if "chain" in record else [])


def write_fit(record: Mapping[str, Any]) -> str:
    """The group, the law, its parameters and its errors."""
    where = " ".join(f"{k}={v}" for k, v in record["group"].items())
    errors = {"log RMSE": record["log_rmse_fit"], "held out": record["log_rmse_heldout"]}
    numbers = ", ".join(f"{name} {error:.3g}" for name, error in errors.items() if error is not None)
    return f"{where} {record['law']}: {write_numbers(record['parameters'])} | {numbers}".strip()


def write_numbers(row: Mapping[str, float | None]) -> str:
    """`N=7e+10 y=1.911`"""
    return " ".join(f"{name}={value:.4g}" for name, value in row.items() if value is not None)


def write_suggestion(one: Mapping[str, Any]) -> str:
    """A candidate, and what it does to the interval."""
    trial = " ".join(f"{name}={value}" for name, value in one["candidate"].items())
    return f"{trial}: width of the 90 % interval {one['width_before']:.3g} → {one['width_after']:.3g}"


def write_allocation(one: Mapping[str, Any]) -> str:
    """`1e+21 FLOPs: N=1.8e+09 [1.7e+09, 1.9e+09] D=9.1e+10 [8.9e+10, 9.2e+10] y=2.328`"""
    n, d = (f"{key}={one[key]:.4g}{write_bounds(one[f'interval_{key}'])}" for key in "ND")
    return f"{one['flops']:g} FLOPs: {n} {d} y={one['loss']:.4g}"


def write_isoflop(one: Mapping[str, Any]) -> list[str]:
    """One line per profile, the power of compute, and the warnings."""
    profiles = [f"  IsoFLOP: lowest loss of {p['flops']:.3g} FLOPs at N={p['N']:.4g}" for p in one["profiles"]]
    power = f"  IsoFLOP: N grows as compute to the power {one['exponent_N']:.3f}{write_bounds(one['interval_N'])}"
    return [*profiles, power, *(f"  {text}" for text in one["warnings"])]


def write_chain(one: Mapping[str, Any]) -> list[str]:
    """The second step with its warnings, and one line per prediction."""
    step = f"  accuracy from loss, {one['step']['law']}: {write_numbers(one['step']['parameters'])}"
    predictions = [f"  predicted accuracy: {write_numbers(row)}" for row in one["predictions"]]
    return [step, *(f"    {text}" for text in one["step"]["warnings"]), *predictions]


def write_bounds(interval: Sequence[float] | None) -> str:
    """` [1.7e+09, 1.9e+09]`, or nothing."""
    return f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
