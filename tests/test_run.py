"""The folder of a training run: killed at any moment it goes on, and never with another config or other images."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zsad import ZsadError
from zsad.data.tables import read_table
from zsad.training import log as log_module
from zsad.training.environment import environment, revision
from zsad.training.plan import Step
from zsad.training.run import Run
from zsad.types import Sample
from zsad.writing import whole

CONFIG = {"method": "fake", "epochs": 3, "rate": 1e-5, "layers": (6, 12), "switches": {"sigma": 4.0}, "workers": 0}


class Fake(nn.Module):
    """A method that learns one number."""

    name = "fake"

    def __init__(self, value=0.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def save(self, path):
        with whole(path) as part:
            save_file(self.state_dict(), part)


def samples(folder, count=3):
    return [Sample(folder / f"{i}.png", label=i % 2, class_name="gear") for i in range(count)]


def begin(folder, config=CONFIG, images=None, keys=None, **how):
    images = samples(folder.parent) if images is None else images
    return Run.begin(folder, config, images, keys or [str(i) for i in range(len(images))], **how)


def under_way(folder, **how):
    """A run that has something to go on from."""
    with begin(folder, **how) as run:
        run.load()
        run.save(state(1))


def step(number, stage=1, epoch=1, speed=10.0, **terms):
    return Step(number, 9, stage, epoch, terms or {"focal": 1 / (number + 2), "dice": 0.1 * number}, 1e-3, speed, 1.0)


def state(number):
    return {"number": number, "method": {"value": torch.full((1000,), float(number))}}


def epoch(run, number, loss, last=True):
    """An epoch of one step; what was learned is the number."""
    run.log(step(number, epoch=number))
    run.epoch_done(Fake(float(number)), 1, number, 1 if last else 2, {"focal": loss / 2, "dice": loss / 2})
    run.save(state(number))


def rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoints(folder):
    return sorted(file.name.removeprefix("stage-1-epoch-") for file in (folder / "checkpoints").iterdir())


def states(folder):
    return sorted(file.name for file in (folder / "state").glob("*"))


HERE = environment()


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr("zsad.training.run.environment", lambda device: HERE)  # asked once: it takes a while
    return tmp_path / "own.run"


# what a folder holds


def test_folder_says_what_was_begun_where_and_on_what(out):
    for sample in samples(out.parent):
        sample.image.touch()
    with begin(out) as run:
        assert run.load() is None and not run.finished
    assert (out / "config.yaml").read_text().splitlines()[1:4] == ["epochs: 3", "rate: 1.0e-05", "layers: [6, 12]"]
    (start,) = json.loads((out / "environment.json").read_text())
    assert start["packages"]["torch"] == torch.__version__ and start["threads"] == torch.get_num_threads()
    assert {"python", "platform", "zsad", "git", "device", "command", "started"} <= start.keys()
    assert read_table(out / "data.jsonl").samples == samples(out.parent)
    assert [json.loads(line)["contents"] for line in (out / "data.jsonl").open()] == ["0", "1", "2"]
    assert json.loads((out / "run.json").read_text())["images"] == 3


def test_revision_is_that_of_the_folder_and_tells_of_changed_and_new_files(tmp_path):
    assert revision(tmp_path) == {"git": None}
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert revision(package) == {"git": None}  # installed below another checkout
    subprocess.run([*git, "add", "package"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    assert len(revision(package)["git"]) == 40 and not revision(package)["git_dirty"]
    (package / "new.py").touch()
    assert revision(package)["git_dirty"]


# going on


def test_begun_run_goes_on_and_a_finished_one_says_so(out):
    with begin(out) as run:
        run.load()
        run.save(state(4))
    with begin(out) as run:
        loaded = run.load()
        assert loaded["number"] == 4 and torch.equal(loaded["method"]["value"], torch.full((1000,), 4.0))
        assert not run.finished
        run.finish()
    assert len(json.loads((out / "environment.json").read_text())) == 2
    with begin(out) as run:
        assert run.finished


def test_another_config_is_refused_with_each_key_and_the_ways_out(out):
    under_way(out)
    other = {**CONFIG, "epochs": 5, "switches": {"sigma": 2.0}, "seed": 1}
    with pytest.raises(ZsadError, match=r"another config") as caught:
        begin(out, other)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert lines[:3] == ["epochs: 3, now 5", "switches.sigma: 4.0, now 2.0", "seed: not there, now 1"]
    assert "--overwrite" in lines[3] and "--out" in lines[3] and len(lines) == 4


def test_keys_that_change_no_result_may_change(out):
    begin(out).close()
    begin(out, {**CONFIG, "workers": 8, "device": "cuda:1", "save_every": 1.0}).close()


def test_other_images_are_refused_and_counted(out):
    under_way(out, images=samples(out.parent, 4))
    with pytest.raises(ZsadError, match=r"other images \(0 came, 1 went, 2 changed, of 4 images\).*--overwrite"):
        begin(out, keys=["0", "other", "other"])
    with pytest.raises(ZsadError, match=r"other images \(in another order, of 4 images\)"):
        begin(out, images=samples(out.parent, 4)[::-1], keys=["3", "2", "1", "0"])


def test_images_may_move_but_a_changed_manifest_is_refused(out):
    under_way(out)
    begin(out, images=samples(out.parent / "elsewhere")).close()
    (out / "data.jsonl").write_text("")
    with pytest.raises(ZsadError, match=r"data\.jsonl is missing or was changed"):
        begin(out)


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "environment.json"])
def test_file_that_was_damaged_is_named_with_the_ways_out(out, name):
    under_way(out)
    (out / name).write_text("[1, ")
    with pytest.raises(ZsadError, match=rf"(?s){name} is not that of a run: .*--overwrite"):
        begin(out)


def test_half_written_files_of_a_killed_process_are_removed(out):
    begin(out).close()
    part = out / "state" / "00000003.pt.part"
    part.parent.mkdir()
    part.touch()
    with begin(out) as run:
        run.load()
    assert not part.exists()


def test_overwrite_removes_the_run_and_nothing_else(out):
    with begin(out) as run:
        run.load()
        epoch(run, 1, 1.0)
    (out / "notes.txt").write_text("mine")
    with begin(out, {**CONFIG, "epochs": 5}, overwrite=True) as run:
        assert run.load() is None
    assert (out / "notes.txt").exists() and not rows(out) and not checkpoints(out) and not (out / "best.json").exists()


def test_what_is_left_of_a_removal_that_was_stopped_is_no_run(out):
    with begin(out) as run:
        run.load()
        run.save(state(4))
    (out / "run.json").unlink()
    with begin(out, {**CONFIG, "epochs": 5}) as run:
        assert run.load() is None


def test_other_versions_are_said(out, monkeypatch):
    under_way(out)
    monkeypatch.setattr("zsad.training.run.environment", lambda device: {**HERE, "threads": 77})
    said = []
    begin(out, say=said.append).close()
    assert len(said) == 1 and "threads 77 in place of" in said[0]


def test_a_run_without_a_state_has_nothing_to_lose_and_is_begun_again(out):
    begin(out).close()
    begin(out, {**CONFIG, "epochs": 5}, images=samples(out.parent, 2)).close()
    under_way(out, config={**CONFIG, "epochs": 5}, images=samples(out.parent, 2))
    with pytest.raises(ZsadError, match="another config"):
        begin(out, images=samples(out.parent, 2))


# one process at a time

HOLD = """
import sys, time
from pathlib import Path
from tests.test_run import begin
run = begin(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def other_process(code, *words):
    """Another Python that runs code from here, once it has said its first line."""
    here = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here / "src")]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=env, stdout=subprocess.PIPE)
    assert process.stdout.readline()
    return process


def test_folder_is_held_by_a_living_process_and_free_after_its_kill(out):
    process = other_process(HOLD, out)
    try:
        with pytest.raises(ZsadError, match=r"another process is training in .*own\.run"):
            begin(out, overwrite=True)
    finally:
        process.kill()
        process.wait()
    begin(out).close()


def test_refused_run_lets_go_of_the_folder(out):
    under_way(out)
    with pytest.raises(ZsadError) as refused:
        begin(out, {**CONFIG, "epochs": 5})
    begin(out).close()
    assert refused  # still there, and what it refers to


# states

SAVE = """
import sys
from pathlib import Path
from tests.test_run import begin, state, step
run = begin(Path(sys.argv[1]))
loaded = run.load()
number = loaded["number"] if loaded else 0
print("loaded", flush=True)
while True:
    number += 1
    run.log(step(number))
    run.save(state(number))
"""


def test_killed_amid_saving_loads_a_state_that_was_saved_and_the_log_up_to_it(out):
    last = 0
    for wait in (0.0, 0.011):
        process = other_process(SAVE, out)
        while not any(int(name[:8]) > last + 2 for name in states(out) if name.endswith(".pt")):
            time.sleep(0.001)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        remarks = []
        with begin(out, say=remarks.append) as run:
            loaded = run.load()
            number = loaded["number"]
            assert number > last + 2 and not any("damaged" in remark for remark in remarks)
            assert torch.equal(loaded["method"]["value"], torch.full((1000,), float(number)))
            assert [int(row["step"]) for row in rows(out)] == list(range(1, number + 1))
        last = number


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_newest_state_is_passed_over_with_a_remark(out, damage):
    with begin(out) as run:
        run.load()
        for number in (1, 2, 3):
            run.save(state(number))
    file = out / "state" / states(out)[-1]
    data = bytearray(file.read_bytes())
    at = data.index(torch.full((1000,), 3.0).numpy().tobytes()) + 2000
    data[at] ^= damage == "flipped"
    file.write_bytes({"cut": data[:at], "flipped": data, "empty": b""}[damage])
    said = []
    with begin(out, say=said.append) as run:
        assert run.load()["number"] == 2
        run.save(state(4))
        assert len(said) == 1 and "00000003.pt is damaged" in said[0]


def test_newest_states_stay_and_damaged_later_ones_do_not(out):
    with begin(out, keep=0) as run:
        run.load()
        for number in (5, 10, 15, 20):
            run.save(state(number))
        assert states(out) == ["00000015.pt", "00000020.pt"]
        (out / "state" / "00000020.pt").write_bytes(b"")
        assert run.load()["number"] == 15
        run.save(state(16))
        assert states(out) == ["00000015.pt", "00000016.pt"]


def test_state_that_cannot_be_written_leaves_the_others(out, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    with begin(out) as run:
        run.load()
        run.save(state(1))
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(ZsadError, match=r"cannot write .*00000002\.pt: No space left on device; make room"):
            run.save(state(2))
        assert states(out) == ["00000001.pt"]


def test_state_is_due_when_the_last_is_old_enough(out):
    with begin(out, save_every=0.0) as run:
        assert run.due()
    with begin(out, save_every=60.0) as run:
        run.load()
        assert not run.due()


# log


def test_log_has_every_digit_and_is_cut_to_the_step_that_is_resumed(out):
    with begin(out) as run:
        run.load()
        for number in (1, 2, 3, 4):
            run.log(step(number))
            if number == 3:
                run.save(state(3))
    with (out / "log.csv").open("a") as file:
        file.write("2")  # the beginning of 20,1,1,0.3
    with begin(out) as run:
        run.load()
        assert [row["step"] for row in rows(out)] == ["1", "2", "3"]
        run.log(step(4, speed=99.0))
    with begin(out.with_name("whole.run")) as run:
        run.load()
        for number in (1, 2, 3, 4):
            run.log(step(number))
    same = ("step", "stage", "epoch", "loss", "rate", "focal", "dice")
    assert [{k: row[k] for k in same} for row in rows(out)] == [{k: r[k] for k in same} for r in rows(run.folder)]
    assert float(rows(out)[3]["loss"]) == step(4).loss


def test_seconds_go_on_from_the_state_that_is_resumed(out):
    with begin(out) as run:
        run.load()
        run._started -= 100
        run.save(state(1))
    with begin(out) as run:
        run.load()
        run.log(step(1))
    assert 100 <= float(rows(out)[0]["seconds"]) < 130


def test_terms_of_a_later_stage_are_further_columns(out):
    with begin(out) as run:
        run.load()
        run.log(step(1, focal=1.0))
        run.log(step(2, stage=2, other=2.0))
        run.log(step(3, stage=2, other=3.0))
    assert [(row["step"], row["focal"], row["other"]) for row in rows(out)] == [
        ("1", "1.0", ""),
        ("2", "", "2.0"),
        ("3", "", "3.0"),
    ]


def test_tensorboard_is_told_from_which_step_on_points_come_again(out, monkeypatch):
    told = []

    class Writer:
        def __init__(self, folder, purge_step):
            told.append(purge_step)

        def __getattr__(self, name):
            return lambda *words: told.append((name, *words))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", type("board", (), {"SummaryWriter": Writer}))
    with begin(out) as run:
        run.load()
        run.log(step(1, focal=0.5))
        run.save(state(1))
    assert ("add_scalar", "terms/focal", 0.5, 1) in told and ("add_scalar", "loss", 0.5, 1) in told
    assert told[0] is None and told.index(("flush",)) < told.index(("close",))
    told.clear()
    with begin(out) as run:
        run.load()
    assert told[0] == 2


def test_training_needs_no_tensorboard(out, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = log_module.Board(out)
    board.add(step(1))
    board.sync()
    board.close()
    assert not out.exists()


# checkpoints of epochs


def test_best_is_the_lowest_loss_of_the_last_stage_and_the_earlier_of_equal_ones(out):
    with begin(out, final="best") as run:
        run.load()
        run.epoch_done(Fake(9.0), 1, 1, 2, {"focal": 0.1})  # of a stage before the last
        assert not (out / "best.json").exists()
        for number, loss in ((1, math.nan), (2, 0.5), (3, 0.4), (4, 0.4), (5, 0.7)):
            run.epoch_done(Fake(float(number)), 2, number, 2, {"focal": loss})
        best = Fake()
        run.final(best)
        assert best.value.item() == 3.0
    note = json.loads((out / "best.json").read_text())
    assert note["checkpoint"] == "stage-2-epoch-003.safetensors" and note["loss"] == 0.4 and "lowest" in note["rule"]


def test_last_weights_stay_where_the_last_are_asked_for(out):
    with begin(out, final="last") as run:
        run.load()
        epoch(run, 1, 1.0)
        method = Fake(7.0)
        run.final(method)
        assert method.value.item() == 7.0


def test_last_checkpoints_and_the_best_stay(out):
    with begin(out, keep=2) as run:
        run.load()
        for number, loss in enumerate((0.9, 0.1, 0.5, 0.6, 0.7, 0.8), start=1):
            epoch(run, number, loss)
    assert checkpoints(out) == ["002.safetensors", "005.safetensors", "006.safetensors"]


def test_epoch_whose_save_was_lost_counts_once_when_it_is_done_again(out):
    def on(run, lost):
        run.log(step(3, epoch=3))
        run.epoch_done(Fake(3.0), 1, 3, 1, {"focal": 0.2})
        if not lost:
            run.save(state(3))

    with begin(out, final="best", keep=0) as run:
        run.load()
        epoch(run, 1, 0.5)
        epoch(run, 2, 0.4)
        on(run, lost=True)
    before = (out / "best.json").read_text()
    with begin(out, final="best", keep=0) as run:
        assert run.load()["number"] == 2
        on(run, lost=False)
        method = Fake()
        run.final(method)
    assert (out / "best.json").read_text() == before and method.value.item() == 3.0 and len(rows(out)) == 3


def test_best_is_there_for_every_state_that_training_may_go_on_from(out):
    with begin(out, final="best", keep=0) as run:
        run.load()
        epoch(run, 1, 0.5)
        epoch(run, 2, 0.4)
    (out / "state" / "00000002.pt").write_bytes(b"")
    with begin(out, final="best", keep=0) as run:
        assert run.load()["number"] == 1
        epoch(run, 2, 0.6)  # an accelerator's numbers may differ when they are computed again
        method = Fake()
        run.final(method)
        assert method.value.item() == 1.0


# several processes


def test_only_the_main_process_writes(out):
    with begin(out) as run:
        run.load()
        epoch(run, 1, 0.5)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with begin(out, main=False, final="best") as other:
        assert other.load()["number"] == 1
        epoch(other, 2, 0.6)
        other.finish()
        method = Fake()
        other.final(method)
        assert method.value.item() == 1.0 and not other.finished
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    assert load_file(out / "checkpoints" / "stage-1-epoch-001.safetensors")["value"].item() == 1.0


@pytest.mark.parametrize("text", ["", "nonsense\n1,2\n", ",".join(log_module.COLUMNS) + "\n1,1,1,0,0,0,0,9\n"])
def test_a_damaged_log_does_not_stop_a_training(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    log = log_module.Log(tmp_path / "log.csv", 1)
    log.add(step(2, focal=0.5), 1.0)
    log.close()
    with (tmp_path / "log.csv").open(newline="") as file:
        assert [(row["step"], row["focal"]) for row in csv.DictReader(file)] == [("2", "0.5")]


@pytest.mark.parametrize("name", ["run.json", "environment.json"])
@pytest.mark.parametrize("text", ["[]", "{}", "null", "3", "[1]", "not JSON"])
def test_a_damaged_note_is_named_with_the_ways_out(tmp_path, name, text):
    under_way(tmp_path / "own.run")
    (tmp_path / "own.run" / name).write_text(text)
    with pytest.raises(ZsadError, match=rf"{name} is not that of a run.*--overwrite"):
        begin(tmp_path / "own.run")
