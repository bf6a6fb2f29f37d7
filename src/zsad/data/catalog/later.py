"""Datasets that came after the five papers' choice, or that none of them uses."""

from __future__ import annotations

from functools import partial

from zsad.data.catalog import Count, Dataset
from zsad.data.catalog.industrial import BY_NC_SA, NOT_COMMERCIAL, spoken
from zsad.data.layouts import class_folders, inside, real_iad
from zsad.data.tables import meta_json
from zsad.download import UrlFile

BMAD_PAGE = "https://github.com/DorisBao/BMAD"
BMAD_LICENCE = "not stated"
BMAD_TABLE = "Bao et al., BMAD, Table 1"
BMAD_TERMS = (
    "anomalib names CC BY-NC-SA 4.0 for BMAD; its authors' repository names no licence. The images keep the terms of "
    "their sources, so nothing is fetched here. A copy of all six sets is at "
    "huggingface.co/datasets/code-dev05/BMAD (bmad.zip, SHA-256 "
    "df655def31f3f638a91c567550de54d6e45a74b2368f666c13a6a3052c063165, "
    "as anomalib 2.7 names it). This one is made of "
)
SERVER = "The labels of test_private and test_private_mixed are kept on benchmark.mvtec.com."


MVTEC_AD_2 = Dataset(
    name="mvtec-ad-2",
    title="MVTec AD 2",
    domain="industrial",
    modality="photography",
    classes=spoken(
        "can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "walnuts", wallplugs="wall plugs",
    ),
    counts=(
        Count("train", 2528, 0, "Heckler-Kram et al., arXiv 2503.21622"),
        Count("validation", 302, 0, "Heckler-Kram et al., arXiv 2503.21622"),
        Count("test", 379, 705, "the archive, as others counted it; 1,084 as in arXiv 2503.21622"),
    ),
    metrics=("image", "pixel"),
    page="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
    licence=BY_NC_SA,
    layouts=(class_folders, meta_json),
    tree="""
can/train/good/000_regular.png
can/validation/good/000_regular.png
can/test_public/good/000_regular.png
can/test_public/bad/000_overexposed.png
can/test_public/ground_truth/bad/000_overexposed_mask.png
can/test_private/000_regular.png
can/test_private_mixed/000_mixed.png
""",
    aliases=("mvtec2",),
    aupro_limit=0.05,  # Heckler-Kram et al., arXiv 2503.21622: AU-PRO up to an FPR of 5 %
    # Address and hash: anomalib 2.7, data/datamodules/image/mvtecad2.py; size: of the archive of that hash elsewhere
    archives=(
        UrlFile(
            "https://www.mydrive.ch/shares/150997/701c90d3aea6588f404936e32a674602/download/466712769-1743429042/"
            "mvtec_ad_2.tar.gz",
            "c0ded99ef32bfc8e352d52beb44515e5b292b8598cb963aadfa91ca0763505e4",
            32_739_596_982,
        ),
    ),
    notes=(NOT_COMMERCIAL, SERVER, "What is tested is the public test split, of 1,084 images."),
)  # fmt: skip

MVTEC_LOCO = Dataset(
    name="mvtec-loco",
    title="MVTec LOCO AD",
    domain="industrial",
    modality="photography",
    classes=spoken(
        "breakfast_box", "juice_bottle", "pushpins", "splicing_connectors", screw_bag="bag of screws",
    ),
    counts=(
        Count("train", 1772, 0, "Bergmann et al., IJCV 2022, Table 1"),
        Count("validation", 304, 0, "Bergmann et al., IJCV 2022, Table 1"),
        Count("train", 1778, 0, "the archive, as others counted it: 6 more splicing connectors"),
        Count("validation", 305, 0, "the archive, as others counted it: 1 more splicing connector"),
        Count("test", 575, 993, "Bergmann et al., IJCV 2022, Table 1: 432 structural and 561 logical anomalies"),
    ),
    metrics=("image", "pixel"),
    page="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    licence=BY_NC_SA,
    layouts=(class_folders, meta_json),
    tree="""
breakfast_box/defects_config.json
breakfast_box/train/good/000.png
breakfast_box/validation/good/000.png
breakfast_box/test/good/000.png
breakfast_box/test/logical_anomalies/000.png
breakfast_box/test/structural_anomalies/000.png
breakfast_box/ground_truth/logical_anomalies/000/000.png
breakfast_box/ground_truth/structural_anomalies/000/000.png
""",
    aliases=("mvtec_loco_anomaly_detection", "LOCO"),
    # Address and hash: anomalib 2.7, data/datasets/image/mvtec_loco.py
    archives=(
        UrlFile(
            "https://www.mydrive.ch/shares/48237/1b9106ccdfbb09a0c414bd49fe44a14a/download/430647091-1646842701/"
            "mvtec_loco_anomaly_detection.tar.xz",
            "9e7c84dba550fd2e59d8e9e231c929c45ba737b6b6a6d3814100f54d63aae687",
        ),
    ),
    notes=(
        NOT_COMMERCIAL,
        "An image may have several masks, one for each defect: their union is the mask here.",
        "The authors measure sPRO, with a saturation threshold for each kind of defect; AUPRO is another number.",
    ),
)  # fmt: skip

REAL_IAD = Dataset(
    name="real-iad",
    title="Real-IAD",
    domain="industrial",
    modality="photography",
    classes=spoken(
        "audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts",
        "phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base", "switch",
        "tape", "toothbrush", "toy", "toy_brick", "u_block", "wooden_beads", "woodstick", "zipper",
        pcb="printed circuit board", sim_card_set="SIM card tray", terminalblock="terminal block",
        transistor1="transistor", usb="USB connector", usb_adaptor="USB adaptor", vcpill="vitamin C pill",
    ),
    counts=(
        Count("train", 36465, 0, "Dinomaly (arXiv 2405.14325): the authors' split, all views"),
        Count("test", 63256, 51329, "Dinomaly (arXiv 2405.14325): the authors' split, all views"),
    ),
    metrics=("image", "pixel"),
    page="https://realiad4ad.github.io/Real-IAD/",
    licence=BY_NC_SA,
    layouts=(real_iad, class_folders, meta_json),
    tree="""
realiad_jsons/realiad_jsons/audiojack.json
realiad_1024/audiojack/OK/S0001/audiojack_0001_OK_C1_20231023094927.jpg
realiad_1024/audiojack/NG/QS/S0001/audiojack_0001_NG_QS_C1_20231023092610.jpg
realiad_1024/audiojack/NG/QS/S0001/audiojack_0001_NG_QS_C1_20231023092610.png
""",
    aliases=("realiad_1024", "realiad_512", "realiad_256"),
    notes=(
        NOT_COMMERCIAL,
        "Access is granted on request, at https://huggingface.co/datasets/Real-IAD/Real-IAD.",
        "Five views of each object, tested one by one. The single-view files (realiad_jsons_sv) and those with noisy "
        "training sets (realiad_jsons_fuiad_*) are other splits.",
    ),
)  # fmt: skip

BMAD_LIVER = Dataset(
    name="bmad-liver",
    title="BMAD Liver CT",
    domain="medical",
    modality="radiology (CT)",
    classes={"liver": "liver CT scan"},
    counts=(
        Count("train", 1542, 0, BMAD_TABLE),
        Count("validation", 93, 73, "github.com/DorisBao/BMAD, data_processing/liver/liver.py"),
        Count("test", 833, 660, "AA-CLIP, dataset/metadata/Liver/full-shot.jsonl"),
    ),
    metrics=("image", "pixel"),
    page=BMAD_PAGE,
    licence=BMAD_LICENCE,
    layouts=(partial(inside, layout=class_folders, names=("BMAD", "Liver", "Liver_AD", "hist_DIY")), meta_json),
    tree="""
train/good/0_0.png
valid/img/good/0_0.png
valid/img/Ungood/0_0.png
valid/label/Ungood/0_0.png
test/img/good/0_0.png
test/img/Ungood/0_0.png
test/label/Ungood/0_0.png
""",
    aliases=("Liver_AD", "hist_DIY"),
    notes=(BMAD_TERMS + "BTCV and LiTS.",),
)

BMAD_RETINA = Dataset(
    name="bmad-retina",
    title="BMAD RESC",
    domain="medical",
    modality="optical coherence tomography",
    classes={"retina": "retinal OCT scan"},
    counts=(
        Count("train", 4297, 0, BMAD_TABLE),
        Count("validation", 45, 70, "github.com/DorisBao/BMAD, Deep-SVDD/data.py"),
        Count("test", 1041, 764, "github.com/DorisBao/BMAD, Deep-SVDD/data.py"),
    ),
    metrics=("image", "pixel"),
    page=BMAD_PAGE,
    licence=BMAD_LICENCE,
    layouts=(partial(inside, layout=class_folders, names=("BMAD", "Retina_RESC", "Retina_RESC_AD", "RESC")), meta_json),
    tree="""
Train/train/good/1_1.png
Val/val/good/1_1.png
Val/val/Ungood/1_1.png
Val/val_label/Ungood/1_1.png
Test/test/good/1_1.png
Test/test/Ungood/1_1.png
Test/test_label/Ungood/1_1.png
""",
    aliases=("RESC", "Retina_RESC", "Retina_RESC_AD"),
    notes=(BMAD_TERMS + "RESC (github.com/CharlesKangZhou/P_Net_Anomaly_Detection).",),
)

BMAD_CHEST = Dataset(
    name="bmad-chest",
    title="BMAD RSNA",
    domain="medical",
    modality="radiology (X-ray)",
    classes={"chest": "chest X-ray"},
    counts=(Count("train", 8000, 0, BMAD_TABLE),),
    metrics=("image",),
    page=BMAD_PAGE,
    licence=BMAD_LICENCE,
    layouts=(partial(inside, layout=class_folders, names=("BMAD", "Chest", "Chest_AD", "Chest-RSNA")), meta_json),
    tree="""
train/good/Normal-009482dc-3db5-48d4-8580-5c89c4f01334.png
val/good/Normal-003d8fa0-6bf1-40ed-b54c-ac657f8495c5.png
val/Ungood/Lung_Opacity_00436515-870c-4b36-a041-de91049b9ab4.png
test/good/Normal-003d8fa0-6bf1-40ed-b54c-ac657f8495c5.png
test/Ungood/Lung_Opacity_00436515-870c-4b36-a041-de91049b9ab4.png
""",
    aliases=("Chest-RSNA", "Chest_AD"),
    notes=(
        BMAD_TERMS + "the RSNA Pneumonia Detection Challenge.",
        "17,194 images are tested and 1,490 validated on (Table 1). 851 of these are normal: the source has 8,851.",
    ),
)

MVTEC_3D = Dataset(
    name="mvtec-3d",
    title="MVTec 3D-AD",
    domain="industrial",
    modality="photography",
    classes=spoken(
        "bagel", "cable_gland", "carrot", "cookie", "dowel", "foam", "peach", "potato", "rope", "tire",
    ),
    counts=(
        Count("train", 2656, 0, "Bergmann et al., VISAPP 2022, Table 1"),
        Count("validation", 294, 0, "Bergmann et al., VISAPP 2022, Table 1"),
        Count("test", 249, 948, "Bergmann et al., VISAPP 2022, Table 1"),
    ),
    metrics=("image", "pixel"),
    page="https://www.mvtec.com/company/research/datasets/mvtec-3d-ad",
    licence=BY_NC_SA,
    layouts=(class_folders, meta_json),
    tree="""
bagel/calibration/camera_parameters.json
bagel/train/good/rgb/000.png
bagel/train/good/xyz/000.tiff
bagel/validation/good/rgb/000.png
bagel/test/good/rgb/000.png
bagel/test/good/gt/000.png
bagel/test/crack/rgb/000.png
bagel/test/crack/gt/000.png
bagel/test/crack/xyz/000.tiff
""",
    aliases=("mvtec_3d_anomaly_detection",),
    # Address: anomalib 2.7, data/datamodules/depth/mvtec_3d.py; it has an MD5 only: d8bb2800fbf3ac88e798da6ae10dc819
    archives=(
        UrlFile(
            "https://www.mydrive.ch/shares/150646/25de33f1276dd418cd856f2f48a84cdb/download/428824485-1643299897/"
            "mvtec_3d_anomaly_detection.tar.xz",
            None,
        ),
    ),
    notes=(
        NOT_COMMERCIAL,
        "Only the photographs (rgb) are read, not the depth (xyz): some defects show in the depth only.",
    ),
)  # fmt: skip

ROWS: tuple[Dataset, ...] = (MVTEC_AD_2, MVTEC_LOCO, REAL_IAD, BMAD_LIVER, BMAD_RETINA, BMAD_CHEST, MVTEC_3D)
