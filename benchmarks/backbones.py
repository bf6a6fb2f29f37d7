"""Full-size backbones with random weights: equality with transformers, and the time to load each published form.

    python benchmarks/backbones.py

Writes up to 1.7 GB at a time to a temporary folder and needs about 8 GB of memory. Two cores take some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tokenizers
import torch
import transformers as hf
from safetensors.torch import save_file
from torch import Tensor, nn

from zsad.backbones.clip import CLIP, OPENAI
from zsad.backbones.dinov2 import HUB_DINOV2
from zsad.backbones.keys import KeyTable
from zsad.backbones.tokenizer import END, START
from zsad.backbones.vit import ViT, walk
from zsad.backbones.weights import load


def randomised(model: nn.Module, depth: int) -> nn.Module:
    """Weights of the size that trained ones have: activations stay near 1 through all blocks."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("bias", "embedding", "token", "tokens", "scale", "embedding.weight")):
            values *= 0.1
        elif parameter.ndim == 1:
            values = 1 + 0.1 * values
        else:
            values *= parameter[0].numel() ** -0.5
        if name.endswith(("out_proj.weight", "o_proj.weight", "fc2.weight")):
            values *= (2 * depth) ** -0.5
        parameter.data.copy_(values)
    return model.eval().requires_grad_(False)


def clip_l_336() -> nn.Module:
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision |= {"image_size": 336, "patch_size": 14}
    words = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = hf.CLIPConfig(text_config=words, vision_config=vision, projection_dim=768)
    return randomised(hf.CLIPModel(config), 24)


def dinov2_b() -> nn.Module:
    return randomised(hf.Dinov2Model(hf.Dinov2Config(image_size=518, patch_size=14)), 12)


def write_tokenizer(folder: Path) -> None:
    words = {START: 49406, END: 49407, "a": 0}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="a")).save(str(folder / "tokenizer.json"))


def published(table: KeyTable, model: CLIP) -> dict[str, Tensor]:
    """The tensors of a model under the names of a file that packs q, k and v."""
    state = {table.theirs(name)[0]: tensor for name, tensor in model.state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in state.items()}


def archive(state: dict[str, Tensor], path: Path) -> None:
    """A TorchScript archive in half precision, as OpenAI's."""
    root = nn.Module()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.register_parameter(leaf, nn.Parameter(tensor.half(), requires_grad=False))
    torch.jit.script(root).save(str(path))


def difference(name: str, ours: Tensor, theirs: Tensor) -> None:
    print(f"  {name:34} {(ours - theirs).abs().max():.1e}  (values up to {theirs.abs().max():.1f})")


def compare_image(visual: ViT, expected: hf.utils.ModelOutput, pixels: Tensor) -> Tensor:
    """Every token after every block, and CLS after the final norm, which is returned."""
    x = visual.embed(pixels, resize="bicubic")
    last, taps = walk(visual.blocks, x, taps=range(1, visual.depth + 1))
    worst = max((taps[i] - expected.hidden_states[i]).abs().max() for i in taps)
    largest = max(state.abs().max() for state in expected.hidden_states)
    print(f"  {f'every layer, {pixels.shape[-2]} x {pixels.shape[-1]}':34} {worst:.1e}  (values up to {largest:.1f})")
    cls: Tensor = visual.norm(last[:, 0])
    difference("CLS after the final norm", cls, expected.pooler_output)
    return cls


def compare_clip(model: CLIP, theirs: nn.Module) -> None:
    for size in ((336, 336), (518, 392)):
        pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        expected = theirs.vision_model(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
        cls = compare_image(model.visual, expected, pixels)
        difference("CLS, projected", model.visual.project(cls), theirs.visual_projection(expected.pooler_output))
    ids = torch.randint(0, 49406, (4, 77), generator=torch.Generator().manual_seed(2))
    end = torch.tensor([5, 20, 50, 76])
    ids[torch.arange(4), end] = 49407
    expected = theirs.text_projection(theirs.text_model(ids).pooler_output)
    assert model.text is not None
    difference("text features", model.text(ids, end), expected)


def compare_dinov2(model: CLIP, theirs: nn.Module) -> None:
    for size in ((518, 518), (448, 336)):
        pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        compare_image(model.visual, theirs(pixels, output_hidden_states=True), pixels)


def timed(form: str, path: Path, reference: CLIP) -> None:
    start = time.perf_counter()
    model = load(path)
    seconds = time.perf_counter() - start
    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.bin")]
    size = sum(file.stat().st_size for file in files) / 1e6
    worst = max((a - b).abs().max() for a, b in zip(model.parameters(), reference.parameters(), strict=True))
    print(f"  {form:34} {size:6.0f} MB  {seconds:5.2f} s  weights differ by {worst:.1e}")


def in_folder(form: str, reference: CLIP, write: Callable[[Path], Path]) -> None:
    """Write one form to a folder of its own, load it, and remove it."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        timed(form, write(Path(folder)), reference)


def saved(
    save: Callable[[dict[str, Tensor], Path], None], state: dict[str, Tensor], name: str
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save(state, folder / name)
        return folder / name

    return write


def hugging_face_bin(theirs: nn.Module) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        theirs.config.save_pretrained(folder)
        torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
        return folder

    return write


@torch.inference_mode()
def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, make, compare in (("CLIP L/14@336", clip_l_336, compare_clip), ("DINOv2 B", dinov2_b, compare_dinov2)):
        with tempfile.TemporaryDirectory() as folder:
            theirs = make()
            theirs.save_pretrained(folder)
            write_tokenizer(Path(folder))
            model = load(folder)
            print(f"{name}: largest absolute difference from transformers {hf.__version__}, float32")
            compare(model, theirs)
            print(f"{name}: loading, hash included")
            timed("Hugging Face, safetensors", Path(folder), model)
            others(model, theirs)


def others(model: CLIP, theirs: nn.Module) -> None:
    """Every other published form of the same weights."""
    if model.text is None:
        state = published(HUB_DINOV2, model)
        state.pop("logit_scale")
        in_folder("hub .pth", model, saved(torch.save, state, "dinov2_vitb14_pretrain.pth"))
        return
    in_folder("Hugging Face, .bin", model, hugging_face_bin(theirs))
    state = published(OPENAI, model)
    in_folder("OpenAI .pt, TorchScript, half", model, saved(archive, state, "ViT-L-14-336px.pt"))
    in_folder("OpenAI .pt, state dict", model, saved(torch.save, state, "ViT-L-14-336px.pt"))
    in_folder("open_clip, safetensors", model, saved(save_file, state, "open_clip_openai.safetensors"))


if __name__ == "__main__":
    main()
