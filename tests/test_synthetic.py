"""The procedural dataset: deterministic, exactly masked, two halves apart, written whole or not at all."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zsad.data.synthetic import CATEGORIES, DEFECTS, caption, render, total, write
from zsad.data.synthetic.rendering import VISIBLE, difference
from zsad.errors import ZsadError

PAIRS = [(category.name, defect) for category in CATEGORIES.values() for defect in category.defects]


def _half(name: str) -> list[str]:
    return [category.name for category in CATEGORIES.values() if category.half == name]


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("category", CATEGORIES)
def test_same_seed_gives_the_same_pixels_and_another_seed_others(category: str) -> None:
    defect = CATEGORIES[category].defects[0]
    one, two, other = (render(category, defect, seed, 48) for seed in (7, 7, 8))
    assert np.array_equal(one.image, two.image) and np.array_equal(one.mask, two.mask)
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_whole_picture_has_an_empty_mask(category: str) -> None:
    drawn = render(category, None, 3, 48)
    assert drawn.image.shape == (48, 48, 3) and drawn.image.dtype == np.uint8 and drawn.image.std() > 1
    assert drawn.mask.shape == (48, 48) and not drawn.mask.any() and drawn.defect is None


@pytest.mark.parametrize("size", [64, 160])
def test_every_allowed_defect_shows_in_every_category(size: int) -> None:
    shares = {pair: render(*pair, 11, size).mask.mean() for pair in PAIRS}
    assert not {pair: share for pair, share in shares.items() if not 0.001 < share < 0.2}


@pytest.mark.parametrize(("category", "defect"), PAIRS[::5])
def test_pictures_of_one_seed_differ_inside_the_mask_and_nowhere_else(category: str, defect: str) -> None:
    whole, damaged = (render(category, kind, 5, 96) for kind in (None, defect))
    change = np.abs(whole.image.astype(float) - damaged.image).max(-1) / 255
    padded = np.pad(damaged.mask, 3)  # the camera's blur carries a change over the mask's edge by three pixels at most
    near = np.lib.stride_tricks.sliding_window_view(padded, (7, 7)).any((2, 3))
    assert change[~near].max() <= VISIBLE + 2 / 255  # rounded twice
    assert change[damaged.mask].mean() > 0.04


def test_the_mask_is_where_pictures_differ_visibly() -> None:
    clean = np.full((9, 9, 3), 0.5, np.float32)
    damaged = clean.copy()
    damaged[4, 4, 1] += 2 * VISIBLE
    damaged[0, 0, 1] += VISIBLE / 2
    mask, contrast = difference(clean, damaged, 1)
    assert np.argwhere(mask).tolist() == [[4, 4]]
    assert contrast == pytest.approx(2 * VISIBLE, abs=1e-6)


def test_holes_in_a_mask_are_closed() -> None:
    clean = np.zeros((9, 9, 3), np.float32)
    ring = clean.copy()
    ring[3:6, 3:6] = 1
    ring[4, 4] = 0
    assert difference(clean, ring, 1)[0].sum() == 9


def test_pictures_without_a_difference_have_no_mask() -> None:
    same = np.zeros((9, 9, 3), np.float32)
    assert not difference(same, same, 1)[0].any()


def test_the_halves_share_no_generator() -> None:
    modules = {
        half: {inspect.getmodule(CATEGORIES[name].draw) for name in _half(half)} for half in ("auxiliary", "unseen")
    }
    assert not modules["auxiliary"] & modules["unseen"]
    sources = {
        half: " ".join(inspect.getsource(module) for module in found if module) for half, found in modules.items()
    }
    assert "from .unseen" not in sources["auxiliary"] and "from .auxiliary" not in sources["unseen"]
    assert len(_half("auxiliary")) >= 14 and len(_half("unseen")) >= 10


def test_some_defects_occur_in_the_unseen_half_only() -> None:
    learned = {defect for name in _half("auxiliary") for defect in CATEGORIES[name].defects}
    assert {name for name, defect in DEFECTS.items() if defect.unseen_only} == set(DEFECTS) - learned
    assert len(set(DEFECTS) - learned) == 2


def test_captions_name_the_defect_or_say_there_is_none() -> None:
    rng = np.random.default_rng(0)
    whole = {caption("gear", None, rng) for _ in range(300)}
    broken = {caption("gear", "crack", rng) for _ in range(300)}
    assert len(whole) > 50 and len(broken) > 50 and not whole & broken
    assert any("crack" in sentence for sentence in broken) and not any("crack" in sentence for sentence in whole)
    assert any("gear" in sentence for sentence in whole) and any("object" in sentence for sentence in whole)


def test_a_defect_that_a_category_cannot_have_is_refused() -> None:
    with pytest.raises(ZsadError, match="screw has no defect"):
        render("screw", "burn", 0)
    with pytest.raises(ZsadError, match='did you mean "gear"'):
        render("gaer", None, 0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    steps: list[int] = []
    write(root, normal=2, anomalous=3, train=1, size=32, progress=lambda: steps.append(1))
    assert len(steps) == total("unseen", normal=2, anomalous=3, train=1)
    return root


def test_folder_has_the_layout_of_mvtec(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(_half("unseen"))
    for folder in written.iterdir():
        damaged = [path for path in folder.glob("test/*/*.png") if path.parent.name != "good"]
        assert len(damaged) == 3 and len({path.parent for path in damaged}) == 3
        assert [path.name for path in sorted(folder.glob("test/good/*"))] == ["000.png", "001.png"]
        assert [path.name for path in folder.glob("train/good/*")] == ["000.png"]
        masks = {f"{path.parent.name}/{path.stem}_mask.png" for path in damaged}
        assert {str(path.relative_to(folder / "ground_truth")) for path in folder.glob("ground_truth/*/*")} == masks


def test_masks_are_black_and_white(written: Path) -> None:
    masks = [np.asarray(Image.open(path)) for path in written.glob("*/ground_truth/*/*.png")]
    assert all(mask.dtype == np.uint8 and np.array_equal(np.unique(mask), [0, 255]) for mask in masks)


def test_no_two_written_scenes_are_the_same(written: Path) -> None:
    pictures = [path.read_bytes() for path in written.rglob("*.png") if "ground_truth" not in path.parts]
    assert len(set(pictures)) == len(pictures)


def test_two_workers_write_the_same_files(written: Path, tmp_path: Path) -> None:
    write(tmp_path / "again", normal=2, anomalous=3, train=1, size=32, workers=2)
    assert _files(tmp_path / "again") == _files(written)


def test_an_interrupted_folder_does_not_appear(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", normal=1, anomalous=0, size=32, progress=stop)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ZsadError, match="not an empty folder"):
        write(tmp_path, normal=1, anomalous=1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ZsadError, match="half"):
        write(tmp_path / "new", half="unsen")  # type: ignore[arg-type]
