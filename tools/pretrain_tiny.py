"""Pretrain the embedded backbone `tiny` on captioned pictures of the auxiliary families.

    python tools/pretrain_tiny.py --bank .cache/bank --out src/zsad/backbones/tiny

Three objectives, all read against the text tower at the temperature 0.07 that the methods of this field use:

- global: CLS against the captions of the batch, true ones and ones of the opposite state (Radford et al. 2021, with every
  caption that also fits the picture counted as a positive);
- state: CLS against its own pair of captions (normal, anomalous), with and without the final norm, as methods read both;
- dense: patch tokens, of the ordinary stream and of the V-V stream (AnomalyCLIP, Sec. 3.3), against the same pair.

No picture, caption or word of the unseen families is used. The same seed and steps give the same weights on one machine.
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

from zsad.backbones.clip import CLIP, OPENAI_MEAN, OPENAI_STD, TextSize, TextTower
from zsad.backbones.tokenizer import END, START, Tokenizer
from zsad.backbones.vit import ViT, ViTSize, layer_numbers
from zsad.data.synthetic import CATEGORIES, DEFECTS, caption, render

IMAGE = ViTSize(width=256, depth=6, heads=4, patch=8, grid=16, output=128, activation="gelu")
TEXT = TextSize(width=128, depth=4, heads=2, vocabulary=1024, context=77, output=128, activation="gelu")
SIDE = 160  # pixels of a rendered picture
SCALE = 1 / 0.07  # of every cosine
AUXILIARY = [name for name, category in CATEGORIES.items() if category.half == "auxiliary"]
WORDS = """a photo of the. an image of a good, perfect, flawless, unblemished, intact, normal, healthy object without flaw.
a damaged, broken, defective, abnormal, imperfect, faulty object with a flaw, defect, damage, lesion, tumor, anomaly.
a cropped, close-up, blurry, bright, dark, black and white, low resolution, jpeg corrupted photo of one small, large part.
industrial product surface, medical scan, texture for visual inspection, anomaly detection, with or without any contamination."""


@dataclass(frozen=True)
class Stage:
    """Some steps at one image size."""

    size: int  # pixels per side
    steps: int
    batch: int
    crop: tuple[float, float]  # side of the crop, of the rendered side


# --- data ------------------------------------------------------------------------------------------------------------


def plan(count: int, seed: int) -> list[tuple[str, str | None, int]]:
    """Category, defect (None for half of them) and seed of every picture of the bank."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str | None, int]] = []
    for i in range(count):
        name = AUXILIARY[i % len(AUXILIARY)]
        defects = sorted(CATEGORIES[name].defects)
        anomalous = (i // len(AUXILIARY)) % 2 == 1
        rows.append((name, defects[rng.integers(len(defects))] if anomalous else None, 1_000_000 + seed * 100_000 + i))
    return rows


def render_row(row: tuple[str, str | None, int]) -> tuple[np.ndarray, np.ndarray]:
    """Picture [S, S, 3] uint8 and mask [S, S] bool of one row of the plan."""
    made = render(row[0], row[1], row[2], SIDE)
    return made.image, made.mask


def bank(folder: Path, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str | None, int]]]:
    """Pictures [n, S, S, 3], masks [n, S, S] and their plan; rendered once, then read from the folder."""
    rows = plan(count, seed)
    images_file, masks_file = folder / f"images_{seed}_{count}.npy", folder / f"masks_{seed}_{count}.npy"
    if not masks_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images = np.empty((count, SIDE, SIDE, 3), np.uint8)
        masks = np.empty((count, SIDE, SIDE), np.bool_)
        with ProcessPoolExecutor() as pool:
            for i, (image, mask) in enumerate(pool.map(render_row, rows, chunksize=64)):
                images[i], masks[i] = image, mask
        np.save(images_file, images)
        np.save(masks_file, masks)
    return np.load(images_file, mmap_mode="r"), np.load(masks_file, mmap_mode="r"), rows


def view(images: Tensor, masks: Tensor, stage: Stage, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops, turns, flips and colour changes.

    Args:
        images: [B, S, S, 3] uint8.
        masks: [B, S, S] bool.
        stage: Size of the result and range of the crops.
        generator: Source of all randomness.

    Returns:
        images [B, 3, size, size], normalised, and masks [B, size, size] in [0, 1].
    """
    count = len(images)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    side = stage.crop[0] + (stage.crop[1] - stage.crop[0]) * draw(count)
    angle = (draw(count) < 0.5) * (draw(count) - 0.5) * math.pi / 3 + torch.randint(4, (count,), generator=generator) * math.pi / 2
    flip = (draw(count) < 0.5) * 2.0 - 1.0
    shift = (draw(count, 2) * 2 - 1) * (1 - side)[:, None]
    cos, sin = angle.cos() * side, angle.sin() * side
    theta = torch.stack([cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]], dim=1).view(count, 2, 3)
    grid = F.affine_grid(theta, [count, 4, stage.size, stage.size], align_corners=False)
    planes = torch.cat([images.permute(0, 3, 1, 2).float() / 255, masks[:, None].float()], dim=1)
    planes = F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    x, mask = planes[:, :3], planes[:, 3]
    gain = 1 + (draw(count, 1, 1, 1) - 0.5) * 0.5 + (draw(count, 3, 1, 1) - 0.5) * 0.2
    x = ((x - 0.5) * (1 + (draw(count, 1, 1, 1) - 0.5) * 0.5) + 0.5) * gain + (draw(count, 1, 1, 1) - 0.5) * 0.1
    grey = draw(count, 1, 1, 1) < 0.1
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    x = x + torch.randn(x.shape, generator=generator) * 0.02 * draw(count, 1, 1, 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OPENAI_MEAN, OPENAI_STD))
    return (x.clamp(0, 1) - mean) / std, mask


def captions(rows: list[tuple[str, str | None, int]], anomalous: Tensor, rng: np.random.Generator) -> tuple[list[str], Tensor]:
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
        [c in ("", name) and (d == defect or (d == "" and defect is not None)) for c, d in meant] for name, defect in shown
    ]
    return texts, torch.tensor(fits)


# --- model -----------------------------------------------------------------------------------------------------------


def train_tokenizer(seed: int) -> tokenizers.Tokenizer:
    """A byte-level BPE of 1024 tokens from captions of the auxiliary families and the field's usual prompt words."""
    rng = np.random.default_rng(seed)
    corpus = [caption(name, d, rng) for name in AUXILIARY for d in [None, *sorted(CATEGORIES[name].defects)] for _ in range(20)]
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
    """Patch filters [3*p*p, 3, p, p]: the DCT basis of luminance and of two colour differences, at about equal response."""
    k = torch.arange(patch, dtype=torch.float32)
    basis = torch.cos(math.pi / patch * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / patch)
    basis[0] /= math.sqrt(2)
    planes = torch.einsum("ux,vy->uvxy", basis, basis)
    gain = 0.12 * (1 + k[:, None] + k[None, :])  # natural pictures fall off about as 1 / frequency
    planes = (planes * gain[:, :, None, None]).flatten(0, 1)
    colours = torch.tensor([[0.6, 0.6, 0.6], [1.0, 0.0, -1.0], [0.5, -1.0, 0.5]])
    return (planes[None, :, None] * colours[:, None, :, None, None]).flatten(0, 1)


def initialise(model: CLIP) -> None:
    """CLIP's published initial widths; the patch embedding starts as the DCT basis."""
    visual, text = model.visual, model.text
    assert text is not None
    for tower, blocks in ((visual, visual.blocks), (text, text.blocks)):
        width, depth = tower.size.width, tower.size.depth
        for block in blocks:
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
    with torch.no_grad():
        visual.patch_embed.weight[: len(filters)] = filters


def half_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Ordinary attention in bfloat16 by plain products: with gradients on a CPU, four times faster than the fused one."""
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
    """Weighted cross entropy and Dice of the patches.

    Args:
        tokens: [B, n, E] unit patch features.
        pair: [B, 2, E] unit text features (normal, anomalous).
        target: [B, n] in [0, 1].
    """
    logit = SCALE * torch.einsum("bne,be->bn", tokens, pair[:, 1] - pair[:, 0])
    entropy = F.binary_cross_entropy_with_logits(logit, target, weight=1 + 4 * target)
    p = logit.sigmoid()
    dice = 1 - (2 * (p * target).sum(1) + 1) / (p.sum(1) + target.sum(1) + 1)
    return entropy + 0.5 * dice.mean()


def losses(model: CLIP, images: Tensor, mask: Tensor, rows: list[tuple[str, str | None, int]], rng: np.random.Generator) -> dict[str, Tensor]:
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
    state = [F.cross_entropy(SCALE * torch.einsum("be,bse->bs", h, pair)[clear], anomalous[clear].long()) for h in heads]
    return {
        "global": contrast(heads[0], told, fits),
        "state": state[0] + state[1],
        "dense": dense(unit(visual.head(x[:, 1:])), pair, target),
        "dense_vv": dense(unit(visual.head(side[:, 1:])), pair, target),
    }


# --- the run ---------------------------------------------------------------------------------------------------------


def rate(step: int, total: int, peak: float) -> float:
    """Learning rate: a short warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / 300)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total)))


def hugging_face_state(model: CLIP) -> dict[str, Tensor]:
    """The weights under the names of Hugging Face's CLIPModel, in half precision."""
    state = {"logit_scale": model.logit_scale.detach()}
    for prefix, tower in (("vision_model", model.visual), ("text_model", model.text)):
        own = {k: v.detach() for k, v in tower.state_dict().items()}
        for i in range(tower.size.depth):
            q = f"{prefix}.encoder.layers.{i}."
            for kind in ("weight", "bias"):
                for letter, part in zip("qkv", own.pop(f"blocks.{i}.in_proj.{kind}").chunk(3), strict=True):
                    state[f"{q}self_attn.{letter}_proj.{kind}"] = part
                state[f"{q}self_attn.out_proj.{kind}"] = own.pop(f"blocks.{i}.out_proj.{kind}")
                state[f"{q}layer_norm1.{kind}"] = own.pop(f"blocks.{i}.norm1.{kind}")
                state[f"{q}layer_norm2.{kind}"] = own.pop(f"blocks.{i}.norm2.{kind}")
                state[f"{q}mlp.fc1.{kind}"] = own.pop(f"blocks.{i}.mlp.fc1.{kind}")
                state[f"{q}mlp.fc2.{kind}"] = own.pop(f"blocks.{i}.mlp.fc2.{kind}")
        state[f"{prefix}.embeddings.position_embedding.weight"] = own.pop("positions")
        projection = "visual_projection.weight" if prefix == "vision_model" else "text_projection.weight"
        state[projection] = own.pop("proj").T
        norm = "post_layernorm" if prefix == "vision_model" else "final_layer_norm"
        for kind in ("weight", "bias"):
            state[f"{prefix}.{norm}.{kind}"] = own.pop(f"norm.{kind}")
        if prefix == "vision_model":
            state[f"{prefix}.embeddings.class_embedding"] = own.pop("cls")
            state[f"{prefix}.embeddings.patch_embedding.weight"] = own.pop("patch_embed.weight")
            for kind in ("weight", "bias"):
                state[f"{prefix}.pre_layrnorm.{kind}"] = own.pop(f"norm_pre.{kind}")
        else:
            state[f"{prefix}.embeddings.token_embedding.weight"] = own.pop("token_embedding.weight")
        assert not own, sorted(own)
    return {k: v.to(torch.float16).contiguous() for k, v in state.items()}


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
    text = tower(TEXT) | {"vocab_size": TEXT.vocabulary, "max_position_embeddings": TEXT.context, "bos_token_id": 0, "eos_token_id": 1}
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


def average_gradients(model: CLIP) -> None:
    """Mean of the gradients over all processes, in one exchange."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
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
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decay = [p for n, p in named if p.ndim >= 2 and "positions" not in n]
    rest = [p for n, p in named if p.ndim < 2 or "positions" in n]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, args.rate, (0.9, 0.98))
    step, last = 0, args.out / "last.pt"
    if last.exists():
        kept = torch.load(last, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        step = kept["step"]
    stages = [Stage(64, args.small, 48, (0.4, 0.9)), Stage(128, args.large, 24, (0.75, 1.0))]
    total = sum(stage.steps for stage in stages)
    images, masks, rows = bank(args.bank, args.count, args.seed)
    began = time.time()
    while step < total:
        stage = stages[0] if step < args.small else stages[1]
        rng = np.random.default_rng([args.seed, step, rank])
        generator = torch.Generator().manual_seed((args.seed * 1_000_003 + step) * args.processes + rank)
        chosen = rng.choice(len(images), stage.batch, replace=False)
        x, mask = view(torch.from_numpy(images[chosen]), torch.from_numpy(masks[chosen]), stage, generator)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, total, args.rate)
        with torch.autocast("cpu", torch.bfloat16):
            terms = losses(model, x, mask, [rows[i] for i in chosen], rng)
        optimizer.zero_grad()
        (terms["global"] + terms["state"] + 2 * terms["dense"] + 2 * terms["dense_vv"]).backward()
        average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if rank == 0 and step % 20 == 0:
            with (args.out / "curve.csv").open("a", newline="") as file:
                values = (f"{v.item():.4f}" for v in terms.values())
                csv.writer(file).writerow([step, stage.size, round(time.time() - began), *values])
        if rank == 0 and (step % 250 == 0 or step == total):
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
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
    parser.add_argument("--small", type=int, default=2400, help="steps at 64 px, 48 pictures a process")
    parser.add_argument("--large", type=int, default=600, help="steps at 128 px, 24 pictures a process")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "store").unlink(missing_ok=True)
    bank(args.bank, args.count, args.seed)
    torch.multiprocessing.spawn(run, (args,), args.processes)


if __name__ == "__main__":
    main()
