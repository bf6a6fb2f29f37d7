"""What the words and numbers of a table say of its images: normal, anomalous, or a kind of defect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zsad.data.files import ABNORMAL_NAMES, NORMAL_NAMES, plain

# "positive" in a column of labels, unlike in the name of a folder, says that what is looked for is there.
_NORMAL = {*map(plain, NORMAL_NAMES), "0", "0.0", "false", "negative", "normal_test"}  # the last is anomalib's
_ANOMALOUS = {*map(plain, ABNORMAL_NAMES), "1", "1.0", "true", "positive"}
_UNSAID = {"", "none", "null", "nan", "na", "n/a", "unknown"}

Columns = Mapping[str, Sequence[str]]  # field of a sample -> its texts


def label(text: str) -> int | str | None:
    """What a word or number says of an image: 0 normal, 1 anomalous, None nothing; itself where that is not known.

    >>> label("Good"), label("1.0"), label("nan"), label("scratch"), label("-1")
    (0, 1, None, 'scratch', '-1')
    """
    word = plain(text)
    if word in _NORMAL or word in _ANOMALOUS:
        return int(word in _ANOMALOUS)
    return None if word in _UNSAID else text


def settled(texts: Columns) -> tuple[Columns, str, str]:
    """Columns whose labels are "0", "1" or "", as the column as a whole is to be read.

    A column is believed as a whole or not at all. Where it holds words for kinds of defect beside one for normal, or
    only for images with masks, each is a defect. So are the words of a column of defects, where there are no labels;
    there, no word means normal.

    Returns:
        The columns; how they were read; and why no label was taken, "" where nothing was wrong.
    """
    if "label" not in texts:
        return (_with(texts, _by_defect(texts)), "a defect means anomalous", "") if _tells(texts) else (texts, "", "")
    words = texts["label"]
    if not any(isinstance(label(word), str) for word in words):
        return _with(texts, [_written(label(word)) for word in words]), "", ""
    normal = _word_for_normal(words)
    if normal is None and not _have_masks(texts):
        values = ", ".join(map(repr, list(dict.fromkeys(word.strip() for word in words))[:8]))
        why = f"no label was taken, since the column holds {values}; write 0 or normal, and 1 or anomalous"
        return _with(texts, [""] * len(words)), "", why
    labels = [
        "0" if plain(word) == normal else _written(1 if isinstance(label(word), str) else label(word)) for word in words
    ]
    kinds = [word if isinstance(label(word), str) else "" for word in words]
    given = texts.get("defect", [""] * len(words))
    defects = [one if one.strip() else kind for one, kind in zip(given, kinds, strict=True)]
    read = f"{normal!r} is normal, other labels are defects" if normal else "labels of images with masks are defects"
    return {**texts, "label": labels, "defect": defects}, read, ""


def _with(texts: Columns, labels: Sequence[str]) -> Columns:
    return {**texts, "label": labels}


def _written(value: int | str | None) -> str:
    return "" if value is None else str(value)


def _word_for_normal(words: Sequence[str]) -> str | None:
    """The only word for normal in a column of words; None where there is a number, or not one such word."""
    said = [word for word in set(words) if word.strip()]
    if any(map(_is_number, said)):
        return None
    normal = {plain(word) for word in said if label(word) == 0} or {plain(word) for word in said} & {"none"}
    return normal.pop() if len(normal) == 1 else None


def _have_masks(texts: Columns) -> bool:
    """Whether all labels that are not known are words, each of an image with a mask."""
    pairs = zip(texts["label"], texts.get("mask", [""] * len(texts["label"])), strict=True)
    masked = [label(mask) is not None and not _is_number(word) for word, mask in pairs if isinstance(label(word), str)]
    return bool(masked) and all(masked)


def _tells(texts: Columns) -> bool:
    """Whether a column of defects says of some images that they are normal, and of others what they have."""
    words = set(texts.get("defect", ()))
    return any(label(word) is not None for word in words) and not any(map(_is_number, words))


def _by_defect(texts: Columns) -> list[str]:
    masks = texts.get("mask", [""] * len(texts["defect"]))
    return [_of_defect(word, mask) for word, mask in zip(texts["defect"], masks, strict=True)]


def _of_defect(word: str, mask: str) -> str:
    said = label(word)
    if said is not None or plain(word) == "unknown":
        return "" if said is None else "0" if said == 0 else "1"
    return "0" if label(mask) is None else "1"


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)  # "nan" is none
    except ValueError:
        return False
