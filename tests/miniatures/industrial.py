"""The industrial datasets in miniature. Names of folders and files are those of the archives and of released code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.miniatures import SIDE, Miniature, mask, picture

# One of each class's kinds of defect; AA-CLIP, dataset/metadata/*/full-shot.jsonl, lists all.
MVTEC = {
    "bottle": "broken_large", "cable": "cable_swap", "capsule": "faulty_imprint", "carpet": "metal_contamination",
    "grid": "glue", "hazelnut": "print", "leather": "fold", "metal_nut": "flip", "pill": "pill_type",
    "screw": "thread_top", "tile": "gray_stroke", "toothbrush": "defective", "transistor": "misplaced", "wood": "hole",
    "zipper": "broken_teeth",
}  # fmt: skip
VISA = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3", "pcb4",
    "pipe_fryum",
)  # fmt: skip
MPDD = {
    "bracket_black": "hole", "bracket_brown": "bend_and_parts_mismatch", "bracket_white": "defective_painting",
    "connector": "parts_mismatch", "metal_plate": "major_rust", "tubes": "anomalous",
}  # fmt: skip
DAGM = tuple(f"Class{i}" for i in range(1, 11))
DTD = (
    "Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037", "Stratified_154",
    "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127",
)  # fmt: skip
TALL = (24, 60)  # width, height of KolektorSDD and KolektorSDD2


def class_folders(root: Path, defects: Mapping[str, str], names: tuple[str, ...] = ("000", "001")) -> None:
    """MVTec AD's layout: two normal images to train, one to test, and two with a defect of each class."""
    for name, defect in defects.items():
        for i in names:
            picture(root / name / "train/good" / f"{i}.png")
            picture(root / name / "test" / defect / f"{i}.png")
            mask(root / name / "ground_truth" / defect / f"{i}_mask.png")
        picture(root / name / "test/good" / f"{names[0]}.png")


def _class_folders(dataset: str, layout: str, defects: Mapping[str, str]) -> Miniature:
    count = len(defects)
    counts = {"train": (2 * count, 0), "test": (count, 2 * count)}
    return Miniature(dataset, layout, partial(class_folders, defects=defects), counts, 2 * count, count)


def _with_meta_json(root: Path) -> None:
    class_folders(root, MVTEC)
    test = {
        name: [_meta(name, "good", "000"), _meta(name, defect, "000"), _meta(name, defect, "001")]
        for name, defect in MVTEC.items()
    }
    train = {name: [_meta(name, "good", i, "train") for i in ("000", "001")] for name in MVTEC}
    (root / "meta.json").write_text(json.dumps({"train": train, "test": test}, indent=4))


def _meta(name: str, defect: str, stem: str, split: str = "test") -> dict[str, object]:
    truth = "" if defect == "good" else f"{name}/ground_truth/{defect}/{stem}_mask.png"
    return {
        "img_path": f"{name}/{split}/{defect}/{stem}.png",
        "mask_path": truth,
        "cls_name": name,
        "specie_name": defect,
        "anomaly": int(bool(truth)),
    }


# --- VisA


def _visa(root: Path) -> None:
    rows = ["object,split,label,image,mask"]
    for name in VISA:
        for i in range(4):
            picture(root / name / f"Data/Images/Normal/{i:04}.JPG")
            rows.append(f"{name},{'test' if i == 1 else 'train'},normal,{name}/Data/Images/Normal/{i:04}.JPG,")
        for i in range(2):
            image, truth = f"{name}/Data/Images/Anomaly/{i:03}.JPG", f"{name}/Data/Masks/Anomaly/{i:03}.png"
            picture(root / image)
            _kinds(root / truth)
            rows.append(f"{name},test,anomaly,{image},{truth}")
        (root / name / "image_anno.csv").write_text(
            f"image,label,mask\n{name}/Data/Images/Normal/0000.JPG,normal,\n"
            f"{name}/Data/Images/Anomaly/000.JPG,bent,{name}/Data/Masks/Anomaly/000.png\n"
        )
    (root / "split_csv").mkdir()
    for split in ("1cls", "2cls_fewshot", "2cls_highshot"):
        (root / "split_csv" / f"{split}.csv").write_text("\n".join(rows if split == "1cls" else rows[:-12]) + "\n")


def _kinds(path: Path) -> None:
    """A mask that numbers kinds of defect, as VisA's do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[3:6, 4:12], pixels[8:9, 4:12] = 1, 2
    Image.fromarray(pixels).save(path)


def _visa_one_class(root: Path, above: str = "") -> None:
    """What the authors' utils/prepare_data.py makes of it."""
    for folder in (root / above / name for name in VISA):
        for i in range(2):
            picture(folder / f"train/good/{i:04}.JPG")
            picture(folder / f"test/bad/{i:03}.JPG")
            mask(folder / f"ground_truth/bad/{i:03}.png")
        picture(folder / "test/good/0002.JPG")


# --- BTAD


def _btad(root: Path, mask_of_03: str = "bmp") -> None:
    for name, image, truth in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", mask_of_03)):
        for i in range(2):
            picture(root / name / f"train/ok/{i:04}.{image}")
            picture(root / name / f"test/ko/{i:04}.{image}")
            mask(root / name / f"ground_truth/ko/{i:04}.{truth}")
        picture(root / name / f"test/ok/0000.{image}")


# --- KolektorSDD and KolektorSDD2


def _ksdd(root: Path) -> None:
    """Nine images; a defect in the upper half of one, in the lower of another, and across both of a third."""
    defects = {"kos01/Part5": slice(3, 9), "kos02/Part0": slice(40, 50), "kos10/Part3": slice(25, 35)}
    for name in ("kos01/Part0", "kos01/Part6", "kos02/Part1", "kos02/Part2", "kos10/Part0", "kos10/Part7", *defects):
        picture(root / f"{name}.jpg", size=TALL, mode="L")
        mask(root / f"{name}_label.bmp", name in defects, TALL, defects.get(name, slice(0)))


def _ksdd_parts(root: Path, name: str, parts: int) -> None:
    """What is left of it when it is cut and sorted into folders; AdaCLIP, data_preprocess/sdd-pre.py."""
    for i in range(parts):
        picture(root / name / f"train/good/kos01_Part0_{i}.png")
        picture(root / name / f"test/defect/kos01_Part5_{i}.png")
        mask(root / name / f"ground_truth/defect/kos01_Part5_{i}_mask.png")
    picture(root / name / "test/good/kos02_Part1_0.png")


def _ksdd2(root: Path) -> None:
    for stem in ("train/10000", "train/10001", "test/20000", "test/20002"):
        _with_mask(root, stem, marked=False)
    for stem in ("train/10301", "test/20001"):
        _with_mask(root, stem)
    (root / "train/10301 (copy).png").write_bytes((root / "train/10301.png").read_bytes())
    (root / "train/10301_GT (copy).png").write_bytes((root / "train/10301_GT.png").read_bytes())
    (root / "split_weakly_0.pyb").write_bytes(b"")


def _with_mask(root: Path, stem: str, marked: bool = True) -> None:
    picture(root / f"{stem}.png", size=TALL)
    mask(root / f"{stem}_GT.png", marked, TALL)


# --- DAGM


def _dagm(root: Path) -> None:
    for name in DAGM:
        for split, defective in (("Train", 2), ("Test", 3)):
            folder = root / name / split
            for i in range(1, 4):
                picture(folder / f"{i:04}.PNG", mode="L")
            mask(folder / f"Label/{defective:04}_label.PNG")
            (folder / "Label/Labels.txt").write_text(f"1\n1\t0\t1\t0\t0\n2\t1\t2\t{defective:04}_label.PNG\t0\n")


def _dagm_folders(root: Path) -> None:
    """AdaCLIP, data_preprocess/dagm-pre.py."""
    for folder in (root / name for name in DAGM):
        for i in (1, 2):
            picture(folder / f"train/good/{i:04}.PNG", mode="L")
            picture(folder / f"test/defect/{i + 4:04}.PNG", mode="L")
            mask(folder / f"ground_truth/defect/{i + 4:04}_label.PNG")
        picture(folder / "test/good/0003.PNG", mode="L")


def _folders(dataset: str, layout: str, write: Callable[[Path], None], classes: int) -> Miniature:
    counts = {"train": (2 * classes, 0), "test": (classes, 2 * classes)}
    return Miniature(dataset, layout, write, counts, 2 * classes, classes)


MINIATURES = [
    _class_folders("mvtec", "original", MVTEC),
    Miniature("mvtec", "AnomalyCLIP", _with_meta_json, {"train": (30, 0), "test": (15, 30)}, 30, 15),
    Miniature("visa", "original", _visa, {"train": (36, 0), "test": (12, 24)}, 24, 12),
    _folders("visa", "spot-diff", partial(_visa_one_class, above="1cls"), 12),
    _folders("visa", "anomalib", _visa_one_class, 12),
    _class_folders("mpdd", "original", MPDD),
    _folders("btad", "original", _btad, 3),
    _folders("btad", "anomalib", partial(_btad, mask_of_03="png"), 3),
    Miniature("ksdd", "original", _ksdd, {"train": (10, 0), "test": (4, 4)}, 4),
    _folders("ksdd", "AnomalyCLIP", partial(_ksdd_parts, name="electrical commutators", parts=2), 1),
    Miniature("ksdd", "AdaCLIP", partial(_ksdd_parts, name="SDD", parts=3), {"train": (3, 0), "test": (1, 3)}, 3),
    Miniature("ksdd2", "original", _ksdd2, {"train": (2, 1), "test": (2, 1)}, 2),
    _class_folders("ksdd2", "class folders", {"KSDD2": "defect"}),
    Miniature("dagm", "original", _dagm, {"train": (20, 10), "test": (20, 10)}, 20, 10),
    _folders("dagm", "AdaCLIP", _dagm_folders, 10),
    _class_folders("dtd", "original", dict.fromkeys(DTD, "bad")),
]
