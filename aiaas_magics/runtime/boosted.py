"""XGBoost's estimators among scikit-learn's: onnxmltools knows how skl2onnx converts them."""

from __future__ import annotations

from typing import Any

from aiaas_hub.schemas.errors import InvalidInput

ML_OPSET = 3
"""The newest of `ai.onnx.ml` in which both libraries write trees."""


def has_boosted(model: Any) -> bool:
    """Whether the estimator, or one in a pipeline, is XGBoost's."""
    if any(base.__module__.startswith("xgboost.") for base in type(model).__mro__):
        return True
    return any(has_boosted(part) for part in _parts(model))


def _parts(model: Any) -> list[Any]:
    """Of a Pipeline, a ColumnTransformer or an ensemble, the estimators in it."""
    named = [*getattr(model, "steps", ()), *getattr(model, "transformers_", ())]
    single = getattr(model, "estimator", None)
    return [
        *(step[1] for step in named if not isinstance(step[1], str)),
        *([] if single is None or isinstance(single, str | type) else [single]),
    ]


def register() -> None:
    """Teach skl2onnx XGBoost's estimators; a repeat changes nothing. Raises `InvalidInput` where
    onnxmltools is missing."""
    try:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    except ImportError:
        raise InvalidInput(
            "XGBoost models need onnxmltools to be exported, which is not installed here.",
            remedy="Install it: pip install onnxmltools.",
        ) from None
    import xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    for kind, shapes, options in (
        (
            xgboost.XGBClassifier,
            calculate_linear_classifier_output_shapes,
            {"nocl": [True, False], "zipmap": [True, False, "columns"]},
        ),
        (xgboost.XGBRegressor, calculate_linear_regressor_output_shapes, None),
    ):
        update_registered_converter(
            kind, f"XGBoost{kind.__name__}", shapes, convert_xgboost, options=options
        )
