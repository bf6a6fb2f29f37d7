"""VisualAD: language-free zero-shot anomaly detection via Vision Transformer (Hou et al., CVPR 2026, arXiv:2603.07952).

Reference: 7HHHHH/VisualAD, commit 8479132d641456345019aed1c8bb6b2d11941068.

As released, and kept:
    - Both learned tokens carry the position of CLS, frozen (VisualAD_lib/build_model.py:45-53).
    - Patches of every layer and the last block's tokens pass the final norm; the projection is never used
      (VisualAD_lib/VisualAD.py:153-157).
    - The final norm is trained, but not loaded for the test (test.py:54-55). Loaded: final_norm="trained"; the paper's,
      not trained: final_norm="frozen".
    - SCA has projections, norms and a biased gate (utils/spatial_cross_attention.py:104-143). Eqs. 3 to 5 as printed:
      projections=False.
    - Scores are read from the blurred map, with k rounded up (utils/scoring.py:57); the loss sees the map unblurred.
    - AdamW with a cosine schedule, slower for all but the two tokens (utils/training_utils.py:41-78).
Not kept:
    - `k_norm.bias`: it moves all logits of an anchor alike, which no softmax sees.
    - Anchors look once for both tokens, so that in training both see the same dropout of their attention.
    - Resized position embeddings do not replace the trained ones: every size starts from those.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import layer_numbers, walk
from zsad.errors import ZsadError
from zsad.maps import cosines, smooth, upsample
from zsad.methods.base import Method, Reference, Thresholds
from zsad.methods.encoding import reads
from zsad.methods.features import Features
from zsad.methods.losses import dice, focal
from zsad.methods.recipe import Recipe
from zsad.methods.sca import POSITIONS, SCA, Positions, linear
from zsad.methods.switches import image_blocks, one_of, some_of
from zsad.types import Prediction

LOSSES = ("cls", "focal", "dice", "ctr")
NORMS = ("released", "trained", "frozen")


@dataclass(frozen=True)
class Config:
    """Switches of VisualAD; numbers of blocks are counted on 24 and scaled to the backbone's depth."""

    layers: tuple[int, ...] = (6, 12, 18, 24)  # blocks whose patches make a map, L of Sec. 3.1 (Table 4)
    sca: bool = True  # spatial-aware cross-attention (Table 2)
    saf: bool = True  # self-alignment function (Table 2)
    anchors: int = 4  # anchor queries m of SCA (Table 3)
    positions: str = "learnable-1d"  # positional modelling of SCA, one of POSITIONS (Table 5)
    position_length: int = 1536  # rows of the learnable 1D table; tables of 2D have its root per side
    projections: bool = True  # of SCA: q, k, v and output, both norms, bias of the gate; False: Eqs. 3 to 5 as printed
    residual_scale: float = 0.01  # where alpha of Eq. 5 starts
    dropout: float = 0.1  # in SCA and SAF, in training only
    final_norm: str = "released"  # trained but not used for the test; "trained": used; "frozen": the paper's
    losses: tuple[str, ...] = LOSSES  # terms of Eq. 13 (Table 2)
    margin: float = 0.5  # tau of Eq. 12
    top_share: float = 0.01  # share of pixels whose mean is the image score (Eq. 9)
    sigma: float = 4.0  # of the Gaussian over the map, in pixels; the paper has none: 0

    def __post_init__(self) -> None:
        one_of("visualad", POSITIONS, positions=self.positions)
        one_of("visualad", NORMS, final_norm=self.final_norm)
        some_of("visualad", LOSSES, losses=self.losses)
        image_blocks("visualad", layers=self.layers)
        if min(self.anchors, self.position_length) < 1 or self.sigma < 0:
            raise ZsadError("visualad: anchors and position_length are 1 or more, sigma is 0 or more")
        if not (0 <= self.dropout < 1 and 0 < self.top_share <= 1):
            raise ZsadError(f"visualad: 0 <= dropout < 1, 0 < top_share <= 1; got {self.dropout} and {self.top_share}")


@dataclass(frozen=True)
class TokenFeatures(Features):
    """An image as the first block reads it, without the two learned tokens."""

    tokens: Tensor  # [B, 1 + registers + n, D]


def make_saf(width: int, dropout: float) -> nn.Sequential:
    """The self-alignment function (Eq. 6): one hidden layer, no residual; [..., width] -> [..., width]."""
    return nn.Sequential(linear(width), nn.GELU(), nn.Dropout(dropout), linear(width), nn.Dropout(dropout))


def top_mean(maps: Tensor, share: float) -> Tensor:
    """Mean [B] of the highest values of each map [B, H, W] (Eq. 9); their number is rounded up.

    >>> top_mean(torch.arange(12.0).view(1, 3, 4), 0.2)
    tensor([10.])
    """
    values = maps.flatten(1)
    return values.topk(math.ceil(share * values.shape[1])).values.mean(1)


class VisualAD(Method):
    """Two learned tokens walk through the tower with the patches, and are then compared with them."""

    name = "visualad"
    config_class = Config
    reference = Reference(2026, "2603.07952", "7HHHHH/VisualAD", "8479132d641456345019aed1c8bb6b2d11941068", True)
    reads_text = False
    recipe = Recipe(
        rate=1e-3,
        weight_decay=0.01,
        slow=(("sca.", 0.1), ("saf.", 0.1), ("norm.", 0.1)),
        schedule="cosine",
        floor=0.1,
        clipped=("anomaly_token", "normal_token"),
        batch_size=8,
        epochs=2,  # of the checkpoint trained on MVTec AD; 1 on VisA (scripts/CLIP.sh)
    )
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        c, visual = self.config, backbone.visual
        self.layers = tuple(sorted(set(layer_numbers(c.layers, visual.depth))))
        self.anomaly_token = nn.Parameter(torch.randn(visual.width) * 0.1 * visual.width**-0.5)
        self.normal_token = nn.Parameter(torch.randn(visual.width) * 0.1 * visual.width**-0.5)
        self.sca = nn.ModuleList(self._sca(visual.width) for _ in self.layers if c.sca)
        self.saf = nn.ModuleList(make_saf(visual.width, c.dropout) for _ in self.layers if c.saf)
        self.norm = None if c.final_norm == "frozen" else copy.deepcopy(visual.norm).requires_grad_()
        self.thresholds = Thresholds(image=0.0)  # scores are differences of cosines, and logits in training
        self.eval()  # dropout acts only between train() and eval()

    def _sca(self, width: int) -> SCA:
        c = self.config
        positions = Positions(c.positions, width, c.position_length, c.anchors)
        return SCA(width, positions, c.anchors, c.projections, c.residual_scale, c.dropout)

    # Sec. 3.1: problem setting

    @reads()
    @torch.no_grad()
    def encode(self, images: Tensor) -> TokenFeatures:
        """See :class:`TokenFeatures`; CLIP's positions are resized bilinearly, DINOv2's in its own way."""
        visual = self.backbone.visual
        resize = "bilinear" if visual.size.resize == "bicubic" else None
        tokens = visual.embed(images, resize=resize)
        return TokenFeatures(visual.grid(images), tuple(images.shape[-2:]), tokens)  # type: ignore[arg-type]

    def stream(self, features: TokenFeatures) -> tuple[Tensor, list[Tensor]]:
        """Tokens [B, 2 + 1 + registers + n, D] after the last block and after each layer, not normalised."""
        visual = self.backbone.visual
        two = torch.stack([self.anomaly_token, self.normal_token]) + visual.positions[0]
        two = visual.norm_pre(two).expand(len(features.tokens), -1, -1)
        x = torch.cat([two, features.tokens], 1)  # Eq. 1
        x, tapped = walk(visual.blocks, x, self.layers)
        return x, [tapped[layer] for layer in self.layers]

    def look(self, features: TokenFeatures, learned: bool) -> tuple[Tensor, list[Tensor]]:
        """Both tokens [B, 2, D] after the last block and each layer's patches [B, n, D], behind the final norm.

        Args:
            features: Of some images.
            learned: Whether the norm is the learned one (where there is one) or the backbone's.
        """
        visual = self.backbone.visual
        norm = self.norm if learned and self.norm is not None else visual.norm
        x, layers = self.stream(features)
        return norm(x[:, :2]), [norm(visual.patches(layer[:, 2:])) for layer in layers]

    # Sec. 3.2 and 3.3

    def compare(self, tokens: Tensor, patches: list[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Tokens [B, 2, D] enhanced for each layer [L, B, 2, D], and scores of its patches [L, B, n] in [-2, 2]."""
        enhanced, scores = [], []
        for i, layer in enumerate(patches):
            two = self.sca[i](tokens, layer, grid) if self.sca else tokens
            toward = cosines(self.saf[i](layer) if self.saf else layer, two)  # Eq. 6
            enhanced.append(two)
            scores.append(toward[..., 0] - toward[..., 1])  # Eq. 7
        return torch.stack(enhanced), torch.stack(scores)

    def maps(self, features: TokenFeatures, learned: bool) -> tuple[Tensor, Tensor]:
        """Each layer's map [L, B, H, W], not blurred, and the enhanced tokens [L, B, 2, D]; see :meth:`look`."""
        tokens, patches = self.look(features, learned)
        enhanced, scores = self.compare(tokens, patches, features.grid)
        return torch.stack([upsample(layer, features.grid, features.size) for layer in scores]), enhanced

    def score(self, features: TokenFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score and blurred map, both in [-2 L, 2 L] for L layers: negative where all looks normal."""
        c = self.config
        maps, _ = self.maps(features, learned=c.final_norm == "trained")
        total = smooth(maps.sum(0), c.sigma)  # Eq. 8
        return Prediction(top_mean(total, c.top_share), total)

    @property
    def map_range(self) -> tuple[float, float]:
        """Each layer adds a difference of two cosines."""
        return -2.0 * len(self.layers), 2.0 * len(self.layers)

    @property
    def shown_range(self) -> tuple[float, float]:
        """1 below the contour to 1 above it, as maps use little of their range; less where the range ends before."""
        low, high = self.map_range
        return max(low, self.contour - 1), min(high, self.contour + 1)

    # Sec. 3.4: training objective

    def loss(
        self, features: TokenFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """The terms of Eq. 13 that the Config names; `focal` and `dice` are sums over the layers."""
        c = self.config
        maps, enhanced = self.maps(features, learned=True)
        score = top_mean(maps.sum(0), c.top_share)
        anomaly, normal = enhanced[-1].unbind(1)
        p = maps.sigmoid()
        terms = {
            "cls": F.binary_cross_entropy_with_logits(score, labels.to(score.dtype)),  # Eq. 10
            "focal": torch.stack([focal(torch.stack([1 - q, q], 1), masks) for q in p]).sum(),  # Eq. 11
            "dice": torch.stack([dice(q, masks) for q in p]).sum(),
            "ctr": (F.cosine_similarity(anomaly, normal) + c.margin).clamp(min=0).mean(),  # Eq. 12
        }
        return {name: terms[name] for name in c.losses}

    # Released checkpoints: weight/train_on_*/CLIP.pth (utils/training_utils.py:129-155)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`."""
        layers, tensors = _opened(checkpoint)
        named = {ours: tensors[theirs] for theirs, ours in released_names(layers).items()}
        return {ours: tensor.reshape(tensor.shape[-2:]) for ours, tensor in named.items()}  # positions: [1, rows, D]

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """Layers, which are counted on the 24 blocks of ViT-L, anchors, and length of the positions."""
        layers, tensors = _opened(checkpoint)
        first = f"cross_attn.layer_attentions.layer_{layers[0]}."
        anchors, positions = tensors[first + "anchor_queries"], tensors[first + "pos_encoding"]
        return {"layers": layers, "anchors": len(anchors), "position_length": positions.shape[-2]}


#: Tensors of one layer: their names in a released file -> ours
_SCA = {
    "anchor_queries": "anchors",
    "pos_encoding": "positions.table",
    "res_scale": "scale",
    **{f"gate.0.{part}": f"gate.{part}" for part in ("weight", "bias")},
    **{same: same for same in ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight", "out_proj.bias")},
    **{same: same for same in ("q_norm.weight", "q_norm.bias", "k_norm.weight")},
}
_SAF = {f"mlp.{part}": part for part in ("0.weight", "0.bias", "3.weight", "3.bias")}
_WITHOUT_EFFECT = "k_norm.bias"


def released_names(layers: Sequence[int]) -> dict[str, str]:
    """The tensors of a released checkpoint with these layers, groups joined by a dot: their names -> ours."""
    names = {name: name for name in ("anomaly_token", "normal_token")}
    names |= {f"ln_post_{part}": f"norm.{part}" for part in ("weight", "bias")}
    for i, layer in enumerate(layers):
        sca, saf = f"cross_attn.layer_attentions.layer_{layer}.", f"layer_transforms.layer_{layer}."
        names |= {sca + theirs: f"sca.{i}.{ours}" for theirs, ours in _SCA.items()}
        names |= {saf + theirs: f"saf.{i}.{ours}" for theirs, ours in _SAF.items()}
    return names


def _opened(checkpoint: Any) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """Layers and tensors of a released checkpoint, groups joined by a dot.

    Raises:
        ZsadError: Naming up to five tensors that are missing or unexpected.
    """
    layers = tuple(sorted(set(checkpoint.get("features_list", ())))) if isinstance(checkpoint, dict) else ()
    if not layers:
        raise ZsadError("not a checkpoint of VisualAD in its authors' layout: it has no features_list")
    found, wanted = dict(_tensors(checkpoint)), released_names(layers)
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted and not name.endswith(_WITHOUT_EFFECT)]
    if missing or unexpected:
        raise ZsadError(
            f"not a checkpoint of VisualAD in its authors' layout, with layers {layers}: "
            f"missing {', '.join(missing[:5]) or 'nothing'}; unexpected {', '.join(unexpected[:5]) or 'nothing'}"
        )
    return layers, found


def _tensors(parts: dict[str, Any], above: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in parts.items():
        if isinstance(value, dict):
            yield from _tensors(value, f"{above}{name}.")
        elif isinstance(value, Tensor):
            yield above + name, value
