"""Predicts what choices cost from what others cost: gradient-boosted trees (Chen and Guestrin, XGBoost, KDD 2016).

The model learns the logarithm of a choice's cycles over those of the operator without a choice. That number means the
same for every operator of a core, so that one model serves all of them, and a network's trials help the next one's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xgboost
from numpy.typing import NDArray

from tvm_tinyml.choice import Choice
from tvm_tinyml.tuning.features import Features, choice_features, key_features
from tvm_tinyml.tuning.records import Key

PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 6,
    "eta": 0.3,
    "min_child_weight": 1,
    "subsample": 0.9,
    "colsample_bytree": 0.8,
    "tree_method": "hist",
    "nthread": 1,
    "verbosity": 0,
}
ROUNDS = 60

WORST = np.log(4.0)
"""What a choice that gives no kernel is taken for."""

LEAST_ROWS = 8
"""Before so many are known everything is predicted alike."""


class CostModel:
    """Gradient-boosted trees over features of operators and choices.

    Parameters
    ----------
    seed : of what is random in training. The same trials in the same order give the same predictions.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._rows: list[Features] = []
        self._ratios: list[float] = []
        self._columns: list[str] = []
        self._booster: xgboost.Booster | None = None

    @property
    def trials(self) -> int:
        """How many it knows."""
        return len(self._rows)

    def add(self, key: Key, choice: Choice, ratio: float | None) -> None:
        """Take note of a trial: cycles over those without a choice; None for a choice that gives no kernel."""
        features = {**key_features(key), **choice_features(key, choice)}
        self._rows.append(features)
        self._ratios.append(WORST if ratio is None else float(np.clip(np.log(ratio), -WORST, WORST)))

    def fit(self) -> None:
        """Learn from all trials."""
        if self.trials < LEAST_ROWS:
            return
        self._columns = sorted({name for row in self._rows for name in row})
        data = xgboost.DMatrix(self._matrix(self._rows), np.array(self._ratios))
        self._booster = xgboost.train({**PARAMETERS, "seed": self._seed}, data, ROUNDS)

    def predict(self, key: Key, choices: Sequence[Choice]) -> NDArray[np.float64]:
        """Return the expected logarithm of each choice's cycles over those without one."""
        if self._booster is None or not choices:
            return np.zeros(len(choices))
        of_key = key_features(key)
        rows = [{**of_key, **choice_features(key, choice)} for choice in choices]
        return np.asarray(self._booster.predict(xgboost.DMatrix(self._matrix(rows))), np.float64)

    def _matrix(self, rows: Sequence[Features]) -> NDArray[np.float32]:
        return np.array([[row.get(name, np.nan) for name in self._columns] for row in rows], np.float32)
