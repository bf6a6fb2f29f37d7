"""The embedded model on real photographs that nothing was trained on, beside a trivial baseline.

    python benchmarks/real_images.py FOLDER [FOLDER ...]

The baseline is the energy of the image gradient: the map is the blurred gradient magnitude of the grey image, the score
its mean. Whatever does not beat it has not understood anything about defects.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import zsad
from zsad.api import input_size
from zsad.data.images import read_image
from zsad.data.index import samples_of
from zsad.evaluate import Scored, score_samples
from zsad.maps import smooth
from zsad.table import COLUMNS, class_row


def gradient_energy(scored: list[Scored], size: int) -> Iterator[Scored]:
    """The same samples as the baseline sees them."""
    for one in scored:
        grey = np.asarray(read_image(one.sample.image).convert("L").resize((size, size)), np.float32) / 255
        rows, columns = np.gradient(grey)
        map = smooth(torch.from_numpy(np.hypot(rows, columns))[None], 4.0)[0]
        yield Scored(one.sample, float(map.mean()), map, one.mask)


def main() -> None:
    """Print one row per folder and scorer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    method = zsad.load()
    size = input_size(method)
    shown = Table("images of", "scorer", "images", *(heading for _, heading in COLUMNS), box=None)
    for root in parser.parse_args().folders:
        ours = [one for one in score_samples(method, samples_of(root), size) if not one.error]
        for name, scored in (("anomalyclip on tiny", ours), ("gradient energy", list(gradient_energy(ours, size)))):
            values = class_row(root.name, scored).values
            cells = ("-" if np.isnan(value) else f"{100 * value:.1f}" for value in (values[key] for key, _ in COLUMNS))
            shown.add_row(root.name, name, str(len(scored)), *cells)
    Console().print(shown)


if __name__ == "__main__":
    main()
