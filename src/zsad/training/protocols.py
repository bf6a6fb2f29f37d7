"""What the papers train on and test on: one row for each direction. Imports no torch.

Facts are from the papers' sections and, at the commits that the methods' files name, from the released scripts; where
the two differ, the row's notes say both. All train on the test split: that is where anomalous images with masks are.
The papers of APRIL-GAN, CLIP-AD, FAPrompt, AdaCLIP and AA-CLIP were not at hand; scripts and READMEs were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from zsad.data.catalog import by_folder, find
from zsad.data.files import existing
from zsad.data.index import samples_of
from zsad.errors import ZsadError, unknown
from zsad.types import Sample

Settings = Mapping[str, Mapping[str, float]]  # method -> fields of Plan and their values


class Images(NamedTuple):
    """Images of a dataset of the catalog that are trained on."""

    dataset: str
    split: str = "test"
    label: int | None = None  # 0: only the normal ones; None: all

    def __str__(self) -> str:
        kind = "" if self.label is None else (" (normal only)", " (anomalous only)")[self.label]
        return f"{find(self.dataset).title}{'' if self.split == 'test' else f', {self.split} split'}{kind}"


@dataclass(frozen=True)
class Protocol:
    """One direction: a training set, and the datasets that its weights are tested on."""

    name: str
    trains: tuple[Images, ...]  # together
    targets: tuple[str, ...]  # datasets of the catalog; several methods were tested on fewer of them
    methods: tuple[str, ...]  # that were published with it
    source: str
    settings: Settings = field(default_factory=dict)  # of methods that have others than usual on this training set
    notes: tuple[str, ...] = ()

    @property
    def trained_on(self) -> str:
        """The training set in words."""
        return " + ".join(map(str, self.trains))


INDUSTRIAL = ("mpdd", "btad", "ksdd", "dagm", "dtd")
BRAINS = ("headct", "brainmri", "br35h")
OTHER_MEDICAL = ("isic", "clinicdb", "colondb", "kvasir", "endo", "tn3k")

#: What was chosen by the training set: APRIL-GAN train.sh:2-5 and 9-12; VisualAD scripts/CLIP.sh:92-97 and 104-109
ON_MVTEC: Settings = {"aprilgan": {"epochs": 3}, "visualad": {"epochs": 2}}
ON_VISA: Settings = {"aprilgan": {"epochs": 15}, "visualad": {"epochs": 1}}

CLUSTERS = (
    "on VisA its clusters have eps=1.5 and min_samples=25 (util/prompt_ensemble.py:77): add --set eps=1.5 "
    "--set min_samples=25, and say 0.5 and 15 in the test."
)

_ROWS = (
    Protocol(
        "mvtec",
        (Images("mvtec"),),
        ("visa", *INDUSTRIAL, *BRAINS, "covid19", *OTHER_MEDICAL),
        ("anomalyclip", "crane", "vip2clip", "aprilgan", "clipad", "faprompt"),
        "AnomalyCLIP Sec. 4.1 and A.1, train.sh:33; Crane Sec. 5.1 and App. A, reproduce.sh:23; ViP2-CLIP Sec. 5.1, "
        "App. B.1 and B.3; APRIL-GAN train.sh:2; CLIP-AD train_SDP_plus.sh:10; FAPrompt train.sh:13",
        ON_MVTEC,
        (
            "MVTec AD itself is tested by the protocol visa.",
            "Crane tests neither COVID-19, Kvasir nor Endo. The released tests of the medical sets with a guide take "
            "epoch 1 (test.sh:33, reproduce.sh:43), which the file itself calls epoch 4, and epoch 5 of either "
            "training epoch 12; the paper says five epochs (Sec. 5.3, of its ablations). For DAGM, reproduce.sh:42 "
            "takes the weights of VisA and test.sh:31 those of MVTec AD, as the paper says.",
            "ViP2-CLIP: the paper tests all of these but Endo, TN3K and COVID-19; test.sh tests Endo and TN3K as "
            "well, and MVTec AD itself, which is not zero-shot (test.sh:45-48). train.sh trains on VisA only.",
            "APRIL-GAN: its script tests VisA only (test_zero_shot.sh:2). FAPrompt also tests AITEX, ELPV and LAG.",
            "CLIP-AD: test_SDP_plus.sh:7, 24 and 29 test VisA, ISIC and CVC-ClinicDB with these weights; see clipad. "
            "On VisA the test has --set eps=1.5 --set min_samples=25 --set sigma=2 (util/prompt_ensemble.py:77).",
            "FAPrompt: test.sh:14 tests SDD with weights of another name (visa_full3_bias/epoch_7.pth).",
        ),
    ),
    Protocol(
        "visa",
        (Images("visa"),),
        ("mvtec",),
        ("anomalyclip", "crane", "vip2clip", "aprilgan", "clipad", "faprompt"),
        "AnomalyCLIP Sec. 4.1 and A.1, train.sh:14; Crane Sec. 5.1 and App. A, reproduce.sh:24; ViP2-CLIP Sec. 5.1, "
        "App. B.1 and B.3, train.sh:21; APRIL-GAN train.sh:9; CLIP-AD train_SDP_plus.sh:2; FAPrompt "
        "train.sh:31",
        ON_VISA,
        (
            "AnomalyCLIP: the comment above both trainings of train.sh says VisA, the second trains on MVTec AD.",
            "FAPrompt: this training is commented out in train.sh, and calls a train_cls.py that was not released.",
            f"CLIP-AD: {CLUSTERS}",
        ),
    ),
    Protocol(
        "visualad",
        (Images("visa"),),
        ("mvtec", "btad", "ksdd2", "dagm", "dtd", "oct17", "brainmri", "brain-ad", "his", "clinicdb", "endo", "kvasir"),
        ("visualad",),
        "VisualAD Sec. 4.1; README.md, Pre-trained Weights; scripts/CLIP.sh:104",
        ON_VISA,
        (
            "VisA itself is tested by the protocol visualad-visa. CLIP.sh tests MVTec AD only, the paper all of these.",
            "One epoch for the released backbone, CLIP ViT-L/14@336; the paper's appendix, which may say how many, was "
            "not at hand, and the bare command line has 15. Batches of 8 (Sec. 4.1, CLIP.sh).",
        ),
    ),
    Protocol(
        "visualad-visa",
        (Images("mvtec"),),
        ("visa",),
        ("visualad",),
        "VisualAD Sec. 4.1; README.md, Pre-trained Weights; scripts/CLIP.sh:92",
        ON_MVTEC,
    ),
    Protocol(
        "afrclip",
        (Images("visa"),),
        ("mvtec", "btad", "mpdd", *BRAINS, "isic", "colondb", "clinicdb", "tn3k"),
        ("afrclip",),
        "AFR-CLIP Sec. Experimental Setup; no code was released",
        notes=("VisA itself is tested by the protocol afrclip-visa. 100 epochs with batches of 4 for both trainings. "
            "Which split is trained on the paper does not say; the test split, as elsewhere.",),
    ),
    Protocol(
        "afrclip-visa",
        (Images("mvtec"),),
        ("visa",),
        ("afrclip",),
        "AFR-CLIP Sec. Experimental Setup; no code was released",
    ),
    Protocol(
        "aaclip",
        (Images("visa"),),
        ("mvtec", "btad", "mpdd", "brain-ad", "bmad-liver", "bmad-retina", "clinicdb", "colondb", "kvasir"),
        ("aaclip",),
        "AA-CLIP scripts.sh:2 and 5, train.py:190, dataset/metadata/VisA/full-shot.jsonl (962 normal, 1,200 anomalous)",
        notes=(
            "The script also tests CVC-300, which the catalog does not have.",
            "README.md: the defaults were chosen on VisA.",
        ),
    ),
    Protocol(
        "clipad",
        (Images("visa"),),
        ("mvtec", "headct", "brainmri"),
        ("clipad",),
        "CLIP-AD train_SDP_plus.sh:2, test_SDP_plus.sh:2, 14 and 19",
        notes=(
            "SDP+. VisA, ISIC and CVC-ClinicDB are tested by the protocol mvtec.",
            f"With --backbone clip-vit-b-16-plus-240-e31 (train_SDP_plus.sh:5); {CLUSTERS}",
            "For medical sets the script asks for other sentences, which are in a supplement.",
        ),
    ),
    Protocol(
        "medical",
        (Images("colondb-endo"),),
        (*BRAINS, "covid19", "isic", "clinicdb", "kvasir", "endo", "tn3k"),
        ("anomalyclip", "crane"),
        "AnomalyCLIP Sec. 4.2, Table 3 and App. B; Crane App. D (medical training) and Table 5",
        notes=(
            "380 anomalous images of CVC-ColonDB, and 163 normal ones of the classification test of EndoTect.",
            "Crane tests HeadCT, BrainMRI, Br35H, ISIC, CVC-ClinicDB and TN3K; CVC-ColonDB by medical-colondb.",
            "No released script trains it. AnomalyCLIP: 15 epochs for all experiments (A.1); Crane does not say.",
        ),
    ),
    Protocol(
        "medical-colondb",
        (Images("clinicdb"), Images("colondb-endo", label=0)),
        ("colondb",),
        ("crane",),
        "Crane App. D (medical training) and Table 5",
        notes=(
            "Read with care: the paper trains on CVC-ClinicDB for CVC-ColonDB, \"and test it on the EndoTect test "
            "dataset\". CVC-ClinicDB has no normal image, which the training needs, so the normal ones of EndoTect "
            "are taken as in the protocol medical. No released script trains it.",
        ),
    ),
    Protocol(
        "mvtec-colondb",
        (Images("mvtec"), Images("colondb")),
        ("visa", *INDUSTRIAL, *BRAINS, "isic", "clinicdb", "kvasir", "endo", "tn3k"),
        ("vip2clip", "adaclip"),
        "ViP2-CLIP App. C.3 and Table 9; AdaCLIP train.sh:8, test.sh:5-16, README.md:21-22 (corrects its paper)",
        notes=(
            "ViP2-CLIP tests the medical ones but TN3K; AdaCLIP all but Kvasir and Endo.",
            "AdaCLIP: README.md pairs MVTec AD with ClinicDB in its table of weights, with ColonDB in its text. The "
            "best epoch on VisA is kept (train.py:118-127); here the choice never looks at a tested set. Mosaics are "
            "of MVTec AD only (dataset/mvtec.py:15), here too.",
        ),
    ),
    Protocol(
        "visa-clinicdb",
        (Images("visa"), Images("clinicdb")),
        ("mvtec", "colondb"),
        ("vip2clip", "adaclip"),
        "ViP2-CLIP App. C.3 and Table 9; AdaCLIP train.sh:11, test.sh:22-23, README.md:21-22 (corrects its paper)",
        notes=(
            "ViP2-CLIP tests CVC-ColonDB with it.",
            "AdaCLIP: README.md pairs VisA with ColonDB in its table of weights, with ClinicDB in its text. The best "
            "epoch on MVTec AD is kept, which is then tested; here the choice never looks at a tested set.",
            "AdaCLIP's third training, on fourteen sets, is a demonstration: it leaves nothing to be tested.",
        ),
    ),
)  # fmt: skip
PROTOCOLS: Mapping[str, Protocol] = {row.name: row for row in _ROWS}


def protocol(name: str) -> Protocol:
    """The row of a name.

    Raises:
        ZsadError: If there is none; the message proposes the nearest.

    >>> protocol("medical-colondb").trained_on
    'CVC-ClinicDB + ColonDB and Endo (normal only)'
    """
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS, "zsad protocols")
    return PROTOCOLS[name]


def training_samples(row: Protocol, root: Path, say: Callable[[str], object] | None = None) -> list[Sample]:
    """What a protocol trains on.

    Args:
        row: The protocol.
        root: Folder of datasets, each in a folder that is called by a name of the catalog or an alias.
        say: Told how each was understood.

    Raises:
        ZsadError: Naming every dataset that is missing and how to get it; also if one is not whole, or there twice.
    """
    folders = _folders(root, names := [images.dataset for images in row.trains])
    if missing := [name for name in names if name not in folders]:
        lines = [f"{root} lacks what the protocol {row.name} trains on:", *(_missing(name, root) for name in missing)]
        raise ZsadError("\n  ".join(lines))
    return [
        sample
        for name, split, label in row.trains
        for sample in samples_of(folders[name], split, name, say)
        if label in (None, sample.label)
    ]


def target_folders(row: Protocol, root: Path) -> dict[str, Path]:
    """Those datasets below `root` that a protocol is tested on; what is not there is left out.

    Raises:
        ZsadError: If one is there twice.
    """
    return _folders(root, row.targets)


def _folders(root: Path, names: Iterable[str]) -> dict[str, Path]:
    """The folders of those datasets that are there, in the order of their names."""
    there: dict[str, list[Path]] = {}
    for path in sorted(existing(root).iterdir()):
        if path.is_dir() and (row := by_folder(path)):
            there.setdefault(row.name, []).append(path)
    for name, paths in there.items():
        if name in names and len(paths) > 1:
            listed = " and ".join(path.name for path in paths)
            raise ZsadError(f"{root} holds {find(name).title} more than once: {listed}; move away all but one")
    return {name: there[name][0] for name in names if name in there}


def _missing(name: str, root: Path) -> str:
    row, place = find(name), quote(str(root / name))
    if row.archives:
        return f"{row.title}: zsad data fetch {name} {place}"
    return f"{row.title}: from {row.page} into {place}; how its files lie: zsad data list {name}"
