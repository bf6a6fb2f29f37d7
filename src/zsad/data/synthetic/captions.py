"""Sentences about a picture, for pretraining an image tower with a text tower."""

from __future__ import annotations

from .categories import CATEGORIES
from .defects import DEFECTS
from .noise import Rng

_OPENINGS = ("a photo of {}", "a photo of {}", "a close-up of {}", "an image of {}", "a picture of {}", "{}", "{}")
_OPENINGS_MORE = ("a cropped photo of {}", "a bright photo of {}", "a photo of {} for inspection", "this is {}")
_WHOLE = ("flawless {}", "perfect {}", "unblemished {}", "normal {}", "intact {}", "undamaged {}", "good {}")
_WHOLE_AFTER = ("{} without defect", "{} without flaw", "{} without damage", "{} without any anomaly")
_BROKEN = ("damaged {}", "defective {}", "abnormal {}", "flawed {}", "anomalous {}", "faulty {}")
_BROKEN_AFTER = ("{} with a defect", "{} with a flaw", "{} with damage", "{} with an anomaly")
_UNCOUNTED = frozenset(
    (
        *("woven fabric", "brushed metal", "granite", "leather", "ceramic tiles", "cork"),
        *("wood planks", "marble", "knitted wool", "concrete"),
    )
)


def _pick(rng: Rng, *options: tuple[str, ...]) -> str:
    words = [word for group in options for word in group]
    return words[int(rng.integers(len(words)))]


def _with_article(phrase: str, counted: bool) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}" if counted else phrase


def _state(defect: str | None, rng: Rng) -> str:
    """A pattern with one place for the noun."""
    if defect is None:
        return _pick(rng, _WHOLE, _WHOLE_AFTER)
    if rng.random() < 0.6:
        return "{} with " + _pick(rng, DEFECTS[defect].words)
    return _pick(rng, _BROKEN, _BROKEN_AFTER)


def caption(category: str, defect: str | None, rng: Rng) -> str:
    """A sentence that tells what is seen and whether something is wrong with it.

    Args:
        category: A name in CATEGORIES; a third of the sentences say "object", "surface" or "product" in its place.
        defect: A name in DEFECTS, named in most sentences, or None for a picture without defect.
        rng: Chooses the words.

    >>> import numpy as np
    >>> caption("gear", None, np.random.default_rng(3))
    'a photo of an unblemished object'
    """
    kind = CATEGORIES[category]
    noun = kind.prompt
    if rng.random() < 0.33:
        noun = _pick(rng, ("object", "product", "item") if kind.kind == "object" else ("object", "surface", "material"))
    phrase = _state(defect, rng).format(noun)
    return _pick(rng, _OPENINGS, _OPENINGS_MORE).format(_with_article(phrase, noun not in _UNCOUNTED))
