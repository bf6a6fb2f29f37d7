"""Words on the command line to one call of the library; the only file that prints. Heavy imports are local."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from zsad import __version__
from zsad.errors import ZsadError

if TYPE_CHECKING:
    from zsad.evaluate import Row
    from zsad.methods.base import Method

out = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 250)  # wide where it is piped
err = Console(stderr=True, highlight=False, emoji=False)

app = typer.Typer(
    help="Zero-shot anomaly detection: find defects and lesions in images of objects nobody trained on.",
    epilog="Start with: zsad demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Datasets: make the synthetic one, look at what a folder holds.", no_args_is_help=True)
weights_app = typer.Typer(help="Backbones and published checkpoints.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")

MethodName = Annotated[str, typer.Option("--method", "-m", help="A name of `zsad methods`.")]
MethodOfWeights = Annotated[
    str | None,
    typer.Option("--method", "-m", help="A name of `zsad methods`; default: the one that the weights belong to."),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        help="A checkpoint of zsad, a name of `zsad weights list`, or an authors' .pth file; default: embedded.",
    ),
]
Switches = Annotated[list[str] | None, typer.Option("--set", help="A switch of the method, such as layers=6,12,18,24.")]
BackboneName = Annotated[
    str, typer.Option("--backbone", "-b", help="A name of `zsad weights list`, a file or a folder.")
]
Root = Annotated[Path, typer.Argument(help="Labelled: MVTec AD's layout, or normal/ and anomaly/ with masks/.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]
Size = Annotated[int | None, typer.Option(help="Side of the network input in pixels; default: as published.", min=8)]
BatchSize = Annotated[int, typer.Option(help="Images that go through the tower at once.", min=1)]


def main() -> None:
    """Entry point: an error of zsad ends with its message and exit code 1, wrong usage with 2."""
    try:
        app()
    except ZsadError as error:
        err.print(f"[bold red]zsad:[/] {_plain(error)}", soft_wrap=True)
        sys.exit(1)


def _plain(text: object) -> str:
    """Text as it stands: brackets are no markup, bytes of file names that are no text become question marks."""
    return escape(str(text).encode("utf-8", "replace").decode())


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False) -> None:
    """Zero-shot anomaly detection: find defects and lesions in images of objects nobody trained on."""
    if show:
        out.print(f"zsad {__version__}")
        raise typer.Exit


@contextmanager
def bar(text: str, total: int | None) -> Iterator[Any]:
    """A progress bar on the error stream; `progress.advance(task)` through the function that is yielded."""
    parts = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=err, transient=True) as progress:
        task = progress.add_task(text, total=total)

        def advance(step: int = 1, note: str | None = None) -> None:
            progress.update(task, advance=step, description=f"{text}  {note}" if note else text)

        yield advance


def columns(first: str, *others: str, names: bool = False) -> Table:
    """A table without lines: what is too long is folded, but not the first column where it has names to be copied."""
    shown = Table(box=None)
    shown.add_column(first, no_wrap=names, overflow="fold")
    for heading in others:
        shown.add_column(heading, overflow="fold")
    return shown


def load(method: str | None, weights: str | None, backbone: str, device: str, switches: list[str] | None) -> Method:
    """A method ready to predict, with one line about the embedded model where that is what it is."""
    from zsad import api
    from zsad.methods.table import method_class, parse_switches

    with err.status(_plain(f"loading {weights or method or api.DEFAULT_METHOD} on {backbone}")):
        kind = method_class(api.method_name(method, weights, backbone))
        found = api.load(method, weights, backbone, device, **parse_switches(kind, switches or []))
    if backbone == api.DEFAULT_BACKBONE:
        trained = f" --weights {api.suggested_weights(found.name)}" if found.stages else ""
        err.print(
            f"[dim]{api.DEFAULT_BACKBONE} is the small embedded backbone, for trying things out. For real work: "
            f"--backbone {found.reference.backbone}{trained}[/]"
        )
    return found


@app.command(epilog="Example: zsad predict photos/ --out results")
def predict(
    paths: Annotated[list[str], typer.Argument(help="Image files, folders, or quoted patterns.")],
    method: MethodOfWeights = None,
    weights: Weights = None,
    backbone: BackboneName = "tiny",
    to: Annotated[Path, typer.Option("--out", "-o", help="Folder for tables, maps and overlays.")] = Path("results"),
    device: Device = "auto",
    size: Size = None,
    batch_size: BatchSize = 8,
    threshold: Annotated[
        float | None, typer.Option(help="Anomalous from this score on; default: the checkpoint's own.")
    ] = None,
    name: Annotated[str, typer.Option(help="What is shown, for methods whose prompts name it.")] = "object",
    maps: Annotated[bool, typer.Option(help="Write float32 TIFF maps.")] = True,
    overlays: Annotated[bool, typer.Option(help="Write PNG overlays.")] = True,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is in the folder.")] = False,
    switches: Switches = None,
) -> None:
    """Score images and show where they are anomalous.

    Writes predictions.csv and predictions.jsonl, float32 maps and overlays. An unreadable file gets a row with its
    error, the others are done, and the exit code is 1 at the end.
    """
    from zsad.api import input_size
    from zsad.data.layouts import find_images
    from zsad.predict import predict_files

    files = [file for file in find_images(paths) if to.resolve() not in file.resolve().parents]
    if not files:
        raise ZsadError(f"only results of an earlier run in {', '.join(paths)}; name a folder of photographs")
    found = load(method, weights, backbone, device, switches)
    rows = []
    with bar("predicting", len(files)) as advance:
        for row in predict_files(
            found,
            files,
            to,
            size=size or input_size(found),
            batch_size=batch_size,
            threshold=found.thresholds.image if threshold is None else threshold,
            overlays=overlays,
            maps=maps,
            resume=resume,
            overwrite=overwrite,
            class_name=name,
        ):
            rows.append(row)
            advance()
    shown = columns("image", "score", "decision")
    scored = sorted((row for row in rows if not row.error), key=lambda row: -row.score)
    unread = [row for row in rows if row.error]
    for row in scored[:30]:
        colour = "yellow" if row.decision == "anomalous" else "green"
        shown.add_row(_plain(row.path), f"{row.score:.4f}", f"[{colour}]{row.decision}[/]")
    for row in unread[:10]:
        shown.add_row(_plain(row.path), "error", f"[red]{_plain(row.error)}[/]")
    out.print(shown)
    more = f", the highest 30 shown of {len(scored)}" if len(scored) > 30 else ""
    out.print(f"{len(scored)} images done, {len(unread)} unreadable{more}; results in {_plain(to)}")
    if unread:
        raise typer.Exit(1)


def must_be_new_checkpoint(to: Path) -> None:
    """Complain about a name that no checkpoint could be read back from."""
    if to.suffix != ".safetensors" or to.is_dir():
        raise ZsadError(f"--out {to} must be a file that ends in .safetensors")


@app.command(epilog="Example: zsad train data/auxiliary --out my.safetensors")
def train(
    root: Root,
    to: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write (.safetensors).")],
    method: MethodName = "anomalyclip",
    backbone: BackboneName = "tiny",
    device: Device = "auto",
    size: Size = None,
    epochs: Annotated[int | None, typer.Option(help="Default: as published.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: as published.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate; default: as published.")] = None,
    slow: Annotated[
        float | None, typer.Option(help="Share of the rate for parameters that the method gives less; 1 = the same.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights on one machine.")] = 111,
    switches: Switches = None,
) -> None:
    """Train a method on an auxiliary dataset, whose test split is used as in the papers."""
    import torch

    from zsad.api import choose_device, input_size
    from zsad.backbones.weights import load as load_backbone
    from zsad.data.layouts import folder
    from zsad.methods.base import nothing_to_learn
    from zsad.methods.table import build, make_config, method_class, parse_switches
    from zsad.train import Plan, check
    from zsad.train import train as run

    chosen = parse_switches(method_class(method), switches or [])
    must_be_new_checkpoint(to)
    plan, samples = Plan(epochs, batch_size, rate, slow, seed), folder(root)
    check(samples)
    torch.manual_seed(seed)
    kind = method_class(method)
    if kind.learns_nothing(config := make_config(kind, chosen)):
        raise nothing_to_learn(method, config)
    model = build(method, load_backbone(backbone, device=choose_device(device)), **chosen)
    learnable = sum(p.numel() for p in model.parameters())
    err.print(f"training {method} on {backbone}: {len(samples)} images, {learnable:,} learnable parameters")
    with bar("encoding, then training", None) as advance:
        steps = 0

        def report(step: int, total: int, terms: dict[str, float]) -> None:
            nonlocal steps
            steps = total
            words = "  ".join(f"{name} {value:.3f}" for name, value in terms.items())
            advance(1, f"step {step} of {total}  {words}")

        run(model, samples, size or input_size(model), plan, report)
    model.save(to)
    name = _plain(to)
    out.print(f"{name}: {steps} steps; try it: zsad evaluate FOLDER --weights {name} --backbone {_plain(backbone)}")


@app.command(epilog="Example: zsad evaluate data/unseen")
def evaluate(
    root: Root,
    method: MethodOfWeights = None,
    weights: Weights = None,
    backbone: BackboneName = "tiny",
    device: Device = "auto",
    size: Size = None,
    batch_size: BatchSize = 16,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the table as CSV.")] = None,
    switches: Switches = None,
) -> None:
    """Image and pixel metrics per class, and their mean."""
    from zsad.api import input_size
    from zsad.data.layouts import folder
    from zsad.evaluate import score_samples, table, write_csv

    samples = folder(root)
    found = load(method, weights, backbone, device, switches)
    errors = []
    with bar("evaluating", len(samples)) as advance:

        def scored() -> Iterator[Any]:
            for s in score_samples(found, samples, size or input_size(found), batch_size):
                advance()
                if s.error:
                    errors.append(s.error)
                yield s

        rows = table(scored())
    out.print(metrics_table(rows))
    if to:
        write_csv(rows, to)
    tell(errors)


def tell(errors: list[str]) -> None:
    """Say which files were left out, and end with exit code 1 if any was."""
    for error in errors:
        err.print(f"[red]left out:[/] {_plain(error)}")
    if errors:
        raise typer.Exit(1)


def metrics_table(rows: list[Row]) -> Table:
    """Numbers in percent, as the papers print them."""
    from zsad.evaluate import COLUMNS

    shown = columns("class", "images", *(heading for _, heading in COLUMNS))
    for row in rows:
        values = [row.values.get(key, float("nan")) for key, _ in COLUMNS]
        cells = ["-" if isnan(value) else f"{100 * value:.1f}" for value in values]
        shown.add_row(
            _plain(row.class_name), str(row.images), *cells, style="bold" if row.class_name == "mean" else None
        )
    return shown


@app.command(epilog="Example: zsad demo --out demo")
def demo(
    to: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images and the page.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Detect defects on objects nobody trained on, with the embedded model, and write a page that shows it."""
    import time

    from zsad.data import synthetic
    from zsad.demo import run

    began = time.perf_counter()
    images, page = to / "images", to / "index.html"
    if not images.exists():
        with bar("drawing the unseen objects", synthetic.total("unseen")) as advance:
            synthetic.write(images, "unseen", progress=advance, workers=2)
    found = load("anomalyclip", None, "tiny", device, None)
    with bar("detecting", synthetic.total("unseen")) as advance:
        rows, errors = run(found, images, page, advance)
    out.print(metrics_table(rows))
    out.print(f"in percent; {time.perf_counter() - began:.0f} s. The page with images, maps and masks:")
    out.print("  " + _plain(page.resolve()), style="bold", soft_wrap=True)
    tell(errors)


@app.command(epilog="Example: zsad methods winclip")
def methods(
    name: Annotated[str | None, typer.Argument(help="Show the switches of this one, with their defaults.")] = None,
) -> None:
    """The methods: what they need, what they learn, and what they are held to."""
    from zsad.methods.table import METHODS, describe

    if name:
        row = describe(name)
        reference = row.reference
        held = "held to its numbers" if reference.golden else "read for what it is"
        out.print(f"{name}: {_plain(row.paper)}", soft_wrap=True)
        out.print(f"  code: {reference.repository} {reference.commit}, {held}" if reference.commit else "  no code")
        for switch in row.switches:
            out.print(f"  --set {_plain(switch)}", soft_wrap=True)
        return
    needs = ("training", "names", "text")
    shown = columns("method", "year", *needs, "published on", "learned", "commit", "held to", names=True)
    for row in map(describe, METHODS):
        reference, answers = row.reference, (row.trains, row.reads_names, row.reads_text)
        needed = [["no", "yes"][answer] for answer in answers]
        published = (reference.backbone, f"{row.parameters:,}", reference.commit[:7] or "none")
        shown.add_row(row.name, str(reference.year), *needed, *published, "numbers" if reference.golden else "paper")
    out.print(shown)
    out.print(
        "training, names, text: whether it needs auxiliary data, class names, a text tower; learned: parameters on "
        "that backbone.\nheld to: numbers of the released code at that commit (python -m tests.parity), or the paper."
        "\nEach page in docs/methods lists the departures; zsad methods NAME shows paper, code and switches.",
        soft_wrap=True,
    )


@data_app.command("synth", epilog="Example: zsad data synth data/unseen --half unseen")
def synth(
    root: Annotated[Path, typer.Argument(help="Folder to make.")],
    half: Annotated[
        str, typer.Option(help="unseen, or auxiliary (what the embedded model was trained on).")
    ] = "unseen",
    normal: Annotated[int, typer.Option(help="Normal test images per category.", min=0)] = 10,
    anomalous: Annotated[int, typer.Option(help="Anomalous test images per category.", min=0)] = 20,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=32)] = 224,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pixels.", min=0)] = 0,
) -> None:
    """Draw the synthetic dataset, with exact masks, in MVTec AD's layout."""
    from zsad.data import synthetic
    from zsad.errors import unknown

    if half not in ("unseen", "auxiliary"):
        raise unknown("half", half, ("unseen", "auxiliary"), "zsad data synth --help")
    with bar(f"drawing {_plain(root)}", synthetic.total(half, normal, anomalous, 0)) as advance:  # type: ignore[arg-type]
        synthetic.write(
            root,
            half,  # type: ignore[arg-type]
            normal=normal,
            anomalous=anomalous,
            size=size,
            seed=seed,
            workers=2,
            progress=advance,
        )
    out.print(f"{_plain(root)}: try it: zsad evaluate {_plain(root)}")


@data_app.command("show", epilog="Example: zsad data show data/unseen")
def show(root: Root) -> None:
    """What a folder holds, as zsad reads it: classes, normal and anomalous images, masks."""
    from zsad.data.layouts import folder

    samples = folder(root)
    shown = columns("class", "normal", "anomalous", "unlabelled", "masks")
    for name in sorted({s.class_name for s in samples}):
        own = [s for s in samples if s.class_name == name]
        counts = [sum(s.label == label for s in own) for label in (0, 1, None)]
        shown.add_row(_plain(name), *map(str, counts), str(sum(s.mask is not None for s in own)))
    out.print(shown)


@weights_app.command("list", epilog="Example: zsad weights list")
def weights_list() -> None:
    """Backbones and published checkpoints that can be named on the command line."""
    from urllib.parse import urlsplit

    from zsad.backbones.registry import BACKBONES
    from zsad.methods.released import RELEASED

    shown = columns("backbone", "text", "licence", "sha256", "source", names=True)
    for row in BACKBONES.values():
        source = row.hub.repository if row.hub else urlsplit(row.url.url).netloc if row.url else "in the package"
        known = (row.hub and row.hub.sha256) or (row.url and row.url.sha256) or ""
        shown.add_row(row.name, "yes" if row.text else "no", row.licence, known[:12], source)
    out.print(shown)
    out.print()
    shown = columns("checkpoint", "MB", "hash", "backbone", "trained on", "licence", "reproduces", names=True)
    for kept in RELEASED.values():
        size = f"{kept.file.size / 1e6:.1f}" if kept.file.size else "?"
        known = f"sha256 {kept.file.sha256[:12]}" if kept.file.sha256 else f"git {(kept.blob or '')[:12]}"
        shown.add_row(kept.name, size, known, kept.backbone, kept.trained_on, kept.licence, kept.reproduces)
    out.print(shown)
    out.print()
    for kept in RELEASED.values():
        out.print(f"{kept.name}: {kept.file.url}", soft_wrap=True)


@weights_app.command(
    "convert", epilog="Example: zsad weights convert epoch_5.pth --method crane --out mvtec.safetensors"
)
def weights_convert(
    file: Annotated[str, typer.Argument(help="A checkpoint in its authors' layout, or a name of `zsad weights list`.")],
    to: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write (.safetensors).")],
    method: MethodOfWeights = None,
    backbone: BackboneName = "clip-vit-l-14-336",
    switches: Switches = None,
) -> None:
    """Turn a released checkpoint into one of zsad; read safely, every tensor accounted for.

    The backbone is read as well: the tensors must fit it, and its hash is noted in the checkpoint.
    """
    from zsad.api import checkpoint_file
    from zsad.backbones.weights import load as load_backbone
    from zsad.methods.conversion import belongs_to, convert, left_out
    from zsad.methods.table import method_class, parse_switches

    must_be_new_checkpoint(to)
    path = checkpoint_file(file, backbone, method)
    name = belongs_to(path, method)
    chosen = parse_switches(method_class(name), switches or [])
    unused = left_out(path, name)  # also tells what is wrong with the file before the backbone is read
    try:
        towers = load_backbone(backbone)
    except ZsadError as error:
        raise ZsadError(
            f"{file} needs its backbone to be converted: shapes are checked against it, its hash is noted.\n{error}"
        ) from error
    made = convert(path, name, towers, **chosen)
    made.save(to)
    taken = sum(parameter.numel() for parameter in made.parameters())
    out.print(f"{name}: {len(made.state_dict())} tensors taken, {taken:,} numbers")
    out.print(f"left out, as {name} never uses them: {_plain(', '.join(unused)) or 'nothing'}", soft_wrap=True)
    out.print(f"{_plain(to)}: use it with --weights {_plain(to)} --backbone {_plain(backbone)}")


if __name__ == "__main__":
    main()
