"""zsad data: what datasets there are, what a folder holds, whether it is whole, and the synthetic set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from zsad.cli.screen import DatasetName, ReadingSwitches, bar, columns, err, out, plain, reading_of
from zsad.errors import ZsadError

if TYPE_CHECKING:
    from zsad.data.catalog import Count, Dataset
    from zsad.data.found import Found
    from zsad.types import Sample

app = typer.Typer(help="Datasets: list, index, check, show, fetch; and the synthetic one.", no_args_is_help=True)

Anything = Annotated[Path, typer.Argument(help="A folder of images in any layout, or a table that lists images.")]


@app.command("list", epilog="Example: zsad data list visa")
def list_(
    name: Annotated[str | None, typer.Argument(help="Show everything about this one, and how its files lie.")] = None,
) -> None:
    """The datasets that zsad knows by name."""
    from zsad.data.catalog import catalog, find

    if name:
        _describe(find(name))
        return
    shown = columns("name", "dataset", "domain", "modality", "classes", "test", "metrics", "licence", names=True)
    for row in catalog().values():
        tested = [count for count in row.counts if count.split == "test"]
        counts = _numbers(tested[0]) if tested else "?"
        cells = (row.title, row.domain, row.modality, str(len(row.classes)), counts, ", ".join(row.metrics))
        shown.add_row(row.name, *map(plain, cells), plain(row.licence))
    out.print(shown)
    out.print(
        "test: normal + anomalous images, as the papers or the dataset's authors count them; the first of several "
        "counts.\nzsad data list NAME says all counts, where a dataset comes from and how its files lie; any other "
        "folder "
        "works too:\nzsad data index FOLDER.",
        soft_wrap=True,
    )


def _numbers(count: Count) -> str:
    return f"{count.normal:,} + {count.anomalous:,}"


def _describe(row: Dataset) -> None:
    from zsad.data.fetch import instructions

    out.print(f"[bold]{row.name}[/]: {plain(row.title)}, {row.domain}, {row.modality}", soft_wrap=True)
    named = [word if said in ("", word) else f"{word} ({said})" for word, said in row.classes.items()]
    out.print(f"classes: {plain(', '.join(named))}", soft_wrap=True)
    for count in row.counts:
        out.print(f"{count.split}: {_numbers(count)} (normal + anomalous; {plain(count.source)})", soft_wrap=True)
    used = f"; tested by {', '.join(row.papers)}" if row.papers else ""
    out.print(f"metrics: {', '.join(row.metrics)}{used}")
    out.print(f"also called: {plain(', '.join(row.aliases)) or 'nothing else'}", soft_wrap=True)
    for note in row.notes:
        out.print(f"note: {plain(note)}", soft_wrap=True)
    out.print(plain(instructions(row, Path(row.name))), soft_wrap=True)


@app.command(epilog="Example: zsad data index photos/ --out photos.jsonl")
def index(
    roots: Annotated[list[Path], typer.Argument(help="Folders of images in any layout, or tables that list images.")],
    to: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The manifest: .jsonl, .parquet or .csv; or meta.json for the papers' code."),
    ] = None,
    dataset: DatasetName = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the paths in a table are relative to; default: found beside it.")
    ] = None,
) -> None:
    """Understand a folder, say how, and write a manifest that every other command takes in place of the folder.

    Normal and anomalous images are told by folder names, by a table, or by masks; without any of these the images have
    no label, which is fine for predict. With several folders the manifest holds all of them. What is wrong is listed
    by name, the rest is written, and the exit code is 1 at the end.
    """
    from zsad.data.index import index as understand
    from zsad.data.tables import write_table

    everything: list[Sample] = []
    wrong = False
    for root in roots:
        with err.status(plain(f"reading {root}")):
            found = understand(root, dataset, images)
        out.print(f"{plain(root)}: {plain(found.understood)}", soft_wrap=True)
        _tell_unused(root)
        wrong = _tell(found, root) or wrong
        everything += found.samples
    seen = {(sample.image.absolute(), sample.part): sample for sample in reversed(everything)}
    if twice := len(everything) - len(seen):
        err.print(f"{twice} images are in several of these folders; each is kept once")
        everything = list(reversed(seen.values()))
    out.print(counts_table(everything))
    if to is None:
        out.print("no --out, so nothing was written")
    else:
        write_table(everything, to)
        use = "evaluate" if any(sample.label is not None for sample in everything) else "predict"
        out.print(f"{plain(to)}: {len(everything)} images; use it in place of the folder: zsad {use} {plain(to)}")
    if wrong:
        raise typer.Exit(1)


def _tell_unused(root: Path) -> None:
    """Say which tables and pictures in a folder were left alone."""
    from zsad.data.files import unread
    from zsad.data.tables.folders import unused

    for line in unused(root) if root.is_dir() else ():
        err.print(f"[yellow]{plain(line)}[/]", soft_wrap=True)
    if kinds := unread(root) if root.is_dir() else {}:
        listed = ", ".join(f"{count} {end}" for end, count in kinds.items())
        err.print(f"[yellow]not read: {listed}; save as PNG, JPEG or TIFF what should be[/]", soft_wrap=True)


def _tell(found: Found, root: Path) -> bool:
    from zsad.data.found import told

    for line in told(found.problems, root):
        err.print(f"[red]{plain(line)}[/]", soft_wrap=True)
    return bool(found.problems)


def counts_table(samples: list[Sample]) -> Table:
    """Images by class and split."""
    shown = columns("class", "split", "normal", "anomalous", "unlabelled", "masks", "defects")
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.dataset, sample.class_name, sample.split), []).append(sample)
    several = len({dataset for dataset, _, _ in groups}) > 1
    for (dataset, name, split), own in groups.items():
        counts = [sum(sample.label == label for sample in own) for label in (0, 1, None)]
        defects = dict.fromkeys(sample.defect for sample in own if sample.label == 1 and sample.defect)
        masks = sum(sample.mask is not None for sample in own)
        name = f"{dataset}/{name}" if several else name
        shown.add_row(plain(name), split, *map(str, counts), str(masks), plain(", ".join(defects)))
    return shown


@app.command(epilog="Example: zsad data check mvtec data/mvtec")
def check(
    what: Annotated[
        list[str], typer.Argument(metavar="[NAME] ROOT", help="A name of `zsad data list`, and its folder.")
    ],
    reading: ReadingSwitches = None,
    workers: Annotated[int, typer.Option(help="Processes that open files.", min=0)] = 2,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the report as JSON.")] = None,
) -> None:
    """Open every file: counts against the catalog, unreadable files, masks, duplicates. Exit code 1 if it is not whole.

    Without a name the dataset is recognised, or checked for what can be checked in any folder.
    """
    from zsad.data.catalog import catalog
    from zsad.data.check import check as run
    from zsad.data.index import index as understand
    from zsad.writing import whole

    if len(what) > 2:
        raise ZsadError(f"expected [NAME] ROOT, got {len(what)} words: {' '.join(what)}")
    if len(what) == 2 and Path(what[0]).exists() and what[0] not in catalog():
        raise ZsadError(f"expected [NAME] ROOT, got two folders; check {what[0]} and {what[1]} one after the other")
    root, name = Path(what[-1]), what[0] if len(what) == 2 else None
    if name is None and not root.exists() and what[0] in catalog():
        raise ZsadError(f"expected the folder of {what[0]} as well: zsad data check {what[0]} FOLDER")
    with err.status(plain(f"reading {root}")):
        found = understand(root, name)
    out.print(f"{plain(root)}: {plain(found.understood)}", soft_wrap=True)
    row = catalog().get(found.dataset)
    with bar("checking", len(found.samples)) as advance:
        report = run(found, row, reading_of(reading), workers=workers, progress=advance)
    out.print(counts_table(found.samples))
    if to:
        with whole(to) as part:
            part.write_text(report.to_json() + "\n", encoding="utf-8")
    for line in report.lines(root):
        out.print(plain(line), soft_wrap=True)
    if report.wrong:
        raise typer.Exit(1)


@app.command(epilog="Example: zsad data show data/unseen")
def show(
    root: Anything,
    to: Annotated[Path, typer.Option("--out", "-o", help="The picture (.png, .jpg or .webp).")] = Path("sheet.png"),
    dataset: DatasetName = None,
    split: Annotated[str, typer.Option(help="train, test, or another that the dataset has.")] = "test",
    per_class: Annotated[
        int | None, typer.Option(help="Images of a class at most; default: by the number of classes.", min=1)
    ] = None,
    reading: ReadingSwitches = None,
) -> None:
    """What a folder holds, as zsad reads it: a table, and a contact sheet with the contours of the masks."""
    from zsad.data.index import index as understand
    from zsad.data.sheet import contact_sheet
    from zsad.writing import whole

    found = understand(root, dataset)
    out.print(f"{plain(root)}: {plain(found.understood)}", soft_wrap=True)
    _tell(found, root)
    out.print(counts_table(found.samples))
    chosen = [sample for sample in found.samples if sample.split == split]
    if not chosen:
        others = ", ".join(dict.fromkeys(sample.split for sample in found.samples))
        raise ZsadError(f"{root}: no image in its {split} split; --split takes {others}")
    if to.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ZsadError(f"--out {to} must end in .png, .jpg or .webp")
    with err.status("drawing"):
        sheet = contact_sheet(chosen, per_class=per_class, reading=reading_of(reading))
    with whole(to) as part:
        sheet.save(part, format={"jpg": "jpeg"}.get(to.suffix[1:].lower(), to.suffix[1:]))
    out.print(f"{plain(to)}: {sheet.width} x {sheet.height} pixels")


@app.command(epilog="Example: zsad data fetch visa data/visa")
def fetch(
    name: Annotated[str, typer.Argument(help="A name of `zsad data list`.")],
    root: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Download a dataset where its licence allows and a stable address is known, or say where to get it.

    Goes on where a download was cut, and unpacks only what has the right hash.
    """
    from zsad.data.catalog import find
    from zsad.data.fetch import fetch as run

    row = find(name)
    with bar(f"fetching {row.name}", None) as advance:
        place = run(row, root, progress=megabytes(advance), say=lambda text: err.print(plain(text), soft_wrap=True))
    out.print(f"{plain(place)}: now zsad data check {row.name} {plain(place)}", soft_wrap=True)


def megabytes(advance: Callable[..., None]) -> Callable[[int, int | None], None]:
    """A listener to bytes that shows what is done on a bar."""

    def show(done: int, total: int | None) -> None:
        advance(0, f"{done / 1e6:,.0f}" + (f" of {total / 1e6:,.0f} MB" if total else " MB"))

    return show


@app.command("synth", epilog="Example: zsad data synth data/unseen --half unseen")
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
    with bar(f"drawing {plain(root)}", synthetic.total(half, normal, anomalous, 0)) as advance:  # type: ignore[arg-type]
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
    out.print(f"{plain(root)}: try it: zsad evaluate {plain(root)}")
