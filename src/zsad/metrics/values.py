"""What a metric returns: a number that says how exact it is, and, where it is not defined, why."""

from __future__ import annotations

import math


class Value(float):
    """A float with two words more.

    Attributes:
        error: Largest possible distance to the exact value; 0 but for streams, and for what is not defined.
        reason: Why the value is NaN; empty otherwise.

    >>> share = Value(0.25, error=1e-6)
    >>> share, share.error, share.reason
    (0.25, 1e-06, '')
    """

    error: float
    reason: str

    def __new__(cls, value: float, error: float = 0.0, reason: str = "") -> Value:
        """Of a number; NaN needs a reason."""
        made = super().__new__(cls, value)
        made.error, made.reason = float(error), reason
        assert math.isnan(made) == bool(reason), "NaN comes with a reason, and a number without one"
        return made

    def __getnewargs__(self) -> tuple[float, float, str]:  # type: ignore[override]
        """For copies and pickles."""
        return float(self), self.error, self.reason


def undefined(reason: str) -> Value:
    """NaN, and why.

    >>> undefined(NO_NORMAL).reason
    'no normal element'
    """
    return Value(math.nan, 0.0, reason)


NO_ANOMALOUS = "no anomalous element"
NO_NORMAL = "no normal element"
