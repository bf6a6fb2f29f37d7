"""Pretrain the embedded backbone `tiny` on captioned pictures of the auxiliary families.

    python tools/pretrain_tiny.py --bank .cache/bank --out .cache/pretrained

Three objectives, all read against the text tower at the temperature 0.07 that the methods of this field use, and the
last two once more on a linear probe that is thrown away: it leads the image tower while the words mean nothing yet.

- global: CLS against the captions of the batch, true ones and ones of the opposite state (Radford et al. 2021, with
  every caption that also fits the picture counted as a positive);
- state: CLS against its own pair of captions (normal, anomalous), with and without the final norm: methods read both;
- dense: patch tokens, of the ordinary stream and of the V-V stream (AnomalyCLIP, Sec. 3.3), against the same pair.

No picture, caption or word of the unseen families is used. The same seed and steps give the same weights on one
machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch
import torch.distributed
import torch.multiprocessing
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from zsad.backbones.clip import CLIP, HF_CLIP, OPENAI_MEAN, OPENAI_STD, TextSize, TextTower
from zsad.backbones.tokenizer import END, START, Tokenizer
from zsad.backbones.vit import ViT, ViTSize, layer_numbers
from zsad.data.synthetic import CATEGORIES, DEFECTS, caption, render

IMAGE = ViTSize(width=256, depth=6, heads=4, patch=8, grid=16, output=128, activation="gelu")
TEXT = TextSize(width=128, depth=4, heads=2, vocabulary=1024, context=77, output=128, activation="gelu")
SIDE = 160  # pixels of a rendered picture
SCALE = 1 / 0.07  # of every cosine
AUXILIARY = [name for name, kind in CATEGORIES.items() if kind.half == "auxiliary"]
WORDS = """
a photo of the. an image of a good, perfect, flawless, unblemished, intact, normal, healthy object without flaw.
a damaged, broken, defective, abnormal, imperfect, faulty object with a flaw, defect, damage, lesion, tumor, anomaly.
a cropped, close-up, blurry, bright, dark, black and white, low resolution,
jpeg corrupted photo of one small, large part.
industrial product surface, medical scan, texture for visual inspection, anomaly detection,
with or without any contamination."""


Row = tuple[str, str | None, int]  # category, defect or None, seed of the scene


@dataclass(frozen=True)
class Stage:
    """Some steps at one image size."""

    size: int  # pixels per side
    steps: int
    batch: int
    crop: tuple[float, float]  # side of the crop, of the rendered side


# --- data ------------------------------------------------------------------------------------------------------------


def plan(count: int, seed: int) -> list[Row]:
    """Category, defect and seed of every picture: pairs of the same scene, whole (None) and then damaged."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for i in range(count // 2):
        name = AUXILIARY[i % len(AUXILIARY)]
        defects = sorted(CATEGORIES[name].defects)
        scene = 1_000_000 + seed * 100_000 + i
        rows += [(name, None, scene), (name, defects[rng.integers(len(defects))], scene)]
    return rows


def render_row(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Picture [S, S, 3] uint8 and mask [S, S] bool of one row of the plan."""
    made = render(row[0], row[1], row[2], SIDE)
    return made.image, made.mask


def bank(folder: Path, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[Row]]:
    """Pictures [n, S, S, 3], masks [n, S, S] and their plan; rendered once, then read from the folder."""
    rows = plan(count, seed)
    images_file, masks_file = folder / f"images_{seed}_{count}.npy", folder / f"masks_{seed}_{count}.npy"
    if not masks_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images = np.empty((count, SIDE, SIDE, 3), np.uint8)
        masks = np.empty((count, SIDE, SIDE), np.bool_)
        with ProcessPoolExecutor() as pool:
            for i, (image, mask) in enumerate(pool.map(render_row, rows, chunksize=32)):
                images[i], masks[i] = image, mask
        np.save(images_file, images)
        np.save(masks_file, masks)
    return np.load(images_file, mmap_mode="r"), np.load(masks_file, mmap_mode="r"), rows


def centres(masks: Tensor) -> Tensor:
    """Middle (x, y) in [-1, 1] of each mask [B, S, S]; the picture's middle where it is empty."""
    place = torch.linspace(-1, 1, masks.shape[-1])
    weight = masks.float()
    total = weight.sum((1, 2)).clamp(min=1)
    return torch.stack([(weight.sum(1) * place).sum(1) / total, (weight.sum(2) * place).sum(1) / total], dim=1)


def view(images: Tensor, masks: Tensor, stage: Stage, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops, turns, flips and colour changes, the same for both pictures of a pair; noise of their own.

    Args:
        images: [B, S, S, 3] uint8, pairs of the same scene next to each other.
        masks: [B, S, S] bool.
        stage: Size of the result and range of the crops, four in five of which hold the defect.
        generator: Source of all randomness.

    Returns:
        images [B, 3, size, size], normalised, and masks [B, size, size] in [0, 1].
    """
    count = len(images)

    def draw(*shape: int) -> Tensor:
        return torch.rand(count // 2, *shape, generator=generator).repeat_interleave(2, 0)

    side = stage.crop[0] + (stage.crop[1] - stage.crop[0]) * draw()
    angle = (draw() < 0.5) * (draw() - 0.5) * math.pi / 3 + (draw() * 4).floor() * math.pi / 2
    flip = (draw() < 0.5) * 2.0 - 1.0
    free = (1 - side)[:, None]
    wanted = centres(masks[1::2]).repeat_interleave(2, 0) + (draw(2) * 2 - 1) * 0.8 * side[:, None]
    shift = torch.where(draw(1) < 0.8, wanted.clamp(-free, free), (draw(2) * 2 - 1) * free)
    cos, sin = angle.cos() * side, angle.sin() * side
    theta = torch.stack([cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]], dim=1).view(count, 2, 3)
    grid = F.affine_grid(theta, [count, 4, stage.size, stage.size], align_corners=False)
    planes = torch.cat([images.permute(0, 3, 1, 2).float() / 255, masks[:, None].float()], dim=1)
    planes = F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    x, mask = planes[:, :3], planes[:, 3]
    gain = 1 + (draw(1, 1, 1) - 0.5) * 0.5 + (draw(3, 1, 1) - 0.5) * 0.2
    x = ((x - 0.5) * (1 + (draw(1, 1, 1) - 0.5) * 0.5) + 0.5) * gain + (draw(1, 1, 1) - 0.5) * 0.1
    x = torch.where(draw(1, 1, 1) < 0.1, x.mean(1, keepdim=True), x)
    x = x + torch.randn(x.shape, generator=generator) * 0.02 * draw(1, 1, 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OPENAI_MEAN, OPENAI_STD))
    return (x.clamp(0, 1) - mean) / std, mask


def captions(rows: list[Row], anomalous: Tensor, rng: np.random.Generator) -> tuple[list[str], Tensor]:
    """A normal and an anomalous caption per picture, and which captions fit which pictures.

    Returns:
        2B sentences, B normal then B anomalous; fits [B, 2B] bool.
    """
    texts: list[str] = []
    meant: list[tuple[str, str | None]] = []  # what a caption names: category or "", defect or "" (any), None (normal)
    shown = [(name, (defect if bad else None)) for (name, defect, _), bad in zip(rows, anomalous.tolist(), strict=True)]
    for state in (False, True):
        for name, defect in shown:
            told = (defect or str(rng.choice(sorted(CATEGORIES[name].defects)))) if state else None
            text = caption(name, told, rng)
            texts.append(text)
            names_defect = told is None or any(word in text for word in DEFECTS[told].words)
            meant.append((name if CATEGORIES[name].prompt in text else "", told if names_defect else ""))
    fits = [
        [c in ("", name) and (d == defect or (d == "" and defect is not None)) for c, d in meant]
        for name, defect in shown
    ]
    return texts, torch.tensor(fits)


# --- model -----------------------------------------------------------------------------------------------------------


def train_tokenizer(seed: int) -> tokenizers.Tokenizer:
    """A byte-level BPE of 1024 tokens from captions of the auxiliary families and the field's usual prompt words."""
    rng = np.random.default_rng(seed)
    corpus = [
        caption(name, d, rng)
        for name in AUXILIARY
        for d in [None, *sorted(CATEGORIES[name].defects)]
        for _ in range(20)
    ]
    encoder = tokenizers.Tokenizer(models.BPE())
    encoder.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    encoder.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT.vocabulary,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    encoder.train_from_iterator([*corpus, *(WORDS.splitlines() * 20)], trainer)
    return encoder


def dct_patches(patch: int) -> Tensor:
    """Patch filters [3*p*p, 3, p, p]: the DCT of luminance and of two colour differences, at about equal response."""
    k = torch.arange(patch, dtype=torch.float32)
    basis = torch.cos(math.pi / patch * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / patch)
    basis[0] /= math.sqrt(2)
    planes = torch.einsum("ux,vy->uvxy", basis, basis)
    gain = 0.12 * (1 + k[:, None] + k[None, :])  # natural pictures fall off about as 1 / frequency
    planes = (planes * gain[:, :, None, None]).flatten(0, 1)
    colours = torch.tensor([[0.6, 0.6, 0.6], [1.0, 0.0, -1.0], [0.5, -1.0, 0.5]])
    return (planes[None, :, None] * colours[:, None, :, None, None]).flatten(0, 1)


def sines(grid: int, width: int) -> Tensor:
    """Position embeddings [1 + grid*grid, width] that start as sines of row and column; zero for CLS."""
    place = torch.arange(grid)[:, None] * torch.exp(-math.log(100.0) * torch.arange(width // 4) / (width // 4))
    one = torch.cat([place.sin(), place.cos()], dim=1)
    rows, columns = one[:, None].expand(-1, grid, -1), one[None].expand(grid, -1, -1)
    return torch.cat([torch.zeros(1, width), torch.cat([rows, columns], dim=2).flatten(0, 1)])


@torch.no_grad()
def initialise(model: CLIP) -> None:
    """CLIP's published initial widths, but for the image tower's patches (DCT) and positions (sines)."""
    visual, text = model.visual, model.text
    assert text is not None
    for tower in (visual, text):
        width, depth = tower.size.width, tower.size.depth
        for block in tower.blocks:
            torch.nn.init.normal_(block.in_proj.weight, std=width**-0.5)
            torch.nn.init.normal_(block.out_proj.weight, std=width**-0.5 * (2 * depth) ** -0.5)
            torch.nn.init.normal_(block.mlp.fc1.weight, std=(2 * width) ** -0.5)
            torch.nn.init.normal_(block.mlp.fc2.weight, std=width**-0.5 * (2 * depth) ** -0.5)
            for layer in (block.in_proj, block.out_proj, block.mlp.fc1, block.mlp.fc2):
                torch.nn.init.zeros_(layer.bias)
        torch.nn.init.normal_(tower.positions, std=0.02)
        torch.nn.init.normal_(tower.proj, std=width**-0.5)
    torch.nn.init.normal_(visual.cls, std=0.02)
    torch.nn.init.normal_(visual.patch_embed.weight, std=0.02)
    torch.nn.init.normal_(text.token_embedding.weight, std=0.02)
    filters = dct_patches(visual.size.patch)
    visual.patch_embed.weight[: len(filters)] = filters
    visual.positions.copy_(0.3 * sines(visual.size.grid, visual.width))


def half_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Ordinary attention in bfloat16 by plain products: with gradients, on a CPU, faster than the fused one."""
    with torch.autocast("cpu", enabled=False):
        q, k, v = (t.bfloat16() for t in (q * q.shape[-1] ** -0.5, k, v))
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def streams(model: CLIP, images: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of the ordinary and of the V-V stream, each [B, 1 + n, D]; both as AnomalyCLIP's encoder walks them."""
    visual = model.visual
    (start,) = layer_numbers((6,), visual.depth)
    x = visual.embed(images, resize="bilinear")
    side = x
    for i, block in enumerate(visual.blocks, start=1):
        q, k, v = block.qkv(x)
        if i >= start:
            side = (x if i == start else side) + block.out(half_attention(v, v, v))
        x = x + block.out(half_attention(q, k, v))
        x = x + block.feed(x)
    return x, side


# --- objectives ------------------------------------------------------------------------------------------------------


def unit(x: Tensor) -> Tensor:
    """Vectors of length one, in float32."""
    return F.normalize(x.float(), dim=-1)


def contrast(images: Tensor, texts: Tensor, fits: Tensor) -> Tensor:
    """Symmetric contrastive loss with several positives: minus the log of the probability of all that fit."""
    logits = SCALE * images @ texts.T
    hidden = logits.masked_fill(~fits, -torch.inf)
    image_loss = (logits.logsumexp(1) - hidden.logsumexp(1)).mean()
    used = fits.any(0)
    return (image_loss + (logits.logsumexp(0) - hidden.logsumexp(0))[used].mean()) / 2


def dense(tokens: Tensor, pair: Tensor, target: Tensor) -> Tensor:
    """How well patches tell their pair of captions apart.

    Args:
        tokens: [B, n, E] unit patch features.
        pair: [B, 2, E] unit text features (normal, anomalous).
        target: [B, n] in [0, 1].
    """
    return balanced(SCALE * torch.einsum("bne,be->bn", tokens, pair[:, 1] - pair[:, 0]), target)


def balanced(logit: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of patches, the anomalous ones counting five times, and half the Dice; both [B, n]."""
    entropy = F.binary_cross_entropy_with_logits(logit, target, weight=1 + 4 * target)
    p = logit.sigmoid()
    return entropy + 0.5 * (1 - (2 * (p * target).sum(1) + 1) / (p.sum(1) + target.sum(1) + 1)).mean()


def losses(
    model: CLIP, probe: torch.nn.Linear, images: Tensor, mask: Tensor, rows: list[Row], rng: np.random.Generator
) -> dict[str, Tensor]:
    """The named terms for one batch."""
    visual, text, tokenizer = model.visual, model.text, model.tokenizer
    assert text is not None and tokenizer is not None
    share = mask.flatten(1).mean(1)
    anomalous = share > 0.001
    texts, fits = captions(rows, anomalous, rng)
    unique = sorted(set(texts))
    told = unit(text(*tokenizer(unique)))[torch.tensor([unique.index(t) for t in texts])]
    pair = told.view(2, len(images), -1).transpose(0, 1)
    x, side = streams(model, images)
    heads = unit(visual.head(x[:, 0])), unit(visual.project(x[:, 0]))
    clear = anomalous | (share == 0)  # a crop that only grazes a defect says nothing about the picture
    target = (2 * F.avg_pool2d(mask[:, None], visual.size.patch)).clamp(max=1).flatten(1)
    state = [
        F.cross_entropy(SCALE * torch.einsum("be,bse->bs", h, pair)[clear], anomalous[clear].long()) for h in heads
    ]
    seen = probe(visual.norm(torch.cat([x, side[:, 1:]], dim=1))).float()[..., 0]
    direct = F.binary_cross_entropy_with_logits(seen[clear, 0], anomalous[clear].float())
    return {
        "probe": direct + balanced(seen[:, 1:], target.repeat(1, 2)),
        "global": contrast(heads[0], told, fits),
        "state": state[0] + state[1],
        "dense": dense(unit(visual.head(x[:, 1:])), pair, target),
        "dense_vv": dense(unit(visual.head(side[:, 1:])), pair, target),
    }


# --- the run ---------------------------------------------------------------------------------------------------------


def rate(step: int, total: int, peak: float) -> float:
    """Learning rate: a short warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / 150)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total)))


def hugging_face_state(model: CLIP) -> dict[str, Tensor]:
    """The weights under the names of Hugging Face's CLIPModel, in half precision."""
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        names = HF_CLIP.theirs(name)
        parts = tensor.chunk(3) if len(names) == 3 else [tensor]  # q, k and v
        state |= zip(names, (part.T if name.endswith(".proj") else part for part in parts), strict=True)
    return {name: tensor.half().contiguous() for name, tensor in state.items()}


def hugging_face_config() -> dict[str, object]:
    """config.json of a Hugging Face CLIPModel."""

    def tower(size: ViTSize | TextSize) -> dict[str, object]:
        return {
            "hidden_size": size.width,
            "intermediate_size": 4 * size.width,
            "num_hidden_layers": size.depth,
            "num_attention_heads": size.heads,
            "hidden_act": size.activation,
            "layer_norm_eps": 1e-5,
            "projection_dim": size.output,
        }

    vision = tower(IMAGE) | {"image_size": IMAGE.grid * IMAGE.patch, "patch_size": IMAGE.patch}
    text = tower(TEXT) | {
        "vocab_size": TEXT.vocabulary,
        "max_position_embeddings": TEXT.context,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": IMAGE.output,
        "vision_config": vision | {"model_type": "clip_vision_model"},
        "text_config": text | {"model_type": "clip_text_model"},
    }


def save(model: CLIP, out: Path) -> None:
    """Write config.json, model.safetensors and tokenizer.json, the folder form of a Hugging Face CLIPModel."""
    out.mkdir(parents=True, exist_ok=True)
    save_file(hugging_face_state(model), out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(hugging_face_config(), indent=2) + "\n")
    assert model.tokenizer is not None
    model.tokenizer.encoder.save(str(out / "tokenizer.json"))


def optimizers_of(named: list[tuple[str, torch.nn.Parameter]]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for everything else; learning rates are set at each step."""
    inside = [p for n, p in named if "blocks" in n and p.ndim == 2]
    other = [p for n, p in named if "blocks" not in n and p.ndim >= 2 and "positions" not in n]
    rest = [p for n, p in named if p.ndim < 2 or "positions" in n]
    groups = [{"params": other, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    muon = torch.optim.Muon(inside, lr=0.0, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(groups, 0.0, (0.9, 0.98))]


def average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Mean of the gradients over all processes, in one exchange."""
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def run(rank: int, args: argparse.Namespace) -> None:
    """One process: pretrain on its share of every batch, save every 250 steps, go on from the last save."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(args.out / "store"), args.processes)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=args.processes)
    torch.manual_seed(args.seed)
    model = CLIP(ViT(IMAGE), TextTower(TEXT), Tokenizer(train_tokenizer(args.seed)))
    model.logit_scale.requires_grad_(False)
    initialise(model)
    probe = torch.nn.Linear(IMAGE.width, 1)
    named = [(n, p) for n, p in (*model.named_parameters(), *probe.named_parameters("probe")) if p.requires_grad]
    optimizers = optimizers_of(named)
    step, last = 0, args.out / "last.pt"
    if last.exists():
        kept = torch.load(last, weights_only=True)
        model.load_state_dict(kept["model"])
        probe.load_state_dict(kept["probe"])
        for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step = kept["step"]
    stages = [Stage(64, args.small, 48, (0.35, 0.85)), Stage(128, args.large, 24, (0.75, 1.0))]
    total = sum(stage.steps for stage in stages)
    images, masks, rows = bank(args.bank, args.count, args.seed)
    began = time.time()
    while step < total:
        stage = stages[0] if step < args.small else stages[1]
        rng = np.random.default_rng([args.seed, step, rank])
        generator = torch.Generator().manual_seed((args.seed * 1_000_003 + step) * args.processes + rank)
        pairs = rng.choice(len(images) // 2, stage.batch // 2, replace=False)
        chosen = np.stack([2 * pairs, 2 * pairs + 1], 1).ravel()
        x, mask = view(torch.from_numpy(images[chosen]), torch.from_numpy(masks[chosen]), stage, generator)
        for optimizer, peak in zip(optimizers, (3 * args.rate, args.rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, total, peak)
        with torch.autocast("cpu", torch.bfloat16):
            terms = losses(model, probe, x, mask, [rows[i] for i in chosen], rng)
        for optimizer in optimizers:
            optimizer.zero_grad()
        late = min(1.0, max(0.1, (step - 600) / 400))  # what CLS should say comes after what the patches should
        near = terms["probe"] + 2 * terms["dense"] + 2 * terms["dense_vv"]
        (near + late * (terms["global"] + terms["state"])).backward()
        average_gradients([p for _, p in named])
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        if rank == 0 and step % 20 == 0:
            with (args.out / "curve.csv").open("a", newline="") as file:
                values = (f"{v.item():.4f}" for v in terms.values())
                csv.writer(file).writerow([step, stage.size, round(time.time() - began), *values])
        if rank == 0 and (step % 250 == 0 or step == total):
            kept = {"model": model.state_dict(), "probe": probe.state_dict()}
            kept |= {"optimizers": [o.state_dict() for o in optimizers], "step": step}
            torch.save(kept, args.out / "part.pt")
            (args.out / "part.pt").replace(last)
            save(model, args.out / "tiny")
    torch.distributed.destroy_process_group()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True, help="folder that keeps the rendered pictures (2 GB)")
    parser.add_argument("--out", type=Path, required=True, help="folder for curve.csv, last.pt and the model in tiny/")
    parser.add_argument("--count", type=int, default=20_000, help="pictures in the bank")
    parser.add_argument("--small", type=int, default=1500, help="steps at 64 px, 48 pictures a process")
    parser.add_argument("--large", type=int, default=700, help="steps at 128 px, 24 pictures a process")
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate")
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "store").unlink(missing_ok=True)
    bank(args.bank, args.count, args.seed)
    torch.multiprocessing.spawn(run, (args,), args.processes)


if __name__ == "__main__":
    main()
