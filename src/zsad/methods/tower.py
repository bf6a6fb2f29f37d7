"""Features of a whole frozen image tower: CLS of its ordinary stream, and patches of that or of streams beside it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from zsad.backbones.vit import layer_numbers
from zsad.methods.base import Method
from zsad.methods.encoding import reads
from zsad.methods.features import TowerFeatures
from zsad.methods.streams import SELF_ATTENTION, side_streams


@dataclass(frozen=True)
class Streams:
    """What is taken from a tower; numbers of blocks are counted on 24 and scaled to its depth."""

    attention: tuple[str, ...] = ("vv",)  # of the patches: of SELF_ATTENTION, or "plain", the ordinary stream
    start: int = 6  # first block with such attention
    layers: tuple[int, ...] = (24,)  # blocks whose patches are taken, in the order of the blocks
    positions: str = "bilinear"  # how position embeddings are resized
    final_norm: bool = False  # of CLS; patches always pass it


class BehindTower(Method):
    """A method that learns behind the whole tower. Two that take the same streams have the same features."""

    @property
    @abstractmethod
    def streams(self) -> Streams:
        """What it takes from the tower."""

    @reads("streams")
    @torch.no_grad()
    def encode(self, images: Tensor) -> TowerFeatures:
        """See :class:`~zsad.methods.features.TowerFeatures`; M = kinds of attention x layers, kinds first."""
        visual, wanted = self.backbone.visual, self.streams
        start, *layers = layer_numbers((wanted.start, *wanted.layers), visual.depth)
        mixes = {kind: SELF_ATTENTION[kind] for kind in wanted.attention if kind != "plain"}
        tapped: dict[str, list[Tensor]] = {kind: [] for kind in wanted.attention}
        x = visual.embed(images, resize=wanted.positions)
        for step in side_streams(visual.blocks, x, mixes, start):
            x = step.after
            if step.number in layers:
                for kind, streams in tapped.items():
                    streams.append(visual.patches(visual.head(step.sides.get(kind, x))))
        image = visual.head(x[:, 0]) if wanted.final_norm else visual.project(x[:, 0])
        patches = torch.stack([p for kind in wanted.attention for p in tapped[kind]], 1)
        return TowerFeatures(visual.grid(images), (images.shape[-2], images.shape[-1]), image, patches)
