"""Products and textures: the industrial datasets of the five papers, in the order of their tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

from zsad.data.catalog import Count, Dataset
from zsad.data.files import natural
from zsad.data.found import Found
from zsad.data.layouts import class_folders, dagm, siblings
from zsad.data.tables import csv_table, meta_json
from zsad.download import UrlFile

BY_NC_SA = "CC BY-NC-SA 4.0"
NOT_COMMERCIAL = "The licence does not allow commercial use."
THREE = "AnomalyCLIP Table 6, Crane Table 4, ViP2-CLIP Table 7"
TWO = "AnomalyCLIP Table 6, Crane Table 4"
SPLIT_SEED = 42  # of AdaCLIP's data_preprocess/sdd-pre.py


def spoken(*classes: str, **others: str) -> Mapping[str, str]:
    """Classes -> their names for prompts: the class with blanks, unless another is given.

    >>> dict(spoken("metal_nut", pcb1="printed circuit board"))
    {'metal_nut': 'metal nut', 'pcb1': 'printed circuit board'}
    """
    return {name: name.replace("_", " ") for name in classes} | others


def drawn_quarter(count: int) -> set[int]:
    """Which of `count` normal parts of KolektorSDD are tested: a quarter, rounded up, drawn with a fixed seed.

    The choice is that of scikit-learn's ``train_test_split(test_size=0.25, random_state=42)``, which AdaCLIP's
    data_preprocess/sdd-pre.py uses. AnomalyCLIP's 724 normal halves give its 181.

    >>> len(drawn_quarter(724)), len(drawn_quarter(1143))
    (181, 286)
    """
    import numpy as np

    order = np.random.RandomState(SPLIT_SEED).permutation(count)
    return {int(i) for i in order[: math.ceil(count / 4)]}


def ksdd_halves(root: Path) -> Found | None:
    """KolektorSDD as published, each image cut into an upper and a lower half.

    Anomalous halves and a quarter of the normal ones are tested, the other normal ones are for training.
    """
    found = siblings(root, parts=2)
    if found is None:
        return None
    normal = sorted(
        (i for i, sample in enumerate(found.samples) if sample.label == 0), key=lambda i: _position(found, i)
    )
    tested = drawn_quarter(len(normal))
    train = {i for place, i in enumerate(normal) if place not in tested}
    samples = [
        dataclasses.replace(sample, split="train" if i in train else "test") for i, sample in enumerate(found.samples)
    ]
    return dataclasses.replace(found, samples=samples)


def _position(found: Found, index: int) -> tuple[object, ...]:
    sample = found.samples[index]
    return (natural(sample.image.parent.name), natural(sample.image.name), sample.part)


def ksdd2_siblings(root: Path) -> Found | None:
    """KolektorSDD2 as published, without the copy of 10301.png and of its mask that the archive has."""
    found = siblings(root)
    if found is None:
        return None
    return dataclasses.replace(
        found,
        samples=[sample for sample in found.samples if not sample.image.stem.endswith(" (copy)")],
        problems=[problem for problem in found.problems if not problem.path.stem.endswith(" (copy)")],
    )


MVTEC = Dataset(
    name="mvtec",
    title="MVTec AD",
    domain="industrial",
    modality="photography",
    classes=spoken(
        "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
        "toothbrush", "transistor", "wood", "zipper",
    ),
    counts=(
        Count("train", 3629, 0, "Bergmann et al., CVPR 2019, Table 1"),
        Count("test", 467, 1258, THREE),
    ),
    metrics=("image", "pixel"),
    page="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    licence=BY_NC_SA,
    layouts=(class_folders, meta_json),
    tree="""
bottle/train/good/000.png
bottle/test/good/000.png
bottle/test/broken_large/000.png
bottle/ground_truth/broken_large/000_mask.png
""",
    aliases=("mvtec_anomaly_detection",),
    papers=("anomalyclip", "crane", "visualad", "afrclip", "vip2clip"),
    # Address and hash: anomalib 2.7, data/datamodules/image/mvtecad.py
    archives=(
        UrlFile(
            "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
            "mvtec_anomaly_detection.tar.xz",
            "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        ),
    ),
    notes=(
        NOT_COMMERCIAL,
        "The test split is the training set of most models that are tested on the other datasets; for MVTec AD itself "
        "they are trained on VisA.",
    ),
)  # fmt: skip

VISA = Dataset(
    name="visa",
    title="VisA",
    domain="industrial",
    modality="photography",
    classes=spoken(
        "candle", "capsules", "cashew", chewinggum="chewing gum", fryum="fryum", macaroni1="macaroni",
        macaroni2="macaroni", pcb1="printed circuit board", pcb2="printed circuit board", pcb3="printed circuit board",
        pcb4="printed circuit board", pipe_fryum="pipe fryum",
    ),
    counts=(
        Count("train", 8659, 0, "github.com/amazon-science/spot-diff, split_csv/1cls.csv"),
        Count("test", 962, 1200, THREE),
    ),
    metrics=("image", "pixel"),
    page="https://github.com/amazon-science/spot-diff",
    licence="CC BY 4.0",
    layouts=(csv_table, class_folders, meta_json),
    tree="""
split_csv/1cls.csv
candle/image_anno.csv
candle/Data/Images/Normal/0000.JPG
candle/Data/Images/Anomaly/000.JPG
candle/Data/Masks/Anomaly/000.png
""",
    aliases=("VisA_20220922", "VisA_pytorch"),
    papers=("anomalyclip", "crane", "visualad", "afrclip", "vip2clip"),
    # Address and hash: anomalib 2.7, data/datamodules/image/visa.py
    archives=(
        UrlFile(
            "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
            1_929_840_640,
        ),
    ),
    notes=(
        "Which normal images are tested is told by split_csv/1cls.csv only, not by the folders.",
        "Masks number the kinds of defect from 1: every value but 0 is anomalous.",
    ),
)  # fmt: skip

MPDD = Dataset(
    name="mpdd",
    title="MPDD",
    domain="industrial",
    modality="photography",
    classes=spoken(
        "connector", "metal_plate", bracket_black="black metal bracket", bracket_brown="brown metal bracket",
        bracket_white="white metal bracket", tubes="metal tubes",
    ),
    counts=(
        Count("train", 888, 0, "Jezek et al., ICUMT 2021"),
        Count("test", 176, 282, THREE),
    ),
    metrics=("image", "pixel"),
    page="https://github.com/stepanje/MPDD",
    licence=BY_NC_SA,
    layouts=(class_folders, meta_json),
    tree="""
bracket_black/train/good/000.png
bracket_black/test/good/000.png
bracket_black/test/hole/000.png
bracket_black/ground_truth/hole/000_mask.png
""",
    papers=("anomalyclip", "crane", "afrclip", "vip2clip"),
    notes=(NOT_COMMERCIAL, "The page links to a shared folder that a browser has to open."),
)  # fmt: skip

BTAD = Dataset(
    name="btad",
    title="BTAD",
    domain="industrial",
    modality="photography",
    classes={"01": "industrial product", "02": "industrial product", "03": "industrial product"},
    counts=(
        Count(
            "train",
            1799,
            0,
            "github.com/pankajmishra000/VT-ADL, README: 400 + 1000 + 399 images, taken for those of train",
        ),
        Count("test", 451, 290, THREE),
    ),
    metrics=("image", "pixel"),
    page="https://github.com/pankajmishra000/VT-ADL",
    licence="CC BY-SA 4.0",
    layouts=(class_folders, meta_json),
    tree="""
01/train/ok/0000.bmp
01/test/ok/0000.bmp
01/test/ko/0000.bmp
01/ground_truth/ko/0000.png
""",
    aliases=("BTech", "BTech_Dataset_transformed", "BeanTech Anomaly Detection"),
    papers=("anomalyclip", "crane", "visualad", "afrclip", "vip2clip"),
    # Address and hash: anomalib 2.7, data/datamodules/image/btech.py
    archives=(
        UrlFile(
            "https://avires.dimi.uniud.it/papers/btad/btad.zip",
            "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        ),
    ),
    notes=(
        "Images of 01 and 03 are BMP, those of 02 PNG; masks of 01 and 02 are PNG, those of 03 BMP.",
        "The authors' README names CC BY-SA 4.0; anomalib names CC BY-NC-SA 4.0.",
        "What the three products are is not told; AA-CLIP's authors see rings (01, 03) and lines of fabric (02).",
    ),
)

KSDD = Dataset(
    name="ksdd",
    title="SDD",
    domain="industrial",
    modality="photography",
    classes={"electrical commutators": "electrical commutator"},
    counts=(
        Count("train", 543, 0, "399 images in halves (AnomalyCLIP App. B), less the (181, 74) that are tested"),
        Count("test", 181, 74, TWO),
        Count("train", 857, 0, "399 images in thirds (AdaCLIP, data_preprocess/sdd-pre.py), less the (286, 54) tested"),
        Count("test", 286, 54, "ViP2-CLIP Table 7"),
    ),
    metrics=("image", "pixel"),
    page="https://www.vicos.si/resources/kolektorsdd/",
    licence=BY_NC_SA,
    layouts=(ksdd_halves, class_folders, meta_json),
    tree="""
kos01/Part0.jpg
kos01/Part0_label.bmp
""",
    aliases=("KolektorSDD", "SDD_anomaly_detection", "Kolektor"),
    papers=("anomalyclip", "crane", "vip2clip"),
    # Address and hash: anomalib 2.7, data/datamodules/image/kolektor.py
    archives=(
        UrlFile(
            "https://go.vicos.si/kolektorsdd",
            "65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
            name="KolektorSDD.zip",
        ),
    ),
    notes=(
        NOT_COMMERCIAL,
        "The 399 published images, 52 with a defect, are cut into an upper and a lower half (AnomalyCLIP App. B): 74 "
        "of 798 halves are anomalous. Which of the 724 normal ones it tests it does not say; AdaCLIP's rule, a quarter "
        "drawn at random, gives its 181. That draw depends on the order in which a disk lists the files: here others "
        "are tested than there, as many of them.",
        "AdaCLIP and ViP2-CLIP cut into three: other numbers of images, not to be compared with halves.",
    ),
)

KSDD2 = Dataset(
    name="ksdd2",
    title="KSDD2",
    domain="industrial",
    modality="photography",
    classes={"surface": "surface"},
    counts=(
        Count("train", 2085, 246, "Bozic et al., Computers in Industry 2021"),
        Count("test", 894, 110, "Bozic et al., Computers in Industry 2021"),
    ),
    metrics=("image", "pixel"),
    page="https://www.vicos.si/resources/kolektorsdd2/",
    licence=BY_NC_SA,
    layouts=(ksdd2_siblings, class_folders, meta_json),
    tree="""
train/10000.png
train/10000_GT.png
test/20000.png
test/20000_GT.png
""",
    aliases=("KolektorSDD2", "SDD2"),
    papers=("visualad",),
    # The hash is what several users of the file found, not its publisher's.
    archives=(
        UrlFile(
            "https://go.vicos.si/kolektorsdd2",
            "edcdb486809b24f1d17b785e30c52fafc5999554dd5fe18ddf77b61ceb6f36a8",
            853_126_555,
            name="KolektorSDD2.zip",
        ),
    ),
    notes=(
        NOT_COMMERCIAL,
        "Every image has a mask; one that marks nothing makes it normal.",
        "The archive has a copy of 10301.png and of its mask under the names of copies; both are left out.",
        "VisualAD does not say in its main text how many images it tested (its appendix was not at hand). Its Table 1 "
        "cannot come from the published test split: with "
        "894 normal and 110 anomalous images an AUROC of 81.7 % (CLIP-AD) allows an AP of 83.3 % at most, and 85.5 % "
        "is printed. Do not expect its numbers here.",
    ),
)

DAGM = Dataset(
    name="dagm",
    title="DAGM",
    domain="industrial",
    modality="photography",
    classes={f"Class{i}": "textured surface" for i in range(1, 11)},
    counts=(
        Count("train", 7004, 1046, "reckoned: 10 classes of 1,000 + 150 or 2,000 + 300 images, less those tested"),
        Count("test", 6996, 1054, THREE),
    ),
    metrics=("image", "pixel"),
    page="https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
    licence="not stated",
    layouts=(dagm, class_folders, meta_json),
    tree="""
Class1/Train/0001.PNG
Class1/Train/Label/0008_label.PNG
Class1/Test/0001.PNG
Class1/Test/Label/0004_label.PNG
Class1/Test/Label/Labels.txt
""",
    aliases=("DAGM2007", "DAGM_KaggleUpload", "DAGM_anomaly_detection"),
    papers=("anomalyclip", "crane", "visualad", "vip2clip"),
    notes=(
        "Computer-made textures. A mask is an ellipse around the defect, not its outline.",
        "The papers use the Kaggle upload mhskjelvareid/dagm-2007-competition-dataset-optical-inspection and its Test "
        "folders.",
        "AdaCLIP's data_preprocess/dagm-pre.py tests as many normal as anomalous images, taken from both folders: "
        "other numbers of images.",
    ),
)

DTD = Dataset(
    name="dtd",
    title="DTD-Synthetic",
    domain="industrial",
    modality="photography",
    classes={
        "Blotchy_099": "blotchy texture",
        "Fibrous_183": "fibrous texture",
        "Marbled_078": "marbled texture",
        "Matted_069": "matted texture",
        "Mesh_114": "mesh",
        "Perforated_037": "perforated surface",
        "Stratified_154": "stratified texture",
        **{f"Woven_{number}": "woven texture" for number in ("001", "068", "104", "125", "127")},
    },
    counts=(Count("test", 357, 947, THREE),),
    metrics=("image", "pixel"),
    page="https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
    licence="not stated",
    layouts=(class_folders, meta_json),
    tree="""
Woven_001/train/good/000.png
Woven_001/test/good/000.png
Woven_001/test/bad/000.png
Woven_001/ground_truth/bad/000_mask.png
""",
    papers=("anomalyclip", "crane", "visualad", "vip2clip"),
    notes=(
        "Defects painted on twelve images of the Describable Textures Dataset (Aota et al., WACV 2023), whose terms "
        "the photographs keep.",
    ),
)

ROWS: tuple[Dataset, ...] = (MVTEC, VISA, MPDD, BTAD, KSDD, KSDD2, DAGM, DTD)
