"""The later datasets in miniature, under the folder and file names of their archives."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from tests.miniatures import Miniature, mask, picture

MVTEC_AD_2 = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
MVTEC_LOCO = ("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors")
MVTEC_3D = ("bagel", "cable_gland", "carrot", "cookie", "dowel", "foam", "peach", "potato", "rope", "tire")
REAL_IAD = (
    "audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb",
    "phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base", "sim_card_set",
    "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1", "u_block", "usb",
    "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper",
)  # fmt: skip


def _mvtec_ad_2(root: Path) -> None:
    for folder in (root / name for name in MVTEC_AD_2):
        picture(folder / "train/good/000_regular.png")
        picture(folder / "validation/good/000_regular.png")
        picture(folder / "test_public/good/000_regular.png")
        for stem in ("000_regular", "000_overexposed"):  # good/ and bad/ share names
            picture(folder / f"test_public/bad/{stem}.png")
            mask(folder / f"test_public/ground_truth/bad/{stem}_mask.png")
        picture(folder / "test_private/000_regular.png")
        picture(folder / "test_private_mixed/000_mixed.png")


def _mvtec_loco(root: Path) -> None:
    for folder in (root / name for name in MVTEC_LOCO):
        for split in ("train", "validation", "test"):
            picture(folder / split / "good/000.png")
        for defect in ("logical_anomalies", "structural_anomalies"):
            picture(folder / "test" / defect / "000.png")
            mask(folder / "ground_truth" / defect / "000/000.png")
        mask(folder / "ground_truth/logical_anomalies/000/001.png", rows=slice(12, 15))  # two masks of one image
        (folder / "defects_config.json").write_text("[]")


def _mvtec_3d(root: Path) -> None:
    for folder in (root / name for name in MVTEC_3D):
        for place in ("train/good", "validation/good", "test/good", "test/hole"):
            picture(folder / place / "rgb/000.png")
            (folder / place / "xyz").mkdir(parents=True)
            tifffile.imwrite(folder / place / "xyz/000.tiff", np.zeros((24, 24, 3), np.float32), photometric="rgb")
        mask(folder / "test/good/gt/000.png", marked=False)
        mask(folder / "test/hole/gt/000.png")
        (folder / "calibration").mkdir()
        (folder / "calibration/camera_parameters.json").write_text("{}")


def _real_iad(root: Path) -> None:
    jsons = root / "realiad_jsons"
    for name in REAL_IAD:
        train, good = (f"OK/S000{i}/{name}_000{i}_OK_C1_20231023094927.jpg" for i in (1, 2))
        bad = f"NG/QS/S0001/{name}_0001_NG_QS_C1_20231023092610"
        for image in (train, good, f"{bad}.jpg"):
            picture(root / "realiad_1024" / name / image)
        mask(root / "realiad_1024" / name / f"{bad}.png")
        split = {
            "meta": {"normal_class": "OK", "prefix": f"{name}/"},
            "train": [_entry(name, "OK", train)],
            "test": [_entry(name, "OK", good), _entry(name, "QS", f"{bad}.jpg", f"{bad}.png")],
        }
        for kind, content in {"realiad_jsons": split, "realiad_jsons_sv": split | {"train": []}}.items():
            (jsons / kind).mkdir(parents=True, exist_ok=True)
            (jsons / kind / f"{name}.json").write_text(json.dumps(content))


def _entry(name: str, kind: str, image: str, truth: str | None = None) -> dict[str, str | None]:
    return {"category": name, "anomaly_class": kind, "image_path": image, "mask_path": truth}


# --- BMAD


def _bmad(root: Path, masks: str, valid: str = "valid", train: str = "train/good") -> None:
    """Today's packagings: images and masks below the label; `masks` names the folder of masks, "" where none are."""
    picture(root / train / "11_1.png")
    for split in (valid, "test"):
        picture(root / split / "good/img/9_460.png")
        picture(root / split / "Ungood/img/4_387.png")
        if masks:
            mask(root / split / "Ungood" / masks / "4_387.png")


def _bmad_whole(root: Path) -> None:
    """anomalib's archive: all six sets, of which one is wanted."""
    _bmad(root / "Liver", masks="label")
    _bmad(root / "Brain", masks="label")


def _bmad_liver(root: Path) -> None:
    """As in the authors' code (Deep-SVDD/data.py): the label below images and masks."""
    picture(root / "train/good/11_1.png")
    for split in ("valid", "test"):
        picture(root / split / "img/good/9_460.png")
        mask(root / split / "label/good/9_460.png", marked=False)
        picture(root / split / "img/Ungood/4_387.png")
        mask(root / split / "label/Ungood/4_387.png")


def _bmad_retina(root: Path) -> None:
    """As in the authors' code (Deep-SVDD/data.py)."""
    picture(root / "Train/train/good/1_1.png")
    for split in ("Val", "Test"):
        low = split.lower()
        picture(root / split / low / "good/15_115.png")
        picture(root / split / low / "Ungood/11_49.png")
        mask(root / split / f"{low}_label" / "Ungood/11_49.png")


def _bmad_chest(root: Path) -> None:
    picture(root / "train/good/Normal-009482dc-3db5-48d4-8580-5c89c4f01334.png")
    for split in ("val", "test"):
        picture(root / split / "good/Normal-003d8fa0-6bf1-40ed-b54c-ac657f8495c5.png")
        picture(root / split / "Ungood/Lung_Opacity_00436515-870c-4b36-a041-de91049b9ab4.png")


BMAD = {"train": (1, 0), "validation": (1, 1), "test": (1, 1)}
MINIATURES = [
    Miniature(
        "mvtec-ad-2", "original", _mvtec_ad_2,
        {"train": (8, 0), "validation": (8, 0), "test": (8, 16), "test_private": (0, 0), "test_private_mixed": (0, 0)},
        16, 8,
    ),
    Miniature("mvtec-loco", "original", _mvtec_loco, {"train": (5, 0), "validation": (5, 0), "test": (5, 10)}, 10, 5),
    Miniature("real-iad", "original", _real_iad, {"train": (30, 0), "test": (30, 30)}, 30, 30),
    Miniature("bmad-liver", "original", _bmad_liver, BMAD, 2),
    Miniature("bmad-liver", "README", partial(_bmad, masks="anomaly_mask", train="train/good/img"), BMAD, 2),
    Miniature("bmad-liver", "anomalib", _bmad_whole, BMAD, 2),
    Miniature("bmad-retina", "original", _bmad_retina, BMAD, 2),
    Miniature("bmad-retina", "anomalib", partial(_bmad, masks="label", valid="val"), BMAD, 2),
    Miniature("bmad-chest", "original", _bmad_chest, BMAD, 0),
    Miniature("bmad-chest", "anomalib", partial(_bmad, masks="", valid="val"), BMAD, 0),
    Miniature("mvtec-3d", "original", _mvtec_3d, {"train": (10, 0), "validation": (10, 0), "test": (10, 10)}, 10, 10),
]  # fmt: skip
