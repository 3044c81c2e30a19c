"""Logistic regression and the area under the ROC curve, on numpy, for `abstention`."""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
_RIDGE = 1e-3
_ROUNDS = 50


def logistic(signals: Matrix, weights: Matrix) -> Matrix:
    """Return the probability of each row [n, signals]; the last weight is the bias."""
    p: Matrix = 1 / (1 + np.exp(-np.clip(signals @ weights[:-1] + weights[-1], -30, 30)))
    return p


def fit_logistic(signals: Matrix, labels: Matrix, importance: Matrix) -> Matrix:
    """Return the weights with the largest likelihood, the bias last, by Newton's method with a small ridge."""
    design = np.c_[signals, np.ones(len(signals))]
    importance = importance / importance.sum()
    weights = np.zeros(design.shape[1])
    ridge = _RIDGE * np.eye(len(weights))
    ridge[-1, -1] = 1e-9
    for _ in range(_ROUNDS):
        p = logistic(signals, weights)
        gradient = design.T @ (importance * (labels - p)) - ridge @ weights
        curvature = (design * (importance * p * (1 - p))[:, None]).T @ design + ridge
        weights = weights + np.linalg.solve(curvature, gradient)
    return weights


def measure_auc(positive: Matrix, negative: Matrix) -> float:
    """Return the probability that a positive value is larger than a negative one; ties count half."""
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    ties = np.searchsorted(ordered, positive, "right") - below
    return float((below + ties / 2).mean() / len(negative))
