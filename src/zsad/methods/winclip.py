"""WinCLIP, zero-shot: windows of patches beside hand-written sentences (Jeong et al., CVPR 2023, arXiv:2303.14814).

Reference: caoyunkang/WinClip, commit 0818c9d3aa450ee7fee13be9890b84ac42f2380c, not by the authors of the paper. The
paper was not read for this file: what is said of it is what two other re-implementations agree on (docs/methods).

As released, and kept:
    - Windows of 2 x 2 and 3 x 3 patches; the whole image takes no part (eval_WinCLIP.py:149). In the paper it does:
      scales=(2, 3, 0).
    - Patches keep the positions that they have in the image (WinCLIP/CLIPAD/transformer.py:699-700, 724-760).
    - Over windows and scales, the harmonic mean of the NORMAL probabilities is taken, and the map is one minus it
      (WinCLIP/model.py:172-195). The paper's is that of the anomaly scores: aggregation="anomaly".
    - Without reference images the map is joined with itself and so halved (WinCLIP/model.py:250-260): halved.
    - The image score is the largest value of the map (utils/metrics.py:20). The paper's, of CLS: image_score="cls".
    - Sentences are averaged before, not after, they are brought to length 1 (WinCLIP/model.py:115-141, "V1").
    - Class names as given, "metal_nut" with its underscore (eval_WinCLIP.py:25); positions resized bicubically.
Not kept:
    - Half precision (WinCLIP/model.py:32, 80-81) and images in the order blue, green, red (datasets/dataset.py:45).
    - Maps of 400 x 400 pixels (eval_WinCLIP.py:134): they have the size of the input here, as with every method.
    - One gather and one sum per window (WinCLIP/CLIPAD/transformer.py:607-618, WinCLIP/model.py:162-191): see
      WinCLIP.encode, spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import walk
from zsad.errors import ZsadError
from zsad.maps import probabilities, upsample
from zsad.methods.base import Reference, Thresholds, TrainingFree
from zsad.methods.features import Features
from zsad.methods.prompts import Ensemble, composed, one_name_each, sentence_parts
from zsad.methods.switches import one_of
from zsad.types import Prediction

#: Tokens in one pass through the tower, as many as six images at 518 pixels have: bounds the memory (ViT-L/14's widest
#: tensor takes 128 MiB), while all windows of such an image take three passes. A CPU gains nothing beyond 1024 tokens.
TOKENS = 2**13

STATES = ("normality", "anomaly")  # in the order of the text features


@dataclass(frozen=True)
class Config:
    """Switches of WinCLIP; the paper's: scales=(2, 3, 0), aggregation="anomaly", image_score="cls", halved=False."""

    scales: tuple[int, ...] = (2, 3)  # sides of the windows, in patches; 0 is the whole image
    aggregation: str = "normality"  # what the harmonic mean is taken of; the map is 1 - it. "anomaly": the map is it
    image_score: str = "map"  # its largest value; "cls": the anomaly score of the whole image
    halved: bool = True  # maps end at 0.5 instead of 1; changes no order
    temperature: float = 0.01  # divides the cosines; 0.07 in other re-implementations

    def __post_init__(self) -> None:
        c = self.scales
        if not c or min(c) < 0 or len(set(c)) < len(c):
            raise ZsadError(f"winclip: scales are sides in patches, each once, 0 for the whole image; got {c}")
        one_of("winclip", STATES, aggregation=self.aggregation)
        one_of("winclip", ("map", "cls"), image_score=self.image_score)
        if self.temperature <= 0:
            raise ZsadError(f"winclip: the temperature must be above 0; got {self.temperature}")


@dataclass(frozen=True)
class WindowFeatures(Features):
    """What the image tower says about every window."""

    windows: Tensor  # [B, W, E], not normalised; scale by scale, each row by row


def window_tokens(grid: tuple[int, int], side: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Places in the token sequence of CLS and of the patches of every complete window, at every patch.

    Args:
        grid: Rows and columns of patches.
        side: Rows and columns of a window.
        device: Of the result.

    Returns:
        [W, 1 + area] int64; windows row by row, and so the patches in each. Token 0 is CLS.

    >>> window_tokens((2, 3), (2, 2))
    tensor([[0, 1, 2, 4, 5],
            [0, 2, 3, 5, 6]])
    """
    places = torch.arange(1, 1 + grid[0] * grid[1], device=device).view(grid)
    windows = places.unfold(0, side[0], 1).unfold(1, side[1], 1)
    return F.pad(windows.reshape(-1, side[0] * side[1]), (1, 0))


def spread(values: Tensor, grid: tuple[int, int], side: tuple[int, int]) -> Tensor:
    """For each patch the mean over the windows that cover it.

    Args:
        values: [B, W], one per window of :func:`window_tokens`.
        grid: Rows and columns of patches.
        side: Rows and columns of a window.

    Returns:
        [B, rows * columns], row by row. Infinite where a value is, never NaN.

    >>> spread(torch.tensor([[1.0, 3.0]]), (2, 3), (2, 2))
    tensor([[1., 2., 3., 1., 2., 3.]])
    """
    both = torch.stack([values, torch.ones_like(values)], 1)
    total, count = F.fold(both.repeat_interleave(side[0] * side[1], 1), grid, side).flatten(2).unbind(1)
    return total / count


class WinCLIP(TrainingFree):
    """Each window goes through the tower by itself, and its CLS is compared with the two means of sentences."""

    name = "winclip"
    config_class = Config
    reads_names = True
    reference = Reference(
        2023,
        "2303.14814",
        "caoyunkang/WinClip",
        "0818c9d3aa450ee7fee13be9890b84ac42f2380c",
        golden=True,
        backbone="clip-vit-b-16-plus-240",
    )
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        self.ensemble = Ensemble(*self.text_parts(), self.sentences, normalised=False)
        highest = self.map_range[1] if self.config.image_score == "map" else 1.0
        self.thresholds = Thresholds(image=highest / 2)

    # Sec. 4.1: compositional prompt ensemble

    @staticmethod
    def sentences(class_name: str) -> list[list[str]]:
        """154 normal and 88 anomalous sentences: each template with each state."""
        parts = sentence_parts("winclip")
        return [
            composed(parts[kind], parts["templates"], class_name, by_state=False) for kind in ("normal", "anomalous")
        ]

    # Sec. 4.2: features of windows

    @property
    def scales(self) -> tuple[int, ...]:
        """All that are encoded: those of the map, and the whole image where its score is asked for."""
        c = self.config
        return c.scales + ((0,) if c.image_score == "cls" and 0 not in c.scales else ())

    def sides(self, grid: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows and columns of the windows of each scale.

        Raises:
            ZsadError: If a window does not fit the grid.
        """
        if max(self.scales) > min(grid):
            raise ZsadError(
                f"winclip: windows of {max(self.scales)} x {max(self.scales)} patches do not fit the image's "
                f"{grid[0]} x {grid[1]}; enlarge the input, or choose smaller scales (0 is the whole image)"
            )
        return [(scale, scale) if scale else grid for scale in self.scales]

    @torch.no_grad()
    def encode(self, images: Tensor) -> WindowFeatures:
        """See :class:`WindowFeatures`. The image is embedded once; windows share dense passes of :data:`TOKENS`."""
        visual = self.backbone.visual
        grid = visual.grid(images)
        sides = self.sides(grid)
        x = visual.embed(images, resize="bicubic")  # positions and norm act token by token, so windows may come after
        windows = torch.cat([self._passed(x, window_tokens(grid, side, x.device)) for side in sides], 1)
        return WindowFeatures(grid, tuple(images.shape[-2:]), windows)  # type: ignore[arg-type]

    def _passed(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Projected CLS [B, W, E] of the sequences [W, L] of tokens of x [B, N, D]."""
        visual = self.backbone.visual
        together = max(1, TOKENS // (len(x) * tokens.shape[1]))
        passed = []
        for some in torch.split(tokens, together):
            out, _ = walk(visual.blocks, x[:, some].flatten(0, 1))
            passed.append(visual.head(out[:, 0]).view(len(x), len(some), -1))
        return torch.cat(passed, 1)

    # Sec. 4.2: harmonic aggregation over windows and scales

    def score(self, features: WindowFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Score and map in :attr:`map_range`, or the score of the whole image in [0, 1]; in full precision."""
        c, text = self.config, self.ensemble(one_name_each(class_names, len(features)))
        with torch.autocast(text.device.type, enabled=False):  # cosines count a hundredfold
            scores = self.window_scores(features, text)
        patches = self.patch_map(scores, features.grid)
        maps = upsample(patches / 2 if c.halved else patches, features.grid, features.size)
        whole = maps.flatten(1).amax(1) if c.image_score == "map" else scores[self.scales.index(0)][:, 0, 1]
        return Prediction(whole, maps)

    def window_scores(self, features: WindowFeatures, text: Tensor) -> tuple[Tensor, ...]:
        """Per scale, probabilities [B, W, 2] of (normal, anomalous) for every window; text [B, 2, E]."""
        (rows, columns), sides = features.grid, self.sides(features.grid)
        counts = [(rows - height + 1) * (columns - width + 1) for height, width in sides]
        return torch.split(probabilities(features.windows.float(), text, self.config.temperature), counts, dim=1)

    def patch_map(self, scores: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """[B, rows * columns] in [0, 1], not halved, of what :meth:`window_scores` gives."""
        state = STATES.index(self.config.aggregation)
        count = len(self.config.scales)  # the whole image comes after them where only its score is asked for
        mapped = zip(scores[:count], self.sides(grid)[:count], strict=True)
        mean = 1 / torch.stack([spread(1 / p[..., state], grid, side) for p, side in mapped]).mean(0)
        return mean if self.config.aggregation == "anomaly" else 1 - mean

    @property
    def map_range(self) -> tuple[float, float]:
        """See :class:`Config`, halved."""
        return 0.0, 0.5 if self.config.halved else 1.0
