"""Features on disk: what comes back is what was written, whoever is killed, and whatever lies in the folder."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import zsad.cache.store
from zsad import cli
from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.cache import FeatureCache, Space, about, sample_keys
from zsad.cache.keys import _code_digest, _package_files
from zsad.cache.shards import DAY, Shard, publish, sweep
from zsad.cache.space import digest_of
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.methods.base import Method
from zsad.methods.table import build
from zsad.types import Sample

MADE = {"encoding": {"function": "toy.encode", "layers": [6, 12]}, "size": 64, "dtype": "float32"}


def rows(*numbers: int) -> dict[str, Tensor]:
    """Rows that tell which key they are of."""
    values = torch.tensor(numbers, dtype=torch.float32)
    return {
        "patches": values[:, None, None] + torch.arange(12.0).view(3, 4),
        "mask": torch.tensor(numbers, dtype=torch.uint8)[:, None].repeat(1, 5),
        "none": torch.zeros(len(numbers), 0, 7),
    }


def keys(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


def filled(folder: Path, *numbers: int, **changes: Any) -> Space:
    space = FeatureCache(folder).space({**MADE, **changes})
    space.add(keys(*numbers), rows(*numbers))
    return space


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def must_be(found: dict[str, Tensor], *numbers: int) -> None:
    for name, tensor in rows(*numbers).items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


# What is written is read


def test_rows_come_back_in_the_order_of_the_keys(tmp_path: Path) -> None:
    space = filled(tmp_path, 1, 2, 3)
    space.add(keys(4, 5), rows(4, 5))
    must_be(space.read(keys(5, 1, 3, 1)), 5, 1, 3, 1)
    must_be(FeatureCache(tmp_path).space(MADE).read(keys(5, 1, 3, 1)), 5, 1, 3, 1)


def test_missing_names_each_absent_key_once_and_in_order(tmp_path: Path) -> None:
    assert filled(tmp_path, 1, 2).missing(keys(9, 1, 8, 9)) == keys(9, 8)


def test_adding_a_key_again_writes_nothing_and_changes_nothing(tmp_path: Path) -> None:
    space = filled(tmp_path, 1, 2)
    space.add(keys(1, 2), rows(7, 8))
    assert len(shards(tmp_path)) == 1
    space.add(keys(2, 3, 3), rows(7, 3, 8))
    must_be(space.read(keys(1, 2, 3)), 1, 2, 3)


def test_a_space_sees_what_another_one_has_added(tmp_path: Path) -> None:
    first, second = filled(tmp_path, 1), FeatureCache(tmp_path).space(MADE)
    assert not second.missing(keys(1))
    first.add(keys(2), rows(2))
    assert second.missing(keys(1, 2, 3)) == keys(3)
    first.add(keys(4), rows(4))
    must_be(second.read(keys(4, 2)), 4, 2)  # without being asked what is missing


def test_features_made_in_another_way_are_another_space(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    for change in ({"size": 65}, {"dtype": "float16"}, {"encoding": {"function": "toy.encode", "layers": [6]}}):
        assert FeatureCache(tmp_path).space({**MADE, **change}).missing(keys(1)) == keys(1)


def test_opening_a_space_writes_nothing(tmp_path: Path) -> None:
    assert FeatureCache(tmp_path / "new").space(MADE).missing(keys(1)) == keys(1)
    assert not (tmp_path / "new").exists()


def test_images_of_several_shapes_do_not_come_in_one_batch(tmp_path: Path) -> None:
    space = filled(tmp_path, 1)
    space.add(keys(2), {**rows(2), "patches": torch.zeros(1, 3, 5)})
    with pytest.raises(ZsadError, match="several shapes"):
        space.read(keys(1, 2))


# float16


def test_float16_rounds_by_one_in_2048_at_most_and_returns_halves(tmp_path: Path) -> None:
    space = FeatureCache(tmp_path).space({**MADE, "dtype": "float16"})
    values = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 4, 4096)
    space.add(keys(1), {"x": values, "mask": torch.tensor([[255]], dtype=torch.uint8)})
    found = space.read(keys(1))
    assert found["x"].dtype == torch.float16 and found["mask"].dtype == torch.uint8
    normal = values.abs() >= 2**-14
    error = (found["x"].float() - values).abs()
    assert (error[normal] <= values[normal].abs() * 2**-11).all()
    assert (error[~normal] <= 2**-25).all() and (~normal).any()


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    space = FeatureCache(tmp_path).space({**MADE, "dtype": "float16"})
    with pytest.raises(ZsadError, match=r'"x" has a value of 65519, .*cache_dtype=float32'):
        space.add(keys(1), {"x": torch.tensor([[-65519.0]])})
    assert space.missing(keys(1)) == keys(1)


# Damage


def spoilt(path: Path, how: str) -> None:
    """A file as an accident leaves it."""
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) - 1]
    elif how == "flipped":
        data[-1] ^= 1
    elif how == "zeroed":
        data = bytearray(len(data))
    elif how == "header":
        data[20] ^= 64
    elif how == "empty":
        data = bytearray()
    else:
        data = bytearray(b"something else altogether, as long as it may be" * 9)
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "flipped", "zeroed", "header", "empty", "other"])
def test_a_damaged_shard_is_missing_and_can_be_written_again(tmp_path: Path, how: str) -> None:
    filled(tmp_path, 1, 2).add(keys(3), rows(3))
    hurt = next(path for path in shards(tmp_path) if keys(2)[0].encode() in path.read_bytes())
    spoilt(hurt, how)
    space = FeatureCache(tmp_path).space(MADE)
    absent = space.missing(keys(1, 2, 3))
    assert absent and set(absent) <= set(keys(1, 2))
    assert not hurt.exists()
    space.add(keys(1, 2), rows(1, 2))
    must_be(space.read(keys(1, 2, 3)), 1, 2, 3)
    must_be(FeatureCache(tmp_path).space(MADE).read(keys(2, 3)), 2, 3)


def test_rows_found_sound_stay_readable_when_another_row_of_their_file_is_not(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2)
    [path] = shards(tmp_path)
    spoilt(path, "flipped")  # in the last bytes, which are of the last row
    space = FeatureCache(tmp_path).space(MADE)
    assert space.missing(keys(1)) == []
    assert space.missing(keys(1, 2)) == keys(2)
    must_be(space.read(keys(1)), 1)


def test_a_shard_of_another_space_is_not_read(tmp_path: Path) -> None:
    other, space = filled(tmp_path, 1, size=65), filled(tmp_path, 2)
    for path in other.folder.glob("*.safetensors"):
        (space.folder / path.name).write_bytes(path.read_bytes())
    assert FeatureCache(tmp_path).space(MADE).missing(keys(1, 2)) == keys(1)


def test_a_lost_or_damaged_about_is_written_again(tmp_path: Path) -> None:
    space = filled(tmp_path, 1)
    for text in ("", "[]", '{"size": 65}'):
        (space.folder / "about.json").write_text(text)
        must_be(FeatureCache(tmp_path).space(MADE).read(keys(1)), 1)
        assert FeatureCache(tmp_path).spaces()[0].about == MADE


# Killed writers, and several at once


def write_on_and_on(folder: Path, first: int) -> None:
    torch.set_num_threads(1)  # after a fork, torch has no others
    space = FeatureCache(folder).space(MADE)
    for number in range(first, first + 4000, 40):  # far more than there is time for
        some = range(number, number + 40)
        big = torch.full((40, 60_000), float(number))
        space.add(keys(*some), {**rows(*(i % 256 for i in some)), "big": big})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, and no kill -9, on this system")
def test_whenever_writers_are_killed_every_shard_is_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    amid = 0
    for turn in range(8):
        first, before = 200_000 * turn, len(shards(tmp_path))
        both = [get_context("fork").Process(target=write_on_and_on, args=(tmp_path, first + i)) for i in (0, 100_000)]
        for process in both:
            process.start()
        end = time.monotonic() + 5
        while len(shards(tmp_path)) < before + 2 and time.monotonic() < end:
            time.sleep(0.003)
        time.sleep(0.002 * turn)
        for process in both:
            process.kill()
            process.join()
        amid += len([*tmp_path.rglob("*.part")])
        there = [Shard(path, digest_of(MADE)) for path in shards(tmp_path)]
        assert all(shard.sound(i) for shard in there for i in range(len(shard.keys)))
    assert amid, "nobody was killed while it wrote, so nothing was shown"
    space = FeatureCache(tmp_path).space(MADE)
    assert {path.suffix for path in space.folder.iterdir()} == {".safetensors", ".json"}
    known = [key for shard in there for key in shard.keys]
    assert len(known) == len(set(known)) == 40 * len(there)
    assert not space.missing(known)
    for number in (int(key, 16) for key in known[::7]):
        found = space.read(keys(number))
        assert (found.pop("big") == number // 40 * 40).all()
        must_be(found, number % 256)


def test_a_living_writer_keeps_its_file_and_a_dead_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dead.part").write_bytes(b"half")
    seen: list[set[str]] = []

    def sweep_meanwhile(descriptor: int) -> None:
        sweep(tmp_path)
        seen.append({path.suffix for path in tmp_path.iterdir()})

    monkeypatch.setattr(os, "fsync", sweep_meanwhile)
    publish(tmp_path / "made.json", b"all of it")
    assert seen == [{".part"}]
    assert [path.name for path in tmp_path.iterdir()] == ["made.json"]


def test_two_may_write_one_file_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def another(descriptor: int) -> None:
        monkeypatch.undo()
        publish(tmp_path / "made.json", b"one")

    monkeypatch.setattr(os, "fsync", another)
    publish(tmp_path / "made.json", b"other")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"other"]


def test_what_is_half_written_for_a_day_goes_even_where_there_are_no_locks(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    part = tmp_path / "old.part"
    with part.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert part.exists()
        os.utime(part, (0, time.time() - DAY - 1))
        sweep(tmp_path)
    assert not part.exists()


def test_a_writer_begins_again_when_its_folder_is_cleared_meanwhile(tmp_path: Path) -> None:
    space = filled(tmp_path, 1)
    FeatureCache(tmp_path).clear()
    assert not space.folder.exists()
    space.add(keys(2), rows(2))
    assert FeatureCache(tmp_path).spaces()[0].about == MADE


# Room


def test_what_would_cross_the_limit_is_refused_and_told_what_to_type(tmp_path: Path) -> None:
    filled(tmp_path, 1, size=65)
    cache = FeatureCache(tmp_path, limit=FeatureCache(tmp_path).used() + 100)
    assert cache.room() == 100
    space = cache.space(MADE)
    with pytest.raises(ZsadError, match=r"zsad cache clear NAME.*--cache none.*--set cache_limit"):
        space.add(keys(1, 2), rows(1, 2))
    assert len(shards(tmp_path)) == 1


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zsad.cache.store, "RESERVE", 2**62)
    assert FeatureCache(tmp_path).room() == 0
    with pytest.raises(ZsadError, match="room for 0 GB"):
        filled(tmp_path, 1)


def test_a_disk_that_refuses_is_an_error_for_a_person_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ZsadError, match=r"No space left on device.*zsad cache clear"):
        filled(tmp_path, 1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# Listing and clearing


def test_spaces_tell_entries_bytes_and_when_they_were_last_used(tmp_path: Path) -> None:
    old, new = filled(tmp_path, 1, 2), filled(tmp_path, 3, size=65)
    os.utime(old.folder / "about.json", (0, 1e9))
    first, second = FeatureCache(tmp_path).spaces()
    assert (first.entries, second.entries, second.about) == (1, 2, MADE)
    assert second.last_used.year == 2001
    assert second.bytes == sum(path.stat().st_size for path in old.folder.iterdir())
    FeatureCache(tmp_path).space(MADE)
    assert FeatureCache(tmp_path).spaces()[0].name == old.folder.name != new.folder.name


def test_clear_removes_what_is_named_and_says_what_it_gives_back(tmp_path: Path) -> None:
    first, second = filled(tmp_path, 1), filled(tmp_path, 2, size=65)
    size = sum(path.stat().st_size for path in first.folder.iterdir())
    cache = FeatureCache(tmp_path)
    assert cache.clear([first.folder.name[:8], first.folder.name]) == size
    assert [info.name for info in cache.spaces()] == [second.folder.name]
    with pytest.raises(ZsadError, match="zsad cache list"):
        cache.clear([first.folder.name])
    assert cache.clear() > 0 and cache.used() == 0


@pytest.mark.skipif(os.name == "nt", reason="there, files that are mapped cannot be removed")
def test_clearing_a_space_does_not_disturb_who_reads_it(tmp_path: Path) -> None:
    space = filled(tmp_path, 1, 2)
    assert not space.missing(keys(1, 2))
    FeatureCache(tmp_path).clear()
    must_be(space.read(keys(2, 1)), 2, 1)


def test_files_of_others_in_the_folder_stay(tmp_path: Path) -> None:
    space = filled(tmp_path, 1)
    (tmp_path / "notes").mkdir()
    for path in (tmp_path / "notes" / "a.safetensors", space.folder / "mine.txt"):
        path.write_text("mine")
    FeatureCache(tmp_path).clear()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.safetensors", "mine.txt"]


def test_the_command_line_lists_and_clears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path))
    method = build("anomalyclip", tiny())
    space = FeatureCache().space(described(method))
    space.add(keys(1, 2), rows(1, 2))
    said = CliRunner().invoke(cli.app, ["cache", "list"]).output
    for word in (space.folder.name, "attention=vv", "tiny", " 64 ", "float32", " 2 ", "200.0 GB"):
        assert word in said
    runner = CliRunner()
    assert isinstance(runner.invoke(cli.app, ["cache", "clear"]).exception, ZsadError)
    assert space.folder.exists()
    assert "given back" in runner.invoke(cli.app, ["cache", "clear", space.folder.name[:4]]).output
    assert not space.folder.exists()
    assert runner.invoke(cli.app, ["cache", "clear", "--all"]).output.startswith("0.000 GB")
    assert space.folder.name not in runner.invoke(cli.app, ["cache", "list"]).output


# Keys of samples


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    for name, colour in (("image.png", "red"), ("mask.png", "white")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    return Sample(tmp_path / "image.png", tmp_path / "mask.png", 1)


def key(sample: Sample) -> str:
    return sample_keys([sample])[0]


def test_a_key_depends_on_contents_and_part_and_not_on_names(sample: Sample, tmp_path: Path) -> None:
    before = key(sample)
    renamed = tmp_path / "other.jpeg"
    renamed.write_bytes(sample.image.read_bytes())
    assert key(dataclasses.replace(sample, image=renamed, class_name="x", split="train", label=None)) == before
    assert key(dataclasses.replace(sample, mask=None)) != before
    assert key(dataclasses.replace(sample, part=(1, 2))) != before
    assert key(dataclasses.replace(sample, part=(1, 2))) != key(dataclasses.replace(sample, part=(2, 2)))


@pytest.mark.parametrize("which", ["image", "mask"])
def test_a_changed_file_has_another_key(sample: Sample, which: str) -> None:
    before, path = key(sample), getattr(sample, which)
    time_before = path.stat()
    Image.new("RGB", (8, 8), "blue").save(path)
    os.utime(path, (time_before.st_atime, time_before.st_mtime))
    assert key(sample) != before


def test_every_file_of_a_folder_of_masks_counts(sample: Sample, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(folder / name)
    several = dataclasses.replace(sample, mask=folder)
    before = key(several)
    Image.new("L", (8, 8), 255).save(folder / "b.png")
    assert key(several) != before


def test_what_is_made_of_several_files_has_no_key(sample: Sample) -> None:
    class Mosaic(Sample):
        pass

    with pytest.raises(TypeError, match="Mosaic"):
        sample_keys([Mosaic(sample.image)])


# What else features depend on


def tiny() -> CLIP:
    return weights.load("tiny")


def described(method: Method, size: int = 64, **changes: Any) -> dict[str, Any]:
    chosen = {"reading": Reading(), "dtype": "float32", "precision": "float32", **changes}
    return about(method, method.stages[0], size, **chosen)


def test_whatever_features_depend_on_makes_them_others() -> None:
    method = build("anomalyclip", tiny())
    made = [described(method), described(method, 65)]
    made += [described(method, **change) for change in ({"dtype": "float16"}, {"precision": "bf16"})]
    made += [described(method, reading=Reading(**change)) for change in ({"fit": "pad"}, {"mask_above": 1.0})]
    made += [described(build("anomalyclip", tower)) for tower in other_towers()]
    torch.set_float32_matmul_precision("medium")
    made += [described(method)]
    torch.set_float32_matmul_precision("highest")
    assert len({str(one) for one in made}) == len(made)


def other_towers() -> Iterator[CLIP]:
    own = tiny().visual.size.activation
    yield tiny().acting("gelu" if own == "quick_gelu" else "quick_gelu")  # shares every tensor, and the digest
    for name, value in (("digest", "0" * 64), ("digest", ""), ("mean", (0.1, 0.2, 0.3)), ("std", (0.1, 0.2, 0.3))):
        changed = tiny()
        setattr(changed, name, value)
        yield changed
    yield tiny().half()


def test_towers_without_a_digest_are_known_by_their_tensors() -> None:
    first, second, third = (tiny() for _ in range(3))
    for towers in (first, second, third):
        towers.digest = ""
    with torch.no_grad():
        third.visual.cls += 1
    one, same, other = (described(build("visualad", towers)) for towers in (first, second, third))
    assert one == same != other


def test_a_guide_and_a_frozen_cnn_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from zsad.backbones.cnn import ResNet18
    from zsad.methods import afrclip

    torch.manual_seed(0)
    monkeypatch.setattr(afrclip, "load_resnet18", lambda device: ResNet18().eval())
    one, other = (described(build("afrclip", tiny(), cnn="resnet18")) for _ in range(2))
    assert one["others"] != other["others"]
    assert len(described(build("crane", tiny(), guide="tiny"))["backbones"]) == 2


def test_the_source_of_towers_methods_and_reading_counts(tmp_path: Path) -> None:
    names = {path.name for path in _package_files()}
    assert {"vit.py", "clip.py", "anomalyclip.py", "tower.py", "images.py", "load.py", "maps.py"} <= names
    for name, text in (("a.py", "x = 1"), ("b.py", "x = 1"), ("c.py", "x = 2")):
        (tmp_path / name).write_text(text)
    a, b, c = (_code_digest((tmp_path / name,)) for name in ("a.py", "b.py", "c.py"))
    assert a == b != c


def test_the_source_of_a_method_from_elsewhere_counts() -> None:
    from zsad.methods.anomalyclip import AnomalyCLIP

    class Mine(AnomalyCLIP):
        pass

    own, theirs = described(Mine(tiny())), described(build("anomalyclip", tiny()))
    assert own.pop("code") != theirs.pop("code")
    assert own == theirs
