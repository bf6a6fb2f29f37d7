"""Keys of a training: where they come from, which go first, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsad.backbones import weights
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.methods.table import METHODS, build, method_class
from zsad.training import config as config_module
from zsad.training import yaml_file
from zsad.training.config import KEYS, TrainConfig, read_config, resolved
from zsad.training.plan import Plan


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "training.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path | None = None, options: dict[str, Any] | None = None, words: tuple[str, ...] = ()) -> str:
    with pytest.raises(ZsadError) as caught:
        read_config(path, options, words)
    return str(caught.value)


def test_default_then_protocol_then_file_then_option_then_set(tmp_path: Path) -> None:
    words = ["protocol=mvtec", "method=aprilgan"]  # published with 3 epochs on MVTec AD
    assert read_config(words=["method=aprilgan"]).epochs is None
    assert read_config(words=words).epochs == 3
    path = written(tmp_path, "epochs: 5\nseed: 1\n")
    assert read_config(path, words=words).epochs == 5
    assert read_config(path, {"epochs": 7, "seed": None}, words).epochs == 7
    assert read_config(path, {"epochs": 7, "seed": None}, words).seed == 1
    assert read_config(path, {"epochs": 7}, [*words, "epochs=9"]).epochs == 9


def test_switches_and_reading_of_several_places_are_joined(tmp_path: Path) -> None:
    path = written(tmp_path, "switches: {layers: [6, 12], sigma: 2}\nreading: {fit: pad}\n")
    found = read_config(path, {"reading": {"bits": 12}}, ["sigma=3", "reading.mask_above=1"])
    assert found.switches == {"layers": (6, 12), "sigma": 3.0}
    assert found.reading == Reading(fit="pad", bits=12, mask_above=1.0)


def test_no_switch_is_called_like_a_key_but_the_seed_of_adaclip() -> None:
    both = {
        (name, field.name)
        for name in METHODS
        for field in dataclasses.fields(method_class(name).config_class)
        if field.name in KEYS
    }
    assert both == {("adaclip", "seed")}


def test_a_word_that_names_a_key_and_a_switch_is_refused_and_the_long_name_works() -> None:
    assert "--set switches.seed=4" in refused(words=("method=adaclip", "seed=4"))
    found = read_config(options={"seed": 5}, words=["method=adaclip", "switches.seed=4"])
    assert (found.seed, found.switches) == (5, {"seed": 4})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", 'no training key "epoch"; did you mean "epochs"'),
        ("switches: {layer: [24]}", 'no anomalyclip switch "layer"; did you mean "layers"'),
        ("method: winclip\nswitches: {scale: [2]}", 'no winclip switch "scale"; did you mean "scales"'),
        ("reading: {fits: pad}", 'no switch of reading "fits"; did you mean "fit"'),
        ("epochs: many", "epochs: expected a whole number such as 15, got 'many'"),
        ("epochs: 1.5", "epochs: expected a whole number such as 15, got 1.5"),
        ("epochs: true", "epochs: expected a whole number such as 15, got True"),
        ("mosaic: on", "mosaic: expected a number such as 0.5, got 'on'"),
        ("seed: null", "seed: expected a whole number such as 111, got None"),
        ("data: [[a]]", "data: expected text such as data/mvtec, got ['a']"),
        ("dataset: 2024", "dataset: expected text such as mvtec, got 2024"),
        ("switches: 3", "switches: expected names with values"),
        ("switches: {half_deep_tokens: yes}", "half_deep_tokens='yes'; expected something like half_deep_tokens=true"),
        ("reading: {fit: 3}", "reading.fit: expected text such as stretch, got 3"),
        ("epochs: 3\nepochs: 4", '"epochs" stands twice'),
        ("switches: {sigma: 3, sigma: 4}", '"sigma" stands twice'),
        ("- epochs", "expected lines such as epochs: 15"),
        ("epochs: [", "expected YAML"),
        ("1: 2", "a key that is no text"),
        ("data: !!python/name:os.system", "expected YAML"),
    ],
)
def test_what_a_file_may_not_say_is_told_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    found = refused(path)
    assert found.startswith(f"{path}: ")
    assert said in found


def test_switches_of_a_file_are_those_of_the_method_that_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "switches: {scales: [2]}")
    assert 'no anomalyclip switch "scales"' in refused(path)
    assert read_config(path, {"method": "winclip"}).switches == {"scales": (2,)}
    assert read_config(path, words=["method=winclip"]).switches == {"scales": (2,)}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("epoch=3", 'did you mean "epochs"'),
        ("layer=6", 'did you mean "layers"'),
        ("switches.layer=6", 'did you mean "layers"'),
        ("reading.fits=pad", 'did you mean "fit"'),
        ("epochs=many", "--set epochs=many: expected something like epochs=15"),
        ("epochs", "--set epochs: expected epochs=VALUE, such as epochs=15"),
        ("epochs=0", "training needs epochs above 0, got 0"),
        ("switches=3", "expected switches.NAME=VALUE"),
        ("method=anomalyclp", 'did you mean "anomalyclip"'),
        ("protocol=mvtce", 'did you mean "mvtec"'),
        ("cache=dsk", 'did you mean "disk"'),
        ("final=bst", 'did you mean "best"'),
        ("save_every=nan", "save_every: expected 0 or more, got nan"),
        ("size=4", "size: expected 8 or more, got 4"),
    ],
)
def test_what_set_may_not_say_is_told(word: str, said: str) -> None:
    assert said in refused(words=(word,))


def test_none_in_set_means_as_published(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs: 3\n")
    assert read_config(path, words=["epochs=none"]).epochs is None


def test_numbers_and_words_of_yaml_are_what_they_look_like(tmp_path: Path) -> None:
    path = written(
        tmp_path, "rate: 1e-3\nslow: .5\ncache_limit: 2e2\nepochs: 15.0\ndata: on\ntargets: [no, 1:30, ~x]\n"
    )
    found = read_config(path)
    assert (found.rate, found.slow, found.cache_limit, found.epochs) == (0.001, 0.5, 200.0, 15)
    assert (found.data, found.targets) == (("on",), ("no", "1:30", "~x"))


def test_an_empty_file_is_one_without_keys(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "# nothing\n")) == TrainConfig()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in refused(tmp_path / "none.yaml")


TEXT = st.text(max_size=12)
CONFIGS = st.builds(
    TrainConfig,
    data=st.lists(
        TEXT | st.sampled_from(["1e-3", "yes", "null", "0o7", "1:30", "a, b", "- x", "#", "007"]), max_size=3
    ).map(tuple),
    dataset=st.none() | TEXT,
    rate=st.none() | st.floats(1e-300, 1e300),
    epochs=st.none() | st.integers(1, 10**20),
    clip=st.floats(0, 1e300),
    switches=st.fixed_dictionaries({}, optional={"sigma": st.floats(0.1, 9), "losses": st.just(("focal",))}),
    reading=st.builds(Reading, fit=st.sampled_from(["pad", "keep"]), mask_above=st.floats(0, 1e9)),
)


@settings(max_examples=50, deadline=None)
@given(CONFIGS)
def test_what_is_written_is_read_back_the_same_and_written_the_same(
    tmp_path_factory: pytest.TempPathFactory, made: TrainConfig
) -> None:
    path = written(tmp_path_factory.getbasetemp(), made.to_yaml())
    assert read_config(path) == made
    assert read_config(path).to_yaml() == made.to_yaml()


def test_lists_stand_in_one_line_and_nothing_is_a_reference() -> None:
    text = TrainConfig(data=("a", "b"), targets=("a", "b"), switches={"layers": (6, 12)}).to_yaml()
    assert "\ndata: [a, b]\n" in text and "\ntargets: [a, b]\n" in text and "\n  layers: [6, 12]\n" in text


def test_a_resolved_config_says_what_was_published_and_means_the_same() -> None:
    towers = weights.load("tiny")
    given_config = read_config(words=["method=visualad", "epochs=3"])
    method = build("visualad", towers)
    full = resolved(given_config, method, 64)
    assert (full.epochs, full.batch_size, full.rate, full.slow, full.size) == (3, 8, 0.001, 0.1, 64)
    assert full.switches == dataclasses.asdict(method.config)
    assert resolved(full, method, 99) == full


@pytest.mark.parametrize("name", METHODS)
def test_a_resolved_config_plans_the_same_courses(name: str) -> None:
    from zsad.training.plan import courses

    method = build(name, weights.load("tiny"))
    full = resolved(TrainConfig(method=name), method, 64)
    for a, b in zip(courses(method, Plan(), 20), courses(method, full.plan, 20), strict=True):
        for field in dataclasses.fields(a):
            if field.name != "stage":
                assert getattr(a, field.name) == getattr(b, field.name), field.name


def test_every_key_without_a_value_has_an_example_of_one() -> None:
    silent = {key for key in KEYS if getattr(TrainConfig(), key) in (None, ())}
    assert silent <= set(config_module._EXAMPLES)


def test_every_field_of_a_plan_is_a_key() -> None:
    assert {field.name for field in dataclasses.fields(Plan)} <= set(KEYS)
    assert TrainConfig(epochs=3, seed=5).plan == Plan(epochs=3, seed=5)


def test_yaml_takes_no_tag_that_makes_objects(tmp_path: Path) -> None:
    with pytest.raises(ZsadError):
        yaml_file.read(written(tmp_path, "a: !!python/object/apply:os.getcwd []"))


def test_a_single_value_stands_for_a_list_and_nothing_for_an_empty_one(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, "data: one\ntargets:\nswitches: {layers: 24, losses: global}\n"))
    assert (config.data, config.targets) == (("one",), ())
    assert config.switches == {"layers": (24,), "losses": ("global",)}


@pytest.mark.parametrize(
    ("word", "said"), [("seed=1" + 30 * "0", "a seed has 64 bits"), ("size=100000", "16384 at most")]
)
def test_numbers_out_of_range_are_refused_in_words(word: str, said: str) -> None:
    assert said in refused(words=(word,))


def test_text_with_line_breaks_of_any_kind_is_read_back(tmp_path: Path) -> None:
    made = TrainConfig(data=("\x85", "a\u2028b", "c\nd", "e\tf", "\ufeff", "ä b"))
    assert read_config(written(tmp_path, made.to_yaml())) == made
