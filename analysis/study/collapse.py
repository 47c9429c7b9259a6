"""Does accuracy after fine-tuning fall on one curve for all model sizes, over training compute or over tokens?

The paper's claim is that what is learned is a function of the compute spent. Here it is put to the test: binomial
models of the right answers over ln x, one curve for all sizes against one a size, x being training FLOPs and then
training tokens. Domains and protocols have levels of their own in every model. Errors are clustered by news item: the
questions of an item stand and fall together, in all trials that ask them. News items are few, so the test is not Wald's
with clustered errors, which rejects too often, but the score's under flips of the items' signs (Kline and Santos 2012,
the wild cluster score bootstrap).
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

ALPHA = 0.05  # a test below it speaks against one curve
FLIPS = 9999
NAMES = {"train_flops": "compute", "train_tokens": "tokens"}
VERDICTS = {
    (True, False): "compute",
    (False, True): "tokens",
    (True, True): "both",
    (False, False): "neither",
}
SAID = {
    "compute": "The sizes collapse onto one curve in training compute, and not in training tokens",
    "tokens": "The sizes collapse onto one curve in training tokens, and not in training compute",
    "both": "These data fit one curve in compute as well as one in tokens: they cannot tell the two apart",
    "neither": "The sizes collapse onto one curve neither in training compute nor in training tokens",
}


class LogitAboveChance(sm.families.links.Logit):  # type: ignore[misc]
    """p = chance + (1 − chance)·logistic(η): guessing alone gives `chance`."""

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
    """One curve for all sizes against one a size, over one x."""

    x: str  # train_flops | train_tokens
    slope: float  # of the one curve, in logits a factor of e in x
    slope_error: float  # clustered by item
    likelihood_ratio: float  # 2·(ln L of one a size − ln L of one for all), treats questions as independent
    df: int
    p_value: float  # of the likelihood ratio
    clustered_p_value: float  # of the same hypothesis, clustered by item: the one that the verdict goes by
    aicc_one: float
    aicc_each: float
    distance: float  # root mean square difference of the two models' accuracies
    heldout: float  # nats a question lost on a size that the one curve has not seen, mean over sizes
    fitted: Any = field(repr=False)  # statsmodels results of the one curve

    @property
    def collapses(self) -> bool:
        """Whether nothing speaks against one curve."""
        return self.clustered_p_value >= ALPHA


@dataclass(frozen=True, kw_only=True, slots=True)
class Collapse:
    """The verdict, in a word and in words, and the numbers that it rests on."""

    verdict: str  # compute | tokens | both | neither
    headline: str
    sentence: str  # the headline with its numbers
    compute: Comparison
    tokens: Comparison


def points(items: pl.DataFrame) -> pl.DataFrame:
    """What each trial got `right` of each news item's `n` choices, after training and without the news.

    `items`: `by_item.table`. Only context mode none: the shadowing arms learn otherwise.
    """
    plain = items.filter(context_mode="none")
    n = pl.col("n_questions")
    return plain.with_columns(n=n, right=(pl.col("closed_book_after") * n).round().cast(pl.Int64))


def judge(found: pl.DataFrame) -> Collapse:
    """Both comparisons and the verdict. Raises FitError if the points cannot tell."""
    check(found)
    compute, tokens = (compare(found, x) for x in NAMES)
    verdict = VERDICTS[compute.collapses, tokens.collapses]
    details = "; ".join(told(c) for c in (compute, tokens))
    better = min(compute, tokens, key=lambda c: c.heldout)
    sentence = f"{SAID[verdict]} ({details}). An unseen size is predicted better over {NAMES[better.x]}."
    return Collapse(verdict=verdict, headline=f"{SAID[verdict]}.", sentence=sentence, compute=compute, tokens=tokens)


def told(c: Comparison) -> str:
    """The numbers of a comparison."""
    return (
        f"over {NAMES[c.x]}: curves of the sizes differ by {100 * c.distance:.1f} points, "
        f"p = {c.clustered_p_value:.2g} clustered by item, likelihood ratio {c.likelihood_ratio:.1f} on {c.df} df, "
        f"AICc of one curve − one a size {c.aicc_one - c.aicc_each:+.1f}, "
        f"{c.heldout:.3f} nats a question on an unseen size"
    )


def check(found: pl.DataFrame) -> None:
    """Raises FitError with a plain reason if no curve can be compared."""
    if found["params"].n_unique() < 2:
        raise FitError("one model size only: curves of different sizes need at least two")
    for x in NAMES:
        if bad := found.filter(pl.col(x) <= 0)["trial"].unique().sort().to_list():
            raise FitError(f"{x} is not above 0 in the trial {bad[0]}")
    budgets = found.group_by("params", "domain", "protocol").agg(pl.col("budget").n_unique())
    if budgets.filter(pl.col("budget") > 1)["params"].n_unique() < 2:
        raise FitError(
            "fewer than two sizes were trained at several budgets of a domain and protocol: there is no curve"
        )
    needed = 2 * (2 * found["params"].n_unique() - 2) + 2  # a level and a slope a further size
    if found["item"].n_unique() < needed:
        raise FitError(
            f"{found['item'].n_unique()} news items are too few for errors clustered by item with "
            f"{found['params'].n_unique()} sizes; {needed} are needed"
        )
    if found["right"].sum() in (0, found["n"].sum()):
        raise FitError("all answers are right, or all are wrong")


def compare(found: pl.DataFrame, x: str) -> Comparison:
    """Fits both models over one x. Raises FitError if they cannot be told apart."""
    one = one_curve(found, x)
    extra = beyond(one, each_size(found, x))
    if not extra.shape[1]:
        raise FitError(f"each size was trained at one {x} only: add budgets or seeds that differ in it")
    simple, full = fitted(found, one), fitted(found, np.hstack([one, extra]))
    ratio, df = 2 * float(full.llf - simple.llf), extra.shape[1]
    return Comparison(
        x=x,
        slope=float(simple.params[0]),
        slope_error=float(simple.bse[0]),
        likelihood_ratio=ratio,
        df=df,
        p_value=float(chi2.sf(ratio, df)),
        clustered_p_value=flipped_p_value(simple, extra, items(found)),
        aicc_one=aicc(simple),
        aicc_each=aicc(full),
        distance=float(np.sqrt(np.mean((full.fittedvalues - simple.fittedvalues) ** 2))),
        heldout=heldout(found, x),
        fitted=simple,
    )


# ---- the models ------------------------------------------------------------------------------------------------------


def levels(found: pl.DataFrame) -> Array:
    """A column a domain and protocol."""
    return dummies(found.select(pl.concat_str("domain", "protocol", separator="/")))


def dummies(column: pl.DataFrame) -> Array:
    """A column of 0 and 1 for each value."""
    return np.asarray(1.0 * column.to_dummies().to_numpy())


def log_x(found: pl.DataFrame, x: str) -> Array:
    """ln x, as a column."""
    return np.asarray(np.log(found[x].to_numpy().astype(np.float64))[:, None])


def one_curve(found: pl.DataFrame, x: str) -> Array:
    """Columns: ln x, then a level a domain and protocol."""
    return np.hstack([log_x(found, x), levels(found)])


def each_size(found: pl.DataFrame, x: str) -> Array:
    """Columns: a level and a slope a size."""
    sizes = dummies(found.select(pl.col("params").cast(pl.String)))
    return np.hstack([sizes, sizes * log_x(found, x)])


def beyond(columns: Array, more: Array) -> Array:
    """An orthonormal basis of what `more` adds to the span of `columns`."""
    base, _ = np.linalg.qr(columns)
    rest = more - base @ (base.T @ more)
    left, size, _ = np.linalg.svd(rest, full_matrices=False)
    return np.asarray(left[:, size > 1e-8 * np.linalg.norm(more)])


def fitted(found: pl.DataFrame, columns: Array) -> Any:
    """The binomial model with errors clustered by item, which use the t distribution of the clusters' number."""
    right, n = (found[c].to_numpy().astype(np.float64) for c in ("right", "n"))
    family = sm.families.Binomial(link=LogitAboveChance(chance(found)))
    model = sm.GLM(np.column_stack([right, n - right]), columns, family=family)
    try:
        return model.fit(cov_type="cluster", cov_kwds={"groups": items(found)}, use_t=True, maxiter=200)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise FitError(f"the binomial model cannot be fitted to these answers: {error}") from error


def items(found: pl.DataFrame) -> NDArray[np.intp]:
    """Each point's news item, by number."""
    return np.unique(found["item"].to_numpy(), return_inverse=True)[1]


def flipped_p_value(simple: Any, extra: Array, of: NDArray[np.intp], seed: int = 0) -> float:
    """How often the score of the extra columns [n, df] is as large if the items' [n] signs are flipped at random.

    `simple`: results of the model without them.
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


def chance(found: pl.DataFrame) -> float:
    """Mean chance of a question."""
    return float(np.average(found["chance"].to_numpy(), weights=found["n"].to_numpy()))


def aicc(model: Any) -> float:
    """Akaike's criterion for few points (Hurvich and Tsai 1989); a point is an item in a trial."""
    k, n = len(model.params), int(model.nobs)
    return float(-2 * model.llf + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1))


def heldout(found: pl.DataFrame, x: str) -> float:
    """Nats a question lost on each size by the curve of the other sizes, mean over sizes; an answer known for sure
    loses none. Levels of domains and protocols that the other sizes lack are left out."""
    lost = []
    for (params,), hidden in found.group_by("params", maintain_order=True):
        rest = found.filter(pl.col("params") != params)
        known = hidden.join(rest.select("domain", "protocol").unique(), on=["domain", "protocol"], how="semi")
        if known.height:
            lost.append(loss(known, predicted(rest, known, x)))
    return float(np.mean(lost)) if lost else float("inf")


def predicted(rest: pl.DataFrame, hidden: pl.DataFrame, x: str) -> Array:
    """Accuracies of `hidden` by the one curve of `rest`."""
    both = pl.concat([rest, hidden])
    columns = one_curve(both, x)
    kept, asked = columns[: rest.height], columns[rest.height :]
    return np.asarray(fitted(rest, kept).predict(asked))


def loss(found: pl.DataFrame, p: Array) -> float:
    """Mean nats a question under the accuracies p."""
    right, n = (found[c].to_numpy().astype(np.float64) for c in ("right", "n"))
    return float(-(xlogy(right, p) + xlogy(n - right, 1 - p)).sum() / n.sum())


def curve(
    comparison: Comparison, found: pl.DataFrame, x: Array, level: float = 0.90, seed: int = 0
) -> tuple[Array, Array, Array]:
    """The one curve at x: its mean over the points' domains and protocols, and bounds from the clustered errors."""
    rng = np.random.default_rng(seed)
    model = comparison.fitted
    share = levels(found).mean(0)
    freedom = found["item"].n_unique() - 1  # Student's t of as many clusters
    moves = rng.multivariate_normal(np.zeros(len(model.params)), model.cov_params(), size=1000, method="svd")
    draws = model.params + moves * np.sqrt(freedom / rng.chisquare(freedom, size=(1000, 1)))
    clouds = [accuracies(b[None], share, x, chance(found))[0] for b in (model.params, *draws)]
    low, high = np.quantile(clouds[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return clouds[0], low, high


def accuracies(b: Array, share: Array, x: Array, floor: float) -> Array:
    """Mean accuracy [draws, x] over levels with their shares, of parameters [draws, 1 + levels]."""
    eta = b[:, :1, None] * np.log(x)[None, None, :] + b[:, 1:, None]
    p = floor + (1 - floor) * expit(eta)
    return np.asarray((p * share[None, :, None]).sum(1))
