"""The medical datasets in miniature, under the folder and file names of their archives and of others' packagings."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from tests.miniatures import SIDE, Miniature, mask, picture

SKIN = ("ISIC_0000003", "ISIC_0000012", "ISIC_0000015")
POLYPS = ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0qx73cjw570799j4n5cjze")


def _pairs(root: Path, images: str, masks: str, *pairs: tuple[str, str]) -> None:
    """Images and their masks, as pairs of file names."""
    for number, (image, truth) in enumerate(pairs):
        picture(root / images / image, number)
        mask(root / masks / truth)


def _numbered(root: Path, images: str = "images", masks: str = "masks", suffix: str = ".png") -> None:
    _pairs(root, images, masks, *((f"{i}{suffix}", f"{i}{suffix}") for i in (1, 2, 10)))


# --- images and masks


def _isic(root: Path) -> None:
    for split, stems in {"Test": SKIN, "Training": ("ISIC_0000000",)}.items():
        part = f"ISBI2016_ISIC_Part1_{split}"
        pairs = [(f"{stem}.jpg", f"{stem}_Segmentation.png") for stem in stems]
        _pairs(root, f"{part}_Data", f"{part}_GroundTruth", *pairs)


def _isic_flat(root: Path, masks: str) -> None:
    """AnomalyCLIP's and Crane's: any folder of images, all masks in one."""
    _pairs(root / "skin", "test/bad", masks, *((f"{stem}.jpg", f"{stem}_Segmentation.png") for stem in SKIN))


def _clinicdb_kaggle(root: Path) -> None:
    for folder, suffix in {"PNG": ".png", "TIF": ".tif"}.items():
        _numbered(root / folder, "Original", "Ground Truth", suffix)
    (root / "class_dict.csv").write_text("name,r,g,b\nPolyp,255,255,255\nBackground,0,0,0\n")
    rows = [f"{i},1,PNG/Original/{i}.png,PNG/Ground Truth/{i}.png,TIF/Original/{i}.tif" for i in (1, 2, 10)]
    (root / "metadata.csv").write_text(
        "\n".join(["frame_id,sequence_id,png_image_path,png_mask_path,tif_image_path", *rows])
    )


def _polyp_collection(root: Path) -> None:
    """The collection of PraNet: several datasets side by side."""
    for name in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "Kvasir"):
        _numbered(root / name)


def _kvasir(root: Path) -> None:
    _pairs(root / "Kvasir-SEG", "images", "masks", *((f"{stem}.jpg", f"{stem}.jpg") for stem in POLYPS))
    boxes = {stem: {"height": SIDE, "width": SIDE, "bbox": []} for stem in POLYPS}
    (root / "Kvasir-SEG/kavsir_bboxes.json").write_text(json.dumps(boxes))


def _endo(root: Path, folder: str = "EndoTect_2020_Segmentation_Test_Dataset") -> None:
    stems = ("0b5e94c5-e5b9-4d17-8a0d-1d4d2f9ea0b1", "13b0ad3a-7a3b-4d53-9d4a-6a3ad9f9b1c2")
    _pairs(root / folder, "images", "masks", *((f"{stem}.jpg", f"{stem}.jpg") for stem in stems))


def _tn3k(root: Path, folder: str = "tn3k") -> None:
    for split in ("trainval", "test"):
        _pairs(root / folder, f"{split}-image", f"{split}-mask", *((f"{i:04}.jpg",) * 2 for i in (0, 1, 10)))
    (root / folder / "tn3k-trainval-fold0.json").write_text('{"train": [0, 1], "val": [2]}')


def _thyroid(root: Path) -> None:
    """The authors' whole archive: another dataset beside TN3K."""
    _tn3k(root / "Thyroid Dataset")
    _pairs(root / "Thyroid Dataset/tg3k", "thyroid-image", "thyroid-mask", ("0000.jpg", "0000.jpg"))


def _processed(root: Path, name: str, masks: bool) -> None:
    """AdaCLIP's packaging: class folders as in MVTec AD, with an empty train/good."""
    (root / name / "train/good").mkdir(parents=True)
    (root / name / "test/good").mkdir(parents=True)
    for i in (1, 2, 10):
        picture(root / name / f"test/defect/{i}.png", i)
        if masks:
            mask(root / name / f"ground_truth/defect/{i}.png")
        else:
            picture(root / name / f"test/good/{i + 100}.png", i)


# --- labels by folder or by table


def _headct(root: Path) -> None:
    numbers = (0, 1, 100, 199)
    for number in numbers:
        picture(root / f"head_ct/head_ct/{number:03}.png", number)
    rows = [f"{number},{int(number < 100)}" for number in numbers]
    (root / "labels.csv").write_text("\n".join(["id, hemorrhage", *rows, ""]))


def _by_folder(root: Path, **files: str) -> None:
    for folder, names in files.items():
        for number, name in enumerate(names.split("|")):
            picture(root / folder / name, number)


def _brains(root: Path) -> None:
    _by_folder(root, no="1 no.jpeg|2 no.jpg|N1.JPG", yes="Y1.jpg|Y10.jpg")


def _brainmri(root: Path) -> None:
    _brains(root)
    _brains(root / "brain_tumor_dataset")


def _br35h(root: Path) -> None:
    _by_folder(root, no="no0.jpg|no1.jpg", yes="y0.jpg|y1.jpg", pred="pred0.jpg")
    for split in ("TRAIN", "VAL", "TEST"):
        picture(root / "Br35H-Mask-RCNN" / split / "y1.jpg")
    (root / "Br35H-Mask-RCNN/annotations_all.json").write_text("{}")


def _covid(root: Path) -> None:
    for folder in ("NORMAL", "COVID-19", "Viral Pneumonia"):
        for number in (1, 2, 10):
            picture(root / folder / f"{folder} ({number}).png", number)
        (root / f"{folder}.metadata.xlsx").touch()


def _covid_today(root: Path) -> None:
    for folder in ("Normal", "COVID", "Viral Pneumonia", "Lung_Opacity"):
        for number in (1, 2, 10):
            name = f"{folder}-{number}.png"
            picture(root / "COVID-19_Radiography_Dataset" / folder / "images" / name, number)
            mask(root / "COVID-19_Radiography_Dataset" / folder / "masks" / name)


# --- BMAD


def _oct17(root: Path) -> None:
    kinds = {"NORMAL": "1017237", "CNV": "1016042", "DME": "1081406", "DRUSEN": "1083159"}
    for split in ("train", "val", "test"):
        for kind, patient in kinds.items():
            picture(root / split / kind / f"{kind}-{patient}-1.jpeg")


def _bmad(
    root: Path, suffix: str, *, valid: str = "valid", carrier: str = "", masks: str = "", train: str = ""
) -> None:
    """BMAD's packaging and others' of it: `carrier` is the folder of images below a label, `masks` that of masks."""
    picture(root / "train/good" / train / f"00003_60{suffix}")
    for split in (valid, "test"):
        picture(root / split / "good" / carrier / f"00025_99{suffix}")
        for name in (f"00002_60{suffix}", f"00002_68{suffix}"):
            picture(root / split / "Ungood" / carrier / name)
            if masks:
                mask(root / split / "Ungood" / masks / name)


def _bmad_whole(root: Path) -> None:
    """The archive that anomalib downloads: all six benchmarks side by side."""
    _bmad(root / "Brain", ".png", carrier="img", masks="label")
    _bmad(root / "Retina_OCT2017", ".png", valid="valid", carrier="img")
    _bmad(root / "Histopathology", ".png", carrier="img")
    _bmad(root / "Chest", ".png", carrier="img")


def _brain_meta(root: Path) -> None:
    """VisualAD's way: a meta.json tells everything, the folders nothing."""
    entries = []
    for number, anomalous in enumerate((False, True, True)):
        image, truth = f"scans/{number}.png", f"lesions/{number}.png" if anomalous else ""
        picture(root / image, number)
        if truth:
            mask(root / truth)
        entry = {
            "img_path": image,
            "mask_path": truth,
            "cls_name": "brain",
            "specie_name": "",
            "anomaly": int(anomalous),
        }
        entries.append(entry)
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": {"brain": entries}}))


def _histopathology(root: Path) -> None:
    """As in BMAD's README."""
    _by_folder(
        root, **{"train/good": "1000.png|1001.png", "valid/good": "1080.png", "valid/Ungood": "1000.png|1001.png"}
    )
    _by_folder(root, **{"test/good": "1000.png", "test/Ungood": "100.png|101.png"})


# --- joined


def _joined(root: Path) -> None:
    """AnomalyCLIP's packaging of ColonDB and Endo."""
    _numbered(root)
    _by_folder(root, good="0a1b.jpg|0a1c.jpg")


def _side_by_side(root: Path) -> None:
    _numbered(root / "CVC-ColonDB")
    _endo(root)
    _by_folder(root / "EndoTect", **{"normal-cecum": "0a1b.jpg", "normal-z-line": "0a1c.jpg", "polyp": "0a1d.jpg"})


THREE = {"test": (0, 3)}
KNOWN = {"train": (1, 0), "validation": (1, 2), "test": (1, 2)}
MINIATURES = [
    Miniature("isic", "original", _isic, {"train": (0, 1), "test": (0, 3)}, 4),
    Miniature("isic", "AnomalyCLIP", partial(_isic_flat, masks="ISBI2016_ISIC_Part1_Test_GroundTruth"), THREE, 3),
    Miniature("isic", "Crane", partial(_isic_flat, masks="ground_truth"), THREE, 3),
    Miniature("isic", "AdaCLIP", partial(_processed, name="isic", masks=True), THREE, 3),
    Miniature(
        "clinicdb", "original", partial(_numbered, images="Original", masks="Ground Truth", suffix=".tif"), THREE, 3
    ),
    Miniature("clinicdb", "Kaggle", _clinicdb_kaggle, THREE, 3),
    Miniature("clinicdb", "PraNet", _polyp_collection, THREE, 3),
    Miniature("clinicdb", "AnomalyCLIP", _numbered, THREE, 3),
    Miniature("clinicdb", "AdaCLIP", partial(_processed, name="ClinicDB", masks=True), THREE, 3),
    Miniature("colondb", "original", _numbered, THREE, 3),
    Miniature("colondb", "PraNet", _polyp_collection, THREE, 3),
    Miniature("colondb", "AdaCLIP", partial(_processed, name="ColonDB", masks=True), THREE, 3),
    Miniature("kvasir", "original", _kvasir, THREE, 3),
    Miniature("kvasir", "PraNet", _polyp_collection, THREE, 3),
    Miniature("endo", "original", _endo, {"test": (0, 2)}, 2),
    Miniature("endo", "AnomalyCLIP", partial(_endo, folder="."), {"test": (0, 2)}, 2),
    Miniature("endo", "AdaCLIP", partial(_processed, name="endo", masks=True), THREE, 3),
    Miniature("tn3k", "original", _tn3k, {"train": (0, 3), "test": (0, 3)}, 6),
    Miniature("tn3k", "archive", _thyroid, {"train": (0, 3), "test": (0, 3)}, 6),
    Miniature("tn3k", "AnomalyCLIP", partial(_tn3k, folder="."), {"train": (0, 3), "test": (0, 3)}, 6),
    Miniature("tn3k", "AdaCLIP", partial(_processed, name="tn3k", masks=True), THREE, 3),
    Miniature("headct", "original", _headct, {"test": (2, 2)}, 0),
    Miniature(
        "headct",
        "AnomalyCLIP",
        partial(_by_folder, **{"brain/test/good": "000.png", "brain/test/bad": "100.png"}),
        {"test": (1, 1)},
        0,
    ),
    Miniature("headct", "AdaCLIP", partial(_processed, name="headct", masks=False), {"test": (3, 3)}, 0),
    Miniature("brainmri", "original", _brainmri, {"test": (3, 2)}, 0),
    Miniature("brainmri", "folders", _brains, {"test": (3, 2)}, 0),
    Miniature("brainmri", "AdaCLIP", partial(_processed, name="brain_mri", masks=False), {"test": (3, 3)}, 0),
    Miniature("br35h", "original", _br35h, {"test": (2, 2)}, 0),
    Miniature("br35h", "AdaCLIP", partial(_processed, name="br35h", masks=False), {"test": (3, 3)}, 0),
    Miniature("covid19", "original", _covid, {"test": (3, 3)}, 0),
    Miniature("covid19", "today", _covid_today, {"test": (3, 3)}, 0),
    Miniature("oct17", "original", _oct17, {"train": (1, 3), "validation": (1, 3), "test": (1, 3)}, 0),
    Miniature("oct17", "BMAD", lambda root: _bmad(root / "OCT2017", ".jpeg", valid="val"), KNOWN, 0),
    Miniature("oct17", "anomalib", _bmad_whole, KNOWN, 0),
    Miniature("brain-ad", "original", partial(_bmad, suffix=".png", carrier="img", masks="label"), KNOWN, 4),
    Miniature(
        "brain-ad", "README", partial(_bmad, suffix=".png", carrier="img", masks="anomaly_mask", train="img"), KNOWN, 4
    ),
    Miniature("brain-ad", "anomalib", _bmad_whole, KNOWN, 4),
    Miniature("brain-ad", "meta.json", _brain_meta, {"test": (1, 2)}, 2),
    Miniature("his", "original", _histopathology, KNOWN | {"train": (2, 0)}, 0),
    Miniature("his", "MVFA", partial(_bmad, suffix=".png", carrier="img"), KNOWN, 0),
    Miniature("his", "anomalib", _bmad_whole, KNOWN, 0),
    Miniature("colondb-endo", "original", _side_by_side, {"test": (2, 3)}, 3),
    Miniature("colondb-endo", "AnomalyCLIP", _joined, {"test": (2, 3)}, 3),
]
