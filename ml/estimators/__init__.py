"""Small-verb estimators over state arrays: ``learn_one``, ``learn_many``, ``score_one``, ``score_many``."""

from ml.estimators.base import FAR_S, Estimator, Floats
from ml.estimators.counter import CounterRate, Rate
from ml.estimators.cusum import Change, Cusum
from ml.estimators.level import Level, RobustLevel
from ml.estimators.seasonal import Seasonal, Usual
from ml.estimators.silence import Pace, Silence
from ml.estimators.spread import Spread, Variance
from ml.estimators.trend import Crossing, Line, Trend, time_to_threshold

__all__ = [
    "FAR_S",
    "Change",
    "CounterRate",
    "Crossing",
    "Cusum",
    "Estimator",
    "Floats",
    "Level",
    "Line",
    "Pace",
    "Rate",
    "RobustLevel",
    "Seasonal",
    "Silence",
    "Spread",
    "Trend",
    "Usual",
    "Variance",
    "time_to_threshold",
]
