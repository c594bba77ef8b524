"""Spark: DataFrames straight into MPI ranks, one rank an executor, in barrier mode.

Everything is imported when it is first used: what executors import for a rank stays light.
"""

import importlib
from typing import Any

WHERE = {
    "run": "ranks",
    "AccuracyEvaluator": "evaluators",
    "LossEvaluator": "evaluators",
    "KerasEstimator": "estimator",
    "KerasModel": "estimator",
    "ModelPredictor": "predictors",
    "java_home": "java",
    "load_model": "storage",
    "save_model": "storage",
    "BinaryLabelTransformer": "transformers",
    "DenseTransformer": "transformers",
    "LabelIndexTransformer": "transformers",
    "MinMaxTransformer": "transformers",
    "OneHotTransformer": "transformers",
    "ReshapeTransformer": "transformers",
    "StandardTransformer": "transformers",
}

__all__ = list(WHERE)


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *WHERE})
