"""JSON: a diagnosis by the contract, and what a case adds to it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from unstuck.cases.story import CaseResult, LayerStory, LossStory, RateStory, Reading
from unstuck.prove.trial import TrialResult
from unstuck.study.odds import Odds
from unstuck.study.statistics import wilson


def dumps(value: Mapping[str, Any]) -> str:
    """One JSON object; numbers that are not finite become null.

    Example:
        >>> dumps({"loss": float("nan"), "name": "é"}).split()
        ['{', '"loss":', 'null,', '"name":', '"é"', '}']
    """
    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The same value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return value


def case_dict(case: CaseResult) -> dict[str, Any]:
    """A case: the main reading's diagnosis with the others as its variants, and the story under "case"."""
    return {
        **case.diagnosis.to_dict(),
        "case": {
            "name": case.name,
            "question": case.question,
            "data": case.data,
            "unit": case.unit,
            "seeds": case.seeds,
            "quick": case.quick,
            "seconds": case.seconds,
            "conclusions": list(case.conclusions),
            "readings": [_reading(reading) for reading in case.readings],
            "odds": [_odds(odds) for odds in case.odds],
            "facts": [
                {"title": facts.title, "heads": list(facts.heads), "rows": [list(row) for row in facts.rows]}
                for facts in case.facts
            ],
        },
    }


def _odds(odds: Odds) -> dict[str, Any]:
    """A cell for each pair of factors, with Wilson's interval (95 %)."""
    cells: list[dict[str, Any]] = []
    for (column, row), counted in odds.counts.items():
        interval = wilson(counted.successes, counted.trials)
        cells.append(
            {
                odds.names[0]: column,
                odds.names[1]: row,
                "trials": counted.trials,
                "successes": counted.successes,
                "p": counted.rate,
                "low": interval.low,
                "high": interval.high,
            }
        )
    return {"title": odds.title, "cells": cells}


def _reading(reading: Reading) -> dict[str, Any]:
    return {
        "key": reading.key,
        "title": reading.title,
        "about": reading.about,
        "status": reading.diagnosis.status,
        "loss": _loss(reading.loss),
        "layers": [_layer(layer, reading.loss) for layer in reading.layers],
        "trial": None if reading.trial is None else _trial(reading.trial),
        "rates": [_rate(rate) for rate in reading.rates],
    }


def _loss(loss: LossStory) -> dict[str, Any]:
    return {
        "start": loss.start,
        "end": loss.end,
        "constant": loss.constant,
        "by_constant": loss.by_constant,
        "beyond": loss.beyond,
        "accuracy": loss.accuracy,
        "curve": {"steps": loss.curve.steps.tolist(), "values": loss.curve.values.tolist()},
    }


def _layer(layer: LayerStory, loss: LossStory) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "drift": layer.drift,
        "grad_first": layer.grad_first,
        "update": layer.update,
        "update_ratio": layer.update_ratio,
        "update_centred": layer.update_centred,
        "update_ratio_centred": layer.update_ratio_centred,
        "share": layer.share,
        "frozen_loss": layer.frozen_loss,
        "carried": None if layer.frozen_loss is None else loss.carried(layer.frozen_loss),
    }


def _trial(trial: TrialResult) -> dict[str, Any]:
    return {
        "criterion": trial.criterion,
        "warnings": list(trial.warnings),
        "refused": dict(trial.refused),
        "interrupted": trial.interrupted,
        "runs": trial.runs,
        "seconds": trial.seconds,
        "needed_seeds": trial.needed_seeds,
        "rivals": {treatment: detail.rival for treatment, detail in trial.details.items() if detail.rival},
        "verdicts": [
            {
                "treatment": verdict.treatment,
                "verdict": verdict.verdict,
                "p_helps": trial.details[verdict.treatment].helps,
                "p_harms": trial.details[verdict.treatment].harms,
            }
            for verdict in trial
        ],
    }


def _rate(rate: RateStory) -> dict[str, Any]:
    return {
        "lr": rate.lr,
        "loss": rate.loss,
        "accuracy": rate.accuracy,
        "saturated": rate.saturated,
        "outcome": rate.outcome,
    }
