"""Laws of the loss: how it falls with size, data and compute. form.py says what a law is."""

from itertools import chain

import numpy as np
from scipy.special import expit

from analysis.laws.form import Array, Parameter, amplitude, exponent, law, offset, scale

TINY = 1e-300

# ---- one variable ----------------------------------------------------------------------------------------------------


@law("power", variables="x", parameters=[amplitude("b", x="c"), exponent("c", -4.0, 4.0, (-1.0, 1.0))])
def power(x: Array, b: Array, c: Array) -> tuple[Array, list[Array]]:
    """b·x^c (Hestness et al. 2017, arXiv 1712.00409; M1 of Alabdulmohsin et al. 2022, arXiv 2209.06640)."""
    p = x**c
    return b * p, [p, b * p * np.log(x)]


@law(
    "power_offset",
    variables="x",
    parameters=[amplitude("b", x="c"), exponent("c", -4.0, 0.0, (-1.0, -0.05)), offset("e")],
)
def power_offset(x: Array, b: Array, c: Array, e: Array) -> tuple[Array, list[Array]]:
    """b·x^c + e, falling to e (M2 of Alabdulmohsin et al. 2022)."""
    p = x**c
    return b * p + e, [p, b * p * np.log(x), np.ones_like(p)]


@law(
    "shifted_power",
    variables="x",
    parameters=[amplitude("b", x="-c"), scale("g", (1e-3, 1e1), x="1"), exponent("c", 0.0, 8.0, (0.05, 2.0))],
)
def shifted_power(x: Array, b: Array, g: Array, c: Array) -> tuple[Array, list[Array]]:
    """b·(1/x + g)^c (M3 of Alabdulmohsin et al. 2022)."""
    inner = 1 / x + g
    p = inner**c
    return b * p, [p, b * c * p / inner, b * p * np.log(inner)]


@law(
    "m4",
    variables="x",
    parameters=[
        offset("e_inf"),
        scale("e_0", (1.5, 30.0), y="-1"),
        scale("beta", (1e-2, 1e1), x="c", y="alpha-1"),
        exponent("c", -4.0, 0.0, (-1.0, -0.05)),
        exponent("alpha", 0.0, 4.0, (0.0, 1.0)),
    ],
)
def m4(x: Array, e_inf: Array, e_0: Array, beta: Array, c: Array, alpha: Array) -> tuple[Array, list[Array]]:
    """The y between e_inf and e_0 with (y − e_inf) / (e_0 − y)^alpha = beta·x^c (Alabdulmohsin et al. 2022).

    Newton's method finds t in y = e_inf + (e_0 − e_inf)·s(t), where s is the logistic function.
    """
    width = np.maximum(e_0 - e_inf, 1e-12)
    k = np.log(beta) + c * np.log(x) - (1 - alpha) * np.log(width)
    t = np.where(k < 0, k, k / np.maximum(alpha, 0.05))
    for _ in range(60):
        slope = expit(-t) + alpha * expit(t)
        step = np.clip((-np.logaddexp(0, -t) + alpha * np.logaddexp(0, t) - k) / slope, -5, 5)
        t = t - step
        if not (np.abs(step) > 1e-13 * (1 + np.abs(t))).any():
            break
    s = expit(t)
    per_k = width * s * (1 - s) / (expit(-t) + alpha * expit(t))
    k_by_width = -(1 - alpha) / width
    partials = [
        1 - s - per_k * k_by_width,
        s + per_k * k_by_width,
        per_k / beta,
        per_k * np.log(x),
        per_k * (np.log(width) - np.logaddexp(0, t)),
    ]
    return e_inf + width * s, partials


def list_parameters(n_breaks: int) -> list[Parameter]:
    """The parameters of a broken law."""
    bends = [
        [
            exponent(f"c_{i}", -4.0, 4.0, (-0.5, 1.0)),
            Parameter(
                name=f"d_{i}", kind="log", low=1e-9, high=1e9, start=(1e-2, 1e2), carries={"x": "-1"}, within="x"
            ),
            Parameter(name=f"f_{i}", kind="log", low=5e-2, high=1e1, start=(0.1, 1.0)),
        ]
        for i in range(1, n_breaks + 1)
    ]
    level = [offset("a"), amplitude("b", x="-c_0"), exponent("c_0", -1.0, 4.0, (0.0, 1.0))]
    return [*level, *chain.from_iterable(bends)]


def bnsl(x: Array, a: Array, b: Array, c_0: Array, **bends: Array) -> tuple[Array, list[Array]]:
    """a + b·x^−c_0·Π (1 + (x/d_i)^(1/f_i))^(−c_i·f_i) (broken neural scaling law, Caballero et al. 2023, 2210.14891).

    The breaks are in the order of their positions d_i.
    """
    log_x, n = np.log(x), len(bends) // 3
    log_p = -c_0 * log_x
    partials = []
    for i in range(1, n + 1):
        c, d, f = (bends[f"{name}_{i}"] for name in "cdf")
        z = (log_x - np.log(d)) / f
        soft, share = np.logaddexp(0, z), expit(z)
        log_p = log_p - c * f * soft
        partials += [-f * soft, c * share / d, c * (share * z - soft)]
    p = np.exp(np.clip(log_p, -700, 700))
    return a + b * p, [np.ones_like(p), p, -b * p * log_x, *(b * p * partial for partial in partials)]


law("bnsl", variables="x", parameters=list_parameters(1))(bnsl)
law(
    "bnsl_2",
    variables="x",
    parameters=list_parameters(2),
    interchangeable=[("d_1", "c_1", "f_1"), ("d_2", "c_2", "f_2")],
)(bnsl)


@law(
    "rectified",
    variables="D",
    parameters=[
        amplitude("B", D="-beta"),
        scale("D_l", (1e-3, 1e2), D="-beta"),
        exponent("beta", 0.0, 4.0, (0.1, 1.2)),
        offset("E"),
    ],
)
def rectified(D: Array, B: Array, D_l: Array, beta: Array, E: Array) -> tuple[Array, list[Array]]:
    """B / (D_l + D^beta) + E: fine-tuning; pretraining was worth the data D_l (Lin et al. 2024, 2402.02314)."""
    p = D**beta
    share = 1 / (D_l + p)
    return B * share + E, [share, -B * share**2, -B * share**2 * p * np.log(D), np.ones_like(p)]


# ---- two variables ---------------------------------------------------------------------------------------------------


@law(
    "additive",
    variables="N D",
    parameters=[
        offset("E"),
        amplitude("A", N="-alpha"),
        amplitude("B", D="-beta"),
        exponent("alpha"),
        exponent("beta"),
    ],
)
def additive(N: Array, D: Array, E: Array, A: Array, B: Array, alpha: Array, beta: Array) -> tuple[Array, list[Array]]:
    """E + A·N^−alpha + B·D^−beta (Hoffmann et al. 2022, arXiv 2203.15556, approach 3)."""
    a, b = N**-alpha, D**-beta
    return E + A * a + B * b, [np.ones_like(a * b), a + 0 * b, b + 0 * a, -A * a * np.log(N), -B * b * np.log(D)]


@law(
    "multiplicative",
    variables="X D",
    parameters=[
        offset("E"),
        amplitude("A", X="-alpha", D="-beta"),
        exponent("alpha", -1.0, 4.0),
        exponent("beta", -1.0, 4.0),
    ],
)
def multiplicative(X: Array, D: Array, E: Array, A: Array, alpha: Array, beta: Array) -> tuple[Array, list[Array]]:
    """E + A·X^−alpha·D^−beta: fine-tuning, X the size or another variable (Zhang et al. 2024, arXiv 2402.17193)."""
    p = X**-alpha * D**-beta
    return E + A * p, [np.ones_like(p), p, -A * p * np.log(X), -A * p * np.log(D)]


@law(
    "joint_rectified",
    variables="N D",
    parameters=[
        offset("E"),
        amplitude("B", N="-alpha", D="-beta"),
        scale("D_l", (1e-3, 1e2), D="-beta"),
        exponent("alpha", -1.0, 4.0),
        exponent("beta", 0.0, 4.0, (0.1, 1.2)),
    ],
)
def joint_rectified(
    N: Array, D: Array, E: Array, B: Array, D_l: Array, alpha: Array, beta: Array
) -> tuple[Array, list[Array]]:
    """E + B·N^−alpha / (D_l + D^beta): `rectified` at every size N, with B multiplied by a power of N.

    At one N it is the law of Lin et al. 2024 (arXiv 2402.02314); where D_l is 0, it is `multiplicative`.
    """
    n, p = N**-alpha, D**beta
    share = n / (D_l + p)
    inner = -B * share / (D_l + p)
    return E + B * share, [np.ones_like(share), share, inner, -B * share * np.log(N), inner * p * np.log(D)]


@law(
    "overtrained",
    variables="M C",
    parameters=[
        offset("E"),
        amplitude("a", M="eta", C="-eta"),
        amplitude("b", M="-eta", C="-eta"),
        exponent("eta", 0.0, 2.0, (0.02, 0.6)),
    ],
)
def overtrained(M: Array, C: Array, E: Array, a: Array, b: Array, eta: Array) -> tuple[Array, list[Array]]:
    """E + (a·M^eta + b·M^−eta)·C^−eta: M tokens per parameter, C training FLOPs (Gadre et al. 2024, 2403.08540)."""
    up, down, log_m, log_c = (M / C) ** eta, (M * C) ** -eta, np.log(M), np.log(C)
    by_eta = a * up * (log_m - log_c) - b * down * (log_m + log_c)
    return E + a * up + b * down, [np.ones_like(up), up, down, by_eta]


# ---- repeated data ---------------------------------------------------------------------------------------------------


@law(
    "data_constrained",
    variables="N D U",
    parameters=[
        offset("E"),
        amplitude("A", N="-alpha"),
        amplitude("B", D="-beta"),
        exponent("alpha", 0.05, 4.0, (0.1, 1.0)),
        exponent("beta", 0.05, 4.0, (0.1, 1.0)),
        scale("R_D", (1.0, 40.0)),
        scale("R_N", (1.0, 40.0)),
    ],
    shared_scale=("D", "U"),
)
def data_constrained(
    N: Array, D: Array, U: Array, E: Array, A: Array, B: Array, alpha: Array, beta: Array, R_D: Array, R_N: Array
) -> Array:
    """E + A·N′^−alpha + B·D′^−beta: N parameters, D tokens, U of them unique (Muennighoff et al. 2023, 2305.16264).

    Each repeat of the tokens is worth less than the one before: D′ = U·(1 + R_D·(1 − e^(−(D/U − 1)/R_D))). N′ follows
    from N by the same formula with R_N, and with the N that is optimal for U tokens in place of U.
    """
    log_best = (np.log(alpha * A + TINY) - np.log(beta * B + TINY) + beta * np.log(U)) / alpha
    n = log_worth(minimum(log_best, np.log(N)), np.log(N), R_N)
    d = log_worth(minimum(np.log(U), np.log(D)), np.log(D), R_D)
    return np.asarray(E + A * np.exp(-alpha * n) + B * np.exp(-beta * d))


def minimum(a: Array, b: Array) -> Array:
    """The smaller real part, with its imaginary step."""
    return np.where(np.real(a) < np.real(b), a, b)


def log_worth(log_unique: Array, log_all: Array, decay: Array) -> Array:
    """ln of unique·(1 + decay·(1 − e^(−repeats/decay))): what `all` is worth if only `unique` of it is new."""
    excess = log_all - log_unique
    repeats = np.exp(np.where(np.real(excess) < 50, excess, 50)) - 1
    return np.asarray(log_unique + np.log(1 + decay * (1 - np.exp(-repeats / decay))))
