"""The methods beside each other: trained on drawn auxiliary pictures, tested on unseen ones and on photographs.

    python benchmarks/methods.py run --auxiliary DIR --test DIR [DIR ...] --out RUNS [--variants ...] [--seeds ...]
    python benchmarks/methods.py table --out RUNS
    python benchmarks/methods.py time [--variants ...]

A variant is a method with what is to change: `crane:guide=tiny` a switch, `visualad@6` the epochs, `vip2clip*1` the
share of the rate for parameters that its recipe gives less. `anomalyclip:context_length=0;deep_length=0` are the
sentences "object." and "damaged object." with nothing to learn.
`run` trains each with every seed by its own recipe, on the embedded backbone, and evaluates it on every folder; a run
whose file is there is not done again, so it can be stopped, and several may work on different seeds at a time. With
`--untrained` each is evaluated as its seed draws it, before any training. `table` prints mean and standard deviation.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev

import torch
from rich.console import Console

from zsad.api import input_size
from zsad.backbones.clip import CLIP
from zsad.backbones.weights import load as load_backbone
from zsad.data.index import samples_of
from zsad.evaluate import score_samples
from zsad.methods.base import Method
from zsad.methods.checkpoints import load
from zsad.methods.table import METHODS, build, method_class, parse_switches
from zsad.table import COLUMNS, table
from zsad.training import Plan, train
from zsad.writing import whole

SEEDS = (111, 112, 113)


def made(variant: str, backbone: CLIP) -> tuple[Method, Plan]:
    """A new method, and how the variant is trained."""
    head, _, switches = variant.partition(":")
    head, _, slow = head.partition("*")
    name, _, epochs = head.partition("@")
    plan = Plan(epochs=int(epochs) if epochs else None, slow=float(slow) if slow else None)
    chosen = parse_switches(method_class(name), switches.split(";") if switches else [])
    return build(name, backbone, **chosen), plan


def trained(variant: str, seed: int, chosen: argparse.Namespace) -> Method:
    """A method after its training, from its checkpoint if that is there; or as it is before."""
    towers = load_backbone("tiny")
    torch.manual_seed(seed)
    method, plan = made(variant, towers)
    if chosen.untrained or not sum(p.numel() for p in method.parameters()):
        return method
    path = chosen.out / f"{variant}-{seed}.safetensors"
    if not path.exists():
        start = time.perf_counter()
        train(method, samples_of(chosen.auxiliary), input_size(method), replace(plan, seed=seed))
        method.save(path)
        note = {"training_seconds": time.perf_counter() - start, "epochs": plan.epochs or method.recipe.epochs}
        path.with_suffix(".json").write_text(json.dumps(note))
    return load(path, towers)


def run(chosen: argparse.Namespace) -> None:
    """Train and evaluate all that is not there yet; one JSON file per variant, seed and folder."""
    chosen.out.mkdir(parents=True, exist_ok=True)
    for variant in chosen.variants:
        for seed in chosen.seeds:
            for root in chosen.test:
                shown = variant + (", untrained" if chosen.untrained else "")
                path = chosen.out / f"{shown}-{seed}-{root.name}.json"
                if path.exists():
                    continue
                method = trained(variant, seed, chosen)
                row = table(score_samples(method, samples_of(root), input_size(method)))[-1]
                parameters = sum(p.numel() for p in method.parameters())
                note = {"variant": shown, "seed": seed, "set": root.name, "images": row.images, **row.values}
                with whole(path) as part:
                    part.write_text(json.dumps({**note, "parameters": parameters}))


def show(chosen: argparse.Namespace) -> None:
    """Print a Markdown table per folder."""
    notes = [json.loads(path.read_text()) for path in sorted(chosen.out.glob("*.json"))]
    rows = [note for note in notes if "variant" in note]  # the others tell how long training took
    console = Console(width=250)
    for name in dict.fromkeys(row["set"] for row in rows):
        console.print(f"\n{name}\n\n| variant | seeds | learned | " + " | ".join(head for _, head in COLUMNS) + " |")
        console.print("|---" * (3 + len(COLUMNS)) + "|")
        for variant in dict.fromkeys(row["variant"] for row in rows if row["set"] == name):
            own = [row for row in rows if (row["variant"], row["set"]) == (variant, name)]
            cells = [spread([100 * row[key] for row in own if key in row]) for key, _ in COLUMNS]
            console.print(f"| {variant} | {len(own)} | {own[0]['parameters']:,} | " + " | ".join(cells) + " |")


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the seeds.

    >>> spread([80.0, 82.0]), spread([80.0]), spread([])
    ('81.0 ± 1.4', '80.0', '-')
    """
    known = [value for value in values if value == value]
    if not known:
        return "-"
    return f"{mean(known):.1f} ± {stdev(known):.1f}" if len(known) > 1 else f"{mean(known):.1f}"


@torch.inference_mode()
def measure(chosen: argparse.Namespace) -> None:
    """Print milliseconds per image: batches of 8 at the embedded backbone's input size, median of 7 after one."""
    methods = {variant: made(variant, load_backbone("tiny"))[0] for variant in chosen.variants}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(8):
        for name, method in methods.items():  # by turns, so that a busy moment hits all of them
            images = torch.randn(8, 3, input_size(method), input_size(method))
            start = time.perf_counter()
            method.predict(images, ["object"] * 8)
            if turn:
                seconds[name].append((time.perf_counter() - start) / 8)
    for name, values in seconds.items():
        low, middle, high = (1000 * value for value in (min(values), median(values), max(values)))
        Console().print(f"{name}: {middle:.1f} ms ({low:.1f} to {high:.1f}), {torch.get_num_threads()} threads")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table", "time"])
    parser.add_argument("--auxiliary", type=Path)
    parser.add_argument("--test", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--variants", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--untrained", action="store_true", help="evaluate the methods as drawn")
    chosen = parser.parse_args()
    {"run": run, "table": show, "time": measure}[chosen.what](chosen)


if __name__ == "__main__":
    main()
