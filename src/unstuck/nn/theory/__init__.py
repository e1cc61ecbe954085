"""Theory of deep networks at initialisation: what layers do to signals and gradients, before any training."""

from unstuck.nn.theory.batch_norm import batch_norm_growth
from unstuck.nn.theory.correlations import (
    correlation_fixed_point,
    correlation_map,
    depth_scale,
    relu_correlation_map,
)
from unstuck.nn.theory.critical import Critical, critical, critical_at
from unstuck.nn.theory.dead_units import UnitOdds, born_dead_bound, born_dead_three_layers, unit_on_interval
from unstuck.nn.theory.functions import Activation, Function, function
from unstuck.nn.theory.gradients import Phase, chi1, gradient_depth_scale, gradient_factor, phase
from unstuck.nn.theory.isometry import Isometry, isometry, singular_values
from unstuck.nn.theory.lengths import length_fixed_point, length_map
from unstuck.nn.theory.predict import Expected, predict
from unstuck.nn.theory.rate_limit import RateLimit, rate_limit
from unstuck.nn.theory.sharpness import sharpness

__all__ = [
    "Activation",
    "Critical",
    "Expected",
    "Function",
    "Isometry",
    "Phase",
    "RateLimit",
    "UnitOdds",
    "batch_norm_growth",
    "born_dead_bound",
    "born_dead_three_layers",
    "chi1",
    "correlation_fixed_point",
    "correlation_map",
    "critical",
    "critical_at",
    "depth_scale",
    "function",
    "gradient_depth_scale",
    "gradient_factor",
    "isometry",
    "length_fixed_point",
    "length_map",
    "phase",
    "predict",
    "rate_limit",
    "relu_correlation_map",
    "sharpness",
    "singular_values",
    "unit_on_interval",
]
