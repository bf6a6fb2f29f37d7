"""The commands that use a method: predict, evaluate, demo, methods."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from zsad.cli.screen import (
    BackboneName,
    BatchSize,
    DatasetName,
    Device,
    MethodOfWeights,
    Names,
    ReadingSwitches,
    Root,
    Size,
    Switches,
    Weights,
    Workers,
    bar,
    columns,
    err,
    load,
    must_be_names,
    out,
    plain,
    reading_of,
    tell,
    tell_how,
    tell_notes,
    workers_for,
)
from zsad.errors import ZsadError

if TYPE_CHECKING:
    from zsad.methods.base import Method
    from zsad.table import Row
    from zsad.types import Sample

app = typer.Typer()


@app.command(epilog="Example: zsad predict photos/ --out results")
def predict(
    paths: Annotated[list[str], typer.Argument(help="Image files, folders, quoted patterns, or manifests.")],
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
    name: Annotated[
        str, typer.Option(help="What is shown, for methods whose prompts name it; a manifest says it itself.")
    ] = "object",
    maps: Annotated[bool, typer.Option(help="Write float32 TIFF maps.")] = True,
    overlays: Annotated[bool, typer.Option(help="Write PNG overlays.")] = True,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is in the folder.")] = False,
    switches: Switches = None,
    reading: ReadingSwitches = None,
    workers: Workers = None,
    names: Names = "class",
) -> None:
    """Score images and show where they are anomalous.

    Writes predictions.csv and predictions.jsonl, float32 maps and overlays. An unreadable file gets a row with its
    error, the others are done, and the exit code is 1 at the end.
    """
    from zsad.api import input_size
    from zsad.data.dataset import Notes
    from zsad.data.index import images_and_names
    from zsad.predict import predict_files

    must_be_names(names)
    with err.status("looking for images"):
        named, masks = images_and_names(paths, name, prompt_names=names == "prompt")
    files = [file for file in named if to.resolve() not in file.resolve().parents]
    if not files:
        raise ZsadError(f"only results of an earlier run in {', '.join(paths)}; name a folder of photographs")
    if masks:
        err.print(f"[dim]left out: masks, {len(masks)} files such as {plain(masks[0])}[/]", soft_wrap=True)
    found = load(method, weights, backbone, device, switches)
    rows, notes, shown_names = [], Notes(), {named[file] for file in files}
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
            class_name=shown_names.pop() if len(shown_names) == 1 else named,
            reading=reading_of(reading),
            workers=workers_for(found, workers),
            notes=notes,
        ):
            rows.append(row)
            advance()
    shown = columns("image", "score", "decision")
    scored = sorted((row for row in rows if not row.error), key=lambda row: -row.score)
    unread = [row for row in rows if row.error]
    for row in scored[:30]:
        colour = "yellow" if row.decision == "anomalous" else "green"
        shown.add_row(plain(row.path), f"{row.score:.4f}", f"[{colour}]{row.decision}[/]")
    for row in unread[:10]:
        shown.add_row(plain(row.path), "error", f"[red]{plain(row.error)}[/]")
    out.print(shown)
    more = f", the highest 30 shown of {len(scored)}" if len(scored) > 30 else ""
    out.print(f"{len(scored)} images done, {len(unread)} unreadable{more}; results in {plain(to)}")
    tell_notes(notes)
    if unread:
        raise typer.Exit(1)


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
    aupro_limit: Annotated[
        float | None,
        typer.Option(help="False positive rate up to which AUPRO goes; default: the dataset's, mostly 0.3."),
    ] = None,
    switches: Switches = None,
    dataset: DatasetName = None,
    names: Names = "class",
    reading: ReadingSwitches = None,
    workers: Workers = None,
) -> None:
    """Image and pixel metrics per class, and their mean."""
    from zsad.api import input_size
    from zsad.data.dataset import Notes
    from zsad.data.index import samples_of
    from zsad.evaluate import score_samples
    from zsad.metrics.exact import check_limit
    from zsad.table import remarks, table, write_csv

    must_be_names(names)
    if aupro_limit is not None:
        check_limit(aupro_limit)
    samples = samples_of(root, dataset=dataset, say=tell_how)
    found = load(method, weights, backbone, device, switches)
    errors, notes = [], Notes()
    with bar("evaluating", len(samples)) as advance:

        def scored() -> Iterator[Any]:
            for s in score_samples(
                found,
                samples,
                size or input_size(found),
                batch_size,
                workers_for(found, workers),
                reading=reading_of(reading),
                prompt_names=names == "prompt",
                notes=notes,
            ):
                advance()
                if s.error:
                    errors.append(s.error)
                yield s

        rows = table(scored(), aupro_limit)
    out.print(metrics_table(rows))
    out.print("in percent; AUPRO released: as the code of many papers computes it, for comparing with them")
    if unlabelled := sum(sample.label is None for sample in samples):
        out.print(f"{unlabelled} of {len(samples)} images have no label and count for no metric")
    for line in remarks(rows):
        out.print(plain(line))
    if to:
        write_csv(rows, to)
    tell_seen(found, samples)
    tell_notes(notes)
    tell(errors)


def tell_seen(method: Method, samples: list[Sample]) -> None:
    """Say so if images that were tested are among those that the weights were trained on."""
    from zsad.training.leaks import seen_in

    if not method.seen:
        return
    with bar("comparing with what was trained on", len({sample.image for sample in samples})) as advance:
        known = len(seen_in(method.seen, samples, advance))
    if known:
        out.print(
            f"[bold red]{known:,} of {len(samples):,} images were in the training of these weights: these numbers are "
            "not zero-shot[/]",
            soft_wrap=True,
        )


def metrics_table(rows: list[Row]) -> Table:
    """Numbers in percent, as the papers print them."""
    from zsad.table import COLUMNS

    shown = columns("class", "images", *(heading for _, heading in COLUMNS), names=True)
    for row in rows:
        values = [row.values.get(key, float("nan")) for key, _ in COLUMNS]
        cells = ["-" if isnan(value) else f"{100 * value:.1f}" for value in values]
        shown.add_row(
            plain(row.class_name), str(row.images), *cells, style="bold" if row.class_name == "mean" else None
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
    out.print("  " + plain(page.resolve()), style="bold", soft_wrap=True)
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
        out.print(f"{name}: {plain(row.paper)}", soft_wrap=True)
        out.print(f"  code: {reference.repository} {reference.commit}, {held}" if reference.commit else "  no code")
        for switch in row.switches:
            out.print(f"  --set {plain(switch)}", soft_wrap=True)
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
