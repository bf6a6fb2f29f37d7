"""Organs and scans: the medical datasets of the five papers, in the order of their tables."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from zsad.data.catalog import Count, Dataset
from zsad.data.catalog.industrial import THREE, TWO
from zsad.data.catalog.later import BMAD_LICENCE, BMAD_PAGE, BMAD_TABLE, BMAD_TERMS
from zsad.data.files import MASK_NAMES, NORMAL_NAMES, folders, one_of, plain
from zsad.data.found import Found
from zsad.data.layouts import class_folders, images_and_masks, inside, normal_abnormal
from zsad.data.pairing import Folders, Place, Role, assemble
from zsad.data.tables import csv_table, meta_json
from zsad.download import UrlFile

RESEARCH = "research and education only"
ONE_LABEL = "There are no normal images: pixel metrics only."
NO_MASKS = "There are no masks: image metrics only."
JPEG_MASKS = (
    "Masks are JPEG files, with grey values around the outline. Released code marks every value above 0, which is the "
    "default here (mask_above); 127 gives the outline that was drawn."
)
COLON_DB = ("CVC-ColonDB", "ColonDB")


def flat_masks(root: Path) -> Found | None:
    """Images in ``skin/test/<any name>``, and all their masks in one folder beside ``test`` (AnomalyCLIP, Crane)."""
    names = ("ISBI2016_ISIC_Part1_Test_GroundTruth", "ground_truth")
    if not any(one_of(path[-1], names) for path in folders(root)):
        return None

    def place(path: Folders) -> Place:
        if path and one_of(path[-1], names):
            return Place(Role.MASK)
        if "test" not in map(plain, path[:-1]):
            return Place(Role.LOST)
        normal = one_of(path[-1], NORMAL_NAMES)
        return Place(Role.NORMAL if normal else Role.ANOMALOUS, (), "skin", "good" if normal else path[-1])

    samples, problems = assemble(root, root.resolve().name, place, masked=True)
    masked = any(sample.mask for sample in samples)
    return Found(samples, "images in test/<name>, with masks in one folder beside it", problems) if masked else None


def colon_and_endo(root: Path) -> Found | None:
    """A folder of ColonDB, with ``images`` and ``masks``, and beside it folders of normal images: the rest is left out.

    A folder is one of normal images if its name says so, such as ``normal-cecum`` in Kvasir.
    """

    def place(path: Folders) -> Place:
        if any(one_of(name, COLON_DB) for name in path):
            masks = any(one_of(name, MASK_NAMES) for name in path)
            return Place(Role.MASK if masks else Role.ANOMALOUS, (), "colon")
        normal = any(one_of(name, NORMAL_NAMES) or plain(name).startswith("normal_") for name in path)
        return Place(Role.NORMAL, (), "colon", "good") if normal else Place(Role.ASIDE)

    if not {Role.MASK, Role.ANOMALOUS, Role.NORMAL} <= {place(path).role for path in folders(root)}:
        return None
    samples, problems = assemble(root, root.resolve().name, place, masked=True)
    return Found(samples, "anomalous images of ColonDB and normal ones of another folder", problems)


ISIC = Dataset(
    name="isic",
    title="ISIC",
    domain="medical",
    modality="photography",
    classes={"skin": "skin"},
    counts=(
        Count("train", 0, 900, "the challenge's page"),
        Count("test", 0, 379, THREE),
    ),
    metrics=("pixel",),
    page="https://challenge.isic-archive.com/landing/2016/37/",
    licence="CC0",
    layouts=(images_and_masks, flat_masks, class_folders, meta_json),
    tree="""
ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg
ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png
""",
    aliases=("ISBI", "ISIC2016", "ISBI2016"),
    papers=("anomalyclip", "crane", "afrclip", "vip2clip"),
    archives=(
        UrlFile("https://isic-challenge-data.s3.amazonaws.com/2016/ISBI2016_ISIC_Part1_Test_Data.zip", None),
        UrlFile("https://isic-challenge-data.s3.amazonaws.com/2016/ISBI2016_ISIC_Part1_Test_GroundTruth.zip", None),
    ),
    notes=(
        ONE_LABEL,
        "The test images of task 1 (outlines) of the challenge of 2016. AFR-CLIP cites the paper of the challenge of "
        "2017 for it, and repeats numbers of the others.",
        "A mask marks the whole lesion, harmless or not: what is found is skin that looks unlike its surroundings.",
    ),
)

CLINIC_DB = Dataset(
    name="clinicdb",
    title="CVC-ClinicDB",
    domain="medical",
    modality="endoscopy",
    classes={"colon": "colonoscopy image"},
    counts=(Count("test", 0, 612, THREE),),
    metrics=("pixel",),
    page="https://polyp.grand-challenge.org/CVCClinicDB/",
    licence=RESEARCH,
    layouts=(
        partial(inside, layout=images_and_masks, names=("CVC-ClinicDB", "TIF", "PNG")),
        class_folders,
        meta_json,
    ),
    tree="""
Original/1.tif
Ground Truth/1.tif
""",
    aliases=("CVC-612", "Colon_clinicDB"),
    papers=("anomalyclip", "crane", "visualad", "afrclip", "vip2clip"),
    notes=(ONE_LABEL, "Kaggle's packaging holds every image twice, in TIF/ and PNG/; one of them is read."),
)

COLONDB = Dataset(
    name="colondb",
    title="CVC-ColonDB",
    domain="medical",
    modality="endoscopy",
    classes={"colon": "colonoscopy image"},
    counts=(Count("test", 0, 380, THREE),),
    metrics=("pixel",),
    page="https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579",
    licence="not stated",
    layouts=(partial(inside, layout=images_and_masks, names=COLON_DB), class_folders, meta_json),
    tree="""
images/1.png
masks/1.png
""",
    aliases=("Colon_colonDB",),
    papers=("anomalyclip", "crane", "afrclip", "vip2clip"),
    notes=(
        ONE_LABEL,
        "The 380 images that the papers count (Tajbakhsh et al., IEEE TMI 2015) are passed on in collections of polyps "
        "such as that of the page. mv.cvc.uab.es/projects/colon-qa/cvccolondb, where the name comes from, has 300.",
    ),
)

KVASIR = Dataset(
    name="kvasir",
    title="Kvasir",
    domain="medical",
    modality="endoscopy",
    classes={"colon": "colonoscopy image"},
    counts=(Count("test", 0, 1000, "AnomalyCLIP Table 6, ViP2-CLIP Table 7"),),
    metrics=("pixel",),
    page="https://datasets.simula.no/kvasir-seg/",
    licence=RESEARCH,
    layouts=(partial(inside, layout=images_and_masks, names=("Kvasir-SEG", "Kvasir")), class_folders, meta_json),
    tree="""
Kvasir-SEG/images/cju0qkwl35piu0993l0dewei2.jpg
Kvasir-SEG/masks/cju0qkwl35piu0993l0dewei2.jpg
Kvasir-SEG/kavsir_bboxes.json
""",
    aliases=("Kvasir-SEG", "Colon_Kvasir"),
    papers=("anomalyclip", "visualad", "vip2clip"),
    archives=(UrlFile("https://datasets.simula.no/downloads/kvasir-seg.zip", None),),
    notes=(ONE_LABEL, JPEG_MASKS),
)

ENDO = Dataset(
    name="endo",
    title="Endo",
    domain="medical",
    modality="endoscopy",
    classes={"colon": "colonoscopy image"},
    counts=(Count("test", 0, 200, TWO),),
    metrics=("pixel",),
    page="https://endotect.com/",
    licence="not stated",
    layouts=(
        partial(inside, layout=images_and_masks, names=("EndoTect_2020_Segmentation_Test_Dataset",)),
        class_folders,
        meta_json,
    ),
    tree="""
EndoTect_2020_Segmentation_Test_Dataset/images/<name>.jpg
EndoTect_2020_Segmentation_Test_Dataset/masks/<name>.jpg
""",
    aliases=("EndoTect", "EndoTect_2020_Segmentation_Test_Dataset"),
    papers=("anomalyclip", "crane", "visualad"),
    notes=(
        ONE_LABEL,
        "The polyps that were tested in the segmentation task of the EndoTect challenge of 2020. Crane's Table 4 ticks "
        "detection instead of localization for it, but counts no normal image.",
    ),
)

TN3K = Dataset(
    name="tn3k",
    title="TN3K",
    domain="medical",
    modality="radiology (ultrasound)",
    classes={"thyroid": "thyroid ultrasound image"},
    counts=(
        Count("train", 0, 2879, "Gong et al., ISBI 2021"),
        Count("test", 0, 614, TWO),
    ),
    metrics=("pixel",),
    page="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
    licence="not stated",
    layouts=(
        partial(inside, layout=images_and_masks, names=("Thyroid Dataset", "Thyroid_Dataset", "tn3k")),
        class_folders,
        meta_json,
    ),
    tree="""
tn3k/trainval-image/0000.jpg
tn3k/trainval-mask/0000.jpg
tn3k/test-image/0000.jpg
tn3k/test-mask/0000.jpg
tn3k/tn3k-trainval-fold0.json
""",
    aliases=("Thyroid Dataset",),
    papers=("anomalyclip", "crane", "afrclip"),
    notes=(ONE_LABEL, JPEG_MASKS, "The repository's MIT licence is that of its code."),
)

HEAD_CT = Dataset(
    name="headct",
    title="HeadCT",
    domain="medical",
    modality="radiology (CT)",
    classes={"brain": "head CT scan"},
    counts=(Count("test", 100, 100, THREE),),
    metrics=("image",),
    page="https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage",
    licence="not stated",
    layouts=(csv_table, class_folders, meta_json),
    tree="""
labels.csv  columns "id" and " hemorrhage"
head_ct/head_ct/000.png
""",
    aliases=("HeadCT_anomaly_detection", "head-ct-hemorrhage"),
    papers=("anomalyclip", "crane", "afrclip", "vip2clip"),
    notes=(
        NO_MASKS,
        "The papers' tables call it detection of brain tumours; what is to be found is haemorrhage.",
        "The labels are in labels.csv only. An image is found by its number: 7 is 007.png.",
    ),
)

BRAIN_MRI = Dataset(
    name="brainmri",
    title="BrainMRI",
    domain="medical",
    modality="radiology (MRI)",
    classes={"brain": "brain MRI scan"},
    counts=(Count("test", 98, 155, THREE),),
    metrics=("image",),
    page="https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
    licence="not stated",
    layouts=(partial(inside, layout=normal_abnormal, names=("brain_tumor_dataset",)), class_folders, meta_json),
    tree="""
no/1 no.jpeg
yes/Y1.jpg
brain_tumor_dataset/no/1 no.jpeg
brain_tumor_dataset/yes/Y1.jpg
""",
    aliases=("brain_tumor_dataset", "brain-mri-images-for-brain-tumor-detection"),
    papers=("anomalyclip", "crane", "visualad", "afrclip", "vip2clip"),
    notes=(NO_MASKS, "The archive holds every image twice; where brain_tumor_dataset is there, only that is read."),
)

BR35H = Dataset(
    name="br35h",
    title="Br35H",
    domain="medical",
    modality="radiology (MRI)",
    classes={"brain": "brain MRI scan"},
    counts=(Count("test", 1500, 1500, THREE),),
    metrics=("image",),
    page="https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection",
    licence="not stated",
    layouts=(partial(normal_abnormal, ignored=("pred", "Br35H-Mask-RCNN")), class_folders, meta_json),
    tree="""
no/no0.jpg
yes/y0.jpg
pred/pred0.jpg  without labels, not read
Br35H-Mask-RCNN/TRAIN/y1.jpg  copies of some of yes/, not read
""",
    aliases=("br35", "Br35h_anomaly_detection", "brain-tumor-detection"),
    papers=("anomalyclip", "crane", "afrclip", "vip2clip"),
    notes=(NO_MASKS,),
)

COVID_19 = Dataset(
    name="covid19",
    title="COVID-19",
    domain="medical",
    modality="radiology (X-ray)",
    classes={"chest": "chest X-ray"},
    counts=(
        Count("test", 1341, 219, "AnomalyCLIP Table 6; the first release"),
        Count("test", 1341, 1200, "the dataset's page: its first update"),
        Count("test", 10192, 3616, "the dataset's page: its second update"),
    ),
    metrics=("image",),
    page="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
    licence="not stated",
    layouts=(
        partial(
            normal_abnormal,
            normal=("normal",),
            abnormal=("COVID-19", "COVID"),
            ignored=("Viral Pneumonia", "Lung_Opacity"),
        ),
        class_folders,
        meta_json,
    ),
    tree="""
NORMAL/NORMAL (1).png  today Normal/images/Normal-1.png
COVID-19/COVID-19 (1).png  today COVID/images/COVID-1.png
Viral Pneumonia/Viral Pneumonia (1).png  not read, nor is today's Lung_Opacity
""",
    aliases=("COVID-19_Radiography_Dataset", "COVID-19 Radiography Database"),
    papers=("anomalyclip",),
    notes=(
        NO_MASKS,
        "AnomalyCLIP counts the first release without its 1,345 images of viral pneumonia. The page has offered a "
        "larger one since, on which the papers' results cannot be repeated.",
        "Folders of masks in later releases outline the lungs, not what is ill in them; they are not read.",
    ),
)

OCT17 = Dataset(
    name="oct17",
    title="OCT17",
    domain="medical",
    modality="optical coherence tomography",
    classes={"retina": "retinal OCT scan"},
    counts=(
        Count("validation", 8, 24, "github.com/DorisBao/BMAD, data_processing/retina/count_data.py"),
        Count("test", 242, 726, "github.com/DorisBao/BMAD, data_processing/retina/count_data.py"),
        Count("test", 250, 750, "Kermany et al., Cell 2018"),
    ),
    metrics=("image",),
    page="https://data.mendeley.com/datasets/rscbjbr9sj/3",
    licence="CC BY 4.0",
    layouts=(
        partial(
            inside,
            layout=class_folders,
            names=(
                "BMAD", "Retina_OCT2017", "Retina_OCT2017_AD", "OCT17", "OCT2017", "ZhangLabData", "CellData", "OCT",
            ),
        ),
        meta_json,
    ),
    tree="""
train/NORMAL/NORMAL-1016042-1.jpeg
test/NORMAL/NORMAL-1017237-1.jpeg
test/CNV/CNV-1016042-1.jpeg
test/DME/DME-1081406-1.jpeg
test/DRUSEN/DRUSEN-1083159-1.jpeg
""",
    aliases=("OCT2017", "Retina_OCT2017", "Retina_OCT2017_AD", "kermany2018"),
    papers=("visualad",),
    notes=(
        NO_MASKS,
        "VisualAD cites the source and gives no counts in its main text; its appendix was not at hand. The name is "
        "that of MVFA-AD, which packs BMAD; BMAD tests what "
        "Kaggle's packaging tests, 242 images of each of the four kinds.",
        "VisualAD's Table 1 cannot come from three anomalous images in four: calling every image anomalous has an "
        "F1 of 85.7 % then, and it prints an F1-max of 81.7 % (APRIL-GAN), 82.7 % and 83.6 %.",
    ),
)  # fmt: skip

BRAIN_AD = Dataset(
    name="brain-ad",
    title="Brain-AD",
    domain="medical",
    modality="radiology (MRI)",
    classes={"brain": "brain MRI scan"},
    counts=(
        Count("train", 7500, 0, BMAD_TABLE),
        Count("validation", 39, 44, "github.com/DorisBao/BMAD, data_processing/brain/bras.py"),
        Count("test", 640, 3075, "AA-CLIP, dataset/metadata/Brain/full-shot.jsonl; the sum as in BMAD, Table 1"),
    ),
    metrics=("image", "pixel"),
    page=BMAD_PAGE,
    licence=BMAD_LICENCE,
    layouts=(
        partial(inside, layout=class_folders, names=("BMAD", "Brain", "Brain_AD", "BraTS2021_slice")),
        meta_json,
    ),
    tree="""
train/good/00003_60.png
valid/good/img/00025_99.png
valid/Ungood/img/00124_60.png
valid/Ungood/label/00124_60.png  in BMAD's README Ungood/anomaly_mask
test/good/img/00000_96.png
test/Ungood/img/00002_60.png
test/Ungood/label/00002_60.png
""",
    aliases=("BraTS2021_slice",),
    papers=("visualad",),
    notes=(
        BMAD_TERMS + "BraTS 2021.",
        "VisualAD cites BraTS and gives no counts in its main text (its appendix was not at hand); its code calls the "
        "set as MVFA-AD and AA-CLIP call BMAD's. Its "
        "Table 1 fits: calling every image anomalous has an F1 of 90.6 % with 3,075 of 3,715, which is the F1-max of "
        "APRIL-GAN and AnomalyCLIP there. AdaCLIP's 90.2 % is below that.",
    ),
)

HIS = Dataset(
    name="his",
    title="HIS",
    domain="medical",
    modality="histopathology",
    classes={"tissue": "lymph node tissue"},
    counts=(Count("train", 5088, 0, BMAD_TABLE),),
    metrics=("image",),
    page=BMAD_PAGE,
    licence=BMAD_LICENCE,
    layouts=(
        partial(
            inside,
            layout=class_folders,
            names=("BMAD", "Histopathology", "Histopathology_AD", "HIS", "camelyon16", "camelyon16_256"),
        ),
        meta_json,
    ),
    tree="""
train/good/1000.png
valid/good/1080.png
valid/Ungood/1000.png
test/good/1000.png
test/Ungood/100.png
""",
    aliases=("Histopathology", "Histopathology_AD", "camelyon16", "camelyon16_256"),
    papers=("visualad",),
    notes=(
        NO_MASKS,
        BMAD_TERMS + "Camelyon16.",
        "VisualAD cites Camelyon16 and gives no counts in its main text; its appendix was not at hand. BMAD tests "
        "1,997 images and validates on 236 (Table 1); "
        "how many are anomalous it does not say. Together they are 1,120 normal and 1,113 anomalous (MedIAnomaly, "
        "Table 1). In VisualAD's Table 1 an F1-max of 66.6 % (CLIP-AD) fits tests that are half anomalous; 45.6 % "
        "(WinCLIP) is below what calling every image anomalous gives then.",
    ),
)

COLONDB_ENDO = Dataset(
    name="colondb-endo",
    title="ColonDB and Endo",
    domain="medical",
    modality="endoscopy",
    classes={"colon": "colonoscopy image"},
    counts=(Count("test", 163, 380, "AnomalyCLIP Appendix B"),),
    metrics=("image", "pixel"),
    page="https://endotect.com/",
    licence="not stated",
    layouts=(colon_and_endo, images_and_masks, meta_json),
    tree="""
CVC-ColonDB/images/1.png
CVC-ColonDB/masks/1.png
EndoTect/good/<name>.jpg  any folder that is called good, normal or normal-...
""",
    notes=(
        "Not a test set: what the medical experiments train on (AnomalyCLIP Table 3, Crane Table 5). It joins the "
        "images of CVC-ColonDB, all anomalous and with masks, and normal images that were tested in EndoTect's "
        "classification task. Which 163 those are is not told.",
        "The polyps are those of `zsad data list colondb`. One folder with good/, images/ and masks/, as AnomalyCLIP's "
        "endoTect.py would read it, is read as well.",
    ),
)

ROWS: tuple[Dataset, ...] = (
    ISIC, CLINIC_DB, COLONDB, KVASIR, ENDO, TN3K, HEAD_CT, BRAIN_MRI, BR35H, COVID_19, OCT17, BRAIN_AD, HIS,
    COLONDB_ENDO,
)  # fmt: skip
