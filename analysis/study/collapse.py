"""Tests whether accuracy after fine-tuning follows one curve for all model sizes, over training compute or tokens.

The paper claims that what is learned is a function of the compute spent. The test: binomial models of the right answers
over ln x, one curve for all sizes against one curve per size; x is training FLOPs, then training tokens. Domains and
protocols have their own levels in every model. Errors are clustered by news item, because the answers to the questions
of one item are correlated, in all trials that ask them. There are few news items, so a Wald test with clustered errors
would reject too often; the test is the score test with random signs of the items (Kline and Santos 2012, the wild
cluster score bootstrap).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy.special import expit, logit, xlogy
from scipy.stats import chi2

from analysis.errors import FitError

Array = NDArray[np.float64]

ALPHA = 0.05  # a test below it rejects the one curve
FLIPS = 9999
NAMES = {"train_flops": "compute", "train_tokens": "tokens"}
VERDICTS = {
    (True, False): "compute",
    (False, True): "tokens",
    (True, True): "both",
    (False, False): "neither",
}
HEADLINES = {
    "compute": "The sizes collapse onto one curve in training compute, and not in training tokens",
    "tokens": "The sizes collapse onto one curve in training tokens, and not in training compute",
    "both": "These data fit one curve in compute as well as one in tokens: they do not show which of the two is right",
    "neither": "The sizes collapse onto one curve neither in training compute nor in training tokens",
}


class LogitAboveChance(sm.families.links.Logit):  # type: ignore[misc]
    """p = chance + (1 − chance)·logistic(η): random guessing gives `chance`."""

    def __init__(self, chance: float) -> None:
        self.chance = chance

    def __call__(self, p: Array) -> Array:
        return np.asarray(logit(np.clip((p - self.chance) / (1 - self.chance), 1e-6, 1 - 1e-6)))

    def inverse(self, z: Array) -> Array:
        return np.asarray(self.chance + (1 - self.chance) * expit(z))

    def inverse_deriv(self, z: Array) -> Array:
        return np.asarray((1 - self.chance) * expit(z) * expit(-z))

    def inverse_deriv2(self, z: Array) -> Array:
        return np.asarray(self.inverse_deriv(z) * (expit(-z) - expit(z)))

    def deriv(self, p: Array) -> Array:
        return np.asarray(1 / self.inverse_deriv(self(p)))

    def deriv2(self, p: Array) -> Array:
        z = self(p)
        return np.asarray(-self.inverse_deriv2(z) / self.inverse_deriv(z) ** 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One curve for all sizes against one curve per size, over one x."""

    x: str  # train_flops | train_tokens
    slope: float  # of the one curve, in logits per factor of e in x
    slope_error: float  # clustered by item
    likelihood_ratio: float  # 2·(ln L of a curve per size − ln L of one curve), takes questions as independent
    df: int
    p_value: float  # of the likelihood ratio
    clustered_p_value: float  # of the same hypothesis, clustered by item: the verdict uses this one
    aicc_one: float
    aicc_each: float
    distance: float  # root mean square difference between the accuracies of the two models
    heldout: float  # nats per question lost on a size that the one curve has not seen, mean over sizes
    model: Any = field(repr=False)  # statsmodels results of the one curve

    @property
    def collapses(self) -> bool:
        """Whether the test does not reject the one curve."""
        return self.clustered_p_value >= ALPHA


@dataclass(frozen=True, kw_only=True, slots=True)
class Collapse:
    """The verdict, as one word and as sentences, and its numbers."""

    verdict: str  # compute | tokens | both | neither
    headline: str
    sentence: str  # the headline with its numbers
    compute: Comparison
    tokens: Comparison


def make_points(items: pl.DataFrame) -> pl.DataFrame:
    """One row per trial and news item: how many of its `n` choices are `right`, after training and without the news.

    `items`: `by_item.make_table`. Only context mode none, because the shadowing arms learn in another way.
    """
    plain = items.filter(context_mode="none")
    n = pl.col("n_questions")
    return plain.with_columns(n=n, right=(pl.col("closed_book_after") * n).round().cast(pl.Int64))


def judge(points: pl.DataFrame) -> Collapse:
    """Both comparisons and the verdict. Raises FitError if the points allow no verdict."""
    check_points(points)
    compute, tokens = (compare(points, x) for x in NAMES)
    verdict = VERDICTS[compute.collapses, tokens.collapses]
    details = "; ".join(describe(c) for c in (compute, tokens))
    better = min(compute, tokens, key=lambda c: c.heldout)
    headline = HEADLINES[verdict]
    sentence = f"{headline} ({details}). An unseen size is predicted better over {NAMES[better.x]}."
    return Collapse(verdict=verdict, headline=f"{headline}.", sentence=sentence, compute=compute, tokens=tokens)


def describe(c: Comparison) -> str:
    """The numbers of a comparison."""
    return (
        f"over {NAMES[c.x]}: curves of the sizes differ by {100 * c.distance:.1f} points, "
        f"p = {c.clustered_p_value:.2g} clustered by item, likelihood ratio {c.likelihood_ratio:.1f} on {c.df} df, "
        f"AICc of one curve − one per size {c.aicc_one - c.aicc_each:+.1f}, "
        f"{c.heldout:.3f} nats per question on an unseen size"
    )


def check_points(points: pl.DataFrame) -> None:
    """Raises FitError with the reason if no curves can be compared."""
    n_sizes, n_items = points["params"].n_unique(), points["item"].n_unique()
    if n_sizes < 2:
        raise FitError("one model size only: curves of different sizes need at least two")
    for x in NAMES:
        if bad := points.filter(pl.col(x) <= 0)["trial"].unique().sort().to_list():
            raise FitError(f"{x} is not above 0 in the trial {bad[0]}")
    budgets = points.group_by("params", "domain", "protocol").agg(pl.col("budget").n_unique())
    if budgets.filter(pl.col("budget") > 1)["params"].n_unique() < 2:
        raise FitError(
            "fewer than two sizes were trained at several budgets of a domain and protocol: there is no curve"
        )
    needed = 2 * (2 * n_sizes - 2) + 2  # a level and a slope per further size
    if n_items < needed:
        raise FitError(
            f"{n_items} news items are too few for errors clustered by item with {n_sizes} sizes; {needed} are needed"
        )
    if points["right"].sum() in (0, points["n"].sum()):
        raise FitError("all answers are right, or all are wrong")


def compare(points: pl.DataFrame, x: str) -> Comparison:
    """Fits both models over one x. Raises FitError if the two are the same model."""
    one = one_curve_columns(points, x)
    extra = basis_beyond(one, each_size_columns(points, x))
    if not extra.shape[1]:
        raise FitError(f"each size was trained at one {x} only: add budgets or seeds that differ in it")
    simple, full = fit_model(points, one), fit_model(points, np.hstack([one, extra]))
    ratio, df = 2 * float(full.llf - simple.llf), extra.shape[1]
    return Comparison(
        x=x,
        slope=float(simple.params[0]),
        slope_error=float(simple.bse[0]),
        likelihood_ratio=ratio,
        df=df,
        p_value=float(chi2.sf(ratio, df)),
        clustered_p_value=sign_flip_p_value(simple, extra, number_items(points)),
        aicc_one=aicc(simple),
        aicc_each=aicc(full),
        distance=float(np.sqrt(np.mean((full.fittedvalues - simple.fittedvalues) ** 2))),
        heldout=measure_heldout(points, x),
        model=simple,
    )


# ---- the models ------------------------------------------------------------------------------------------------------


def level_columns(points: pl.DataFrame) -> Array:
    """One column per domain and protocol."""
    return dummy_columns(points.select(pl.concat_str("domain", "protocol", separator="/")))


def dummy_columns(column: pl.DataFrame) -> Array:
    """One column of 0 and 1 per value."""
    return np.asarray(1.0 * column.to_dummies().to_numpy())


def log_column(points: pl.DataFrame, x: str) -> Array:
    """ln x, as a column."""
    return np.asarray(np.log(points[x].to_numpy().astype(np.float64))[:, None])


def one_curve_columns(points: pl.DataFrame, x: str) -> Array:
    """Columns: ln x, then one level per domain and protocol."""
    return np.hstack([log_column(points, x), level_columns(points)])


def each_size_columns(points: pl.DataFrame, x: str) -> Array:
    """Columns: one level and one slope per size."""
    sizes = dummy_columns(points.select(pl.col("params").cast(pl.String)))
    return np.hstack([sizes, sizes * log_column(points, x)])


def basis_beyond(columns: Array, more: Array) -> Array:
    """An orthonormal basis of what `more` adds to the span of `columns`."""
    base, _ = np.linalg.qr(columns)
    rest = more - base @ (base.T @ more)
    left, size, _ = np.linalg.svd(rest, full_matrices=False)
    return np.asarray(left[:, size > 1e-8 * np.linalg.norm(more)])


def fit_model(points: pl.DataFrame, columns: Array) -> Any:
    """The binomial model, with errors clustered by item and the t distribution of as many clusters."""
    right, n = (points[c].to_numpy().astype(np.float64) for c in ("right", "n"))
    family = sm.families.Binomial(link=LogitAboveChance(mean_chance(points)))
    model = sm.GLM(np.column_stack([right, n - right]), columns, family=family)
    try:
        return model.fit(cov_type="cluster", cov_kwds={"groups": number_items(points)}, use_t=True, maxiter=200)
    except (np.linalg.LinAlgError, ValueError) as error:  # what statsmodels raises where a search has no end
        raise FitError(f"the binomial model cannot be fitted to these answers: {error}") from error


def number_items(points: pl.DataFrame) -> NDArray[np.intp]:
    """The news item of each point, as a number."""
    return np.unique(points["item"].to_numpy(), return_inverse=True)[1]


def sign_flip_p_value(simple: Any, extra: Array, of: NDArray[np.intp], seed: int = 0) -> float:
    """How often the score of the extra columns [n, df] is as large if the signs of the items are random.

    `simple`: results of the model without these columns; `of` [n]: the item of each point.
    """
    columns, model = simple.model.exog, simple.model
    weights = model.hessian_factor(simple.params, observed=False)[:, None]
    shared = np.linalg.lstsq(columns * np.sqrt(weights), extra * np.sqrt(weights), rcond=None)[0]
    scores = (extra - columns @ shared) * model.score_factor(simple.params)[:, None]
    by_item = np.stack([np.bincount(of, column) for column in scores.T], axis=1)
    inverse = np.linalg.pinv(by_item.T @ by_item)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, len(by_item)))
    sums = np.vstack([by_item.sum(0), signs @ by_item])
    size = ((sums @ inverse) * sums).sum(1)
    return float((1 + (size[1:] >= size[0] * (1 - 1e-12)).sum()) / (1 + FLIPS))


def mean_chance(points: pl.DataFrame) -> float:
    """Mean chance per question."""
    return float(np.average(points["chance"].to_numpy(), weights=points["n"].to_numpy()))


def aicc(model: Any) -> float:
    """Akaike's criterion for few points (Hurvich and Tsai 1989); a point is an item in a trial."""
    k, n = len(model.params), int(model.nobs)
    return float(-2 * model.llf + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1))


# ---- predictions -----------------------------------------------------------------------------------------------------


def measure_heldout(points: pl.DataFrame, x: str) -> float:
    """Nats per question lost on each size by the curve of the other sizes, mean over sizes.

    An answer that is predicted with certainty loses none. Domains and protocols that the other sizes do not have are
    left out.
    """
    losses = []
    for (params,), hidden in points.group_by("params", maintain_order=True):
        rest = points.filter(pl.col("params") != params)
        known = hidden.join(rest.select("domain", "protocol").unique(), on=["domain", "protocol"], how="semi")
        if known.height:
            losses.append(mean_loss(known, predict(rest, known, x)))
    return float(np.mean(losses)) if losses else float("inf")


def predict(rest: pl.DataFrame, hidden: pl.DataFrame, x: str) -> Array:
    """Accuracies of `hidden` by the one curve of `rest`."""
    columns = one_curve_columns(pl.concat([rest, hidden]), x)
    model = fit_model(rest, columns[: rest.height])
    return np.asarray(model.predict(columns[rest.height :]))


def mean_loss(points: pl.DataFrame, p: Array) -> float:
    """Mean nats per question under the accuracies p."""
    right, n = (points[c].to_numpy().astype(np.float64) for c in ("right", "n"))
    return float(-(xlogy(right, p) + xlogy(n - right, 1 - p)).sum() / n.sum())


def make_curve(
    comparison: Comparison, points: pl.DataFrame, x: Array, level: float = 0.90, seed: int = 0
) -> tuple[Array, Array, Array]:
    """The one curve at x: its mean over the points' domains and protocols, and bounds from the clustered errors."""
    rng = np.random.default_rng(seed)
    model = comparison.model
    share = level_columns(points).mean(0)
    freedom = points["item"].n_unique() - 1  # Student's t of as many clusters
    moves = rng.multivariate_normal(np.zeros(len(model.params)), model.cov_params(), size=1000, method="svd")
    parameters = model.params + moves * np.sqrt(freedom / rng.chisquare(freedom, size=(1000, 1)))
    clouds = [mean_accuracy(b[None], share, x, mean_chance(points))[0] for b in (model.params, *parameters)]
    low, high = np.quantile(clouds[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return clouds[0], low, high


def mean_accuracy(b: Array, share: Array, x: Array, floor: float) -> Array:
    """Accuracy [samples, x], averaged over levels by their shares, of parameters [samples, 1 + levels]."""
    eta = b[:, :1, None] * np.log(x)[None, None, :] + b[:, 1:, None]
    p = floor + (1 - floor) * expit(eta)
    return np.asarray((p * share[None, :, None]).sum(1))
