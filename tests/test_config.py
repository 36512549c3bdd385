"""The configuration: one place for every setting; files, keywords and options agree; every mistake is one clear line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.calibration import Setup
from blemish.config import Config, ModelConfig, VocabularyConfig, settings
from blemish.errors import UnknownNameError, UsageError

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"

FULL = {
    "backbone": "tiny",
    "method": "faprompt",
    "prompts": "mine",
    "options": {"smoothing": 0.5, "deep_blocks": [2, 9]},
    "force": True,
    "engine": "torch",
    "device": "cuda:1",
    "precision": "half",
    "threads": 3,
    "compiled": True,
    "batch_size": 4,
    "vocabulary": "/data/parts.toml",
    "product": "lid",
    "input_px": 448,
    "compare_px": 640,
    "tiles": 512,
    "value_range": (0.0, "99%"),
    "max_megapixels": 50.0,
    "roi": "/data/roi.png",
    "ignore": "/data/ignore",
    "min_area_px": 30.0,
    "mm_per_px": 0.1,
    "threshold": 0.6,
    "pixel_threshold": 0.5,
    "calibration": "/data/calibration.json",
}


def written(folder: Path, text: str) -> Path:
    (folder / "line3.toml").write_text(text, encoding="utf-8")
    return folder / "line3.toml"


def test_a_file_holds_everything_that_keywords_can_say(tmp_path: Path) -> None:
    config = Config().with_settings(**FULL)
    assert Config.from_toml(written(tmp_path, config.to_toml())) == config
    others = {"defects": ("scratch", 'a "quoted" one'), "peers": "/data/parts"}
    assert {*FULL, *others, "references", "profile"} == set(settings())
    alone = ({"references": "/data/good"}, {"profile": "/data/part.blemish"})
    for config in (Config().with_settings(**values) for values in (others, *alone)):
        assert Config.from_toml(written(tmp_path, config.to_toml())) == config
    assert Config.from_dict(Config().with_settings(**FULL).to_dict()) == Config().with_settings(**FULL)


def test_an_empty_file_is_the_default() -> None:
    assert Config().to_toml() == ""
    assert Config.from_dict({}) == Config() == Config().with_settings()


texts = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20)


@given(texts, st.floats(0, 1), st.lists(texts, min_size=1, max_size=3))
def test_any_text_and_number_survives_the_file(text: str, number: float, names: list[str]) -> None:
    config = Config().with_settings(method=text, threshold=number, defects=names, options={text: [number, text]})
    import tomllib

    assert Config.from_dict(tomllib.loads(config.to_toml())) == config


def test_paths_in_a_file_are_meant_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    text = '[model]\nbackbone = "embedded"\nprompts = "prompts"\n[masks]\nroi = "roi.png"\nignore = "/data/ignore"\n'
    config = Config.from_toml(written(tmp_path, text))
    assert config.model.backbone == "embedded"  # a name: nothing of that name lies beside the file
    assert config.model.prompts == str(tmp_path / "prompts")
    assert (config.masks.roi, config.masks.ignore) == (str(tmp_path / "roi.png"), "/data/ignore")


def test_what_is_given_later_comes_first_and_takes_away_what_it_stands_instead_of() -> None:
    config = Config().with_settings(defects="scratch", threshold=0.6, pixel_threshold=0.5, options={"a": 1, "b": 2})
    assert config.with_settings(threshold=0.7).thresholds.threshold == 0.7
    assert config.with_settings(options={"b": 3}).model.options == {"a": 1, "b": 3}
    other = config.with_settings(vocabulary="parts.toml", calibration="c.json")
    assert other.vocabulary == VocabularyConfig(vocabulary="parts.toml")
    assert (other.thresholds.threshold, other.thresholds.pixel_threshold) == (None, None)
    assert config.with_settings(calibration="c.json", threshold=0.7).thresholds.threshold == 0.7
    assert config.with_settings(defects=None, batch_size=None) == config.with_settings(defects=None)
    assert config.with_settings(defects=None).vocabulary == VocabularyConfig()


def test_values_come_as_python_and_numpy_have_them() -> None:
    config = Config().with_settings(threshold=np.float32(0.5), roi=Path("roi.png"), value_range=[0, np.int64(9)])
    assert (config.thresholds.threshold, config.masks.roi) == (0.5, "roi.png")
    assert config.input.value_range == (0.0, 9.0)
    assert isinstance(config.thresholds.threshold, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threshold: 0.6", "is not TOML (Expected '='"),
        ("\xff\xfe", "is not TOML"),
        ("[modle]", "unknown table 'modle'; did you mean 'model'?"),
        ("[model]\nbackbon = 'x'", "unknown key of [model] 'backbon'; did you mean 'backbone'?"),
        ("tiles = 'auto'", "the key 'tiles' belongs into the table [input]"),
        ("[model]\ntiles = 'auto'", "the key 'tiles' belongs into the table [input], not [model]"),
        ("model = 3", "model must be a table, not 3"),
        ("[model]\nbatch_size = 'many'", "[model].batch_size must be of type int, not 'many'"),
        ("[model]\nforce = 1", "[model].force must be of type bool, not 1"),
        ("[input]\ntiles = [1]", "[input].tiles must be of type str or int, not [1]"),
        ("[input]\nvalue_range = [1]", "[input].value_range must have 2 entries"),
        ("[thresholds]\nthreshold = true", "[thresholds].threshold must be of type float, not True"),
        ("[vocabulary]\ndefects = 'a'\nvocabulary = 'b.toml'", "name the defects or give a vocabulary file, not both"),
        ("[vocabulary]\nproduct = 'lid'", "a product (lid) is one of a vocabulary file"),
        ("[references]\npeers = 'good'\n[input]\ntiles = 'auto'", "peers are compared with whole images"),
        ("[references]\nreferences = 'good'\n[input]\ntiles = 'auto'", "references are compared with whole images"),
        ("[references]\nreferences = 'good'\npeers = 'parts'", "unlabelled peers or with good references: leave one"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "line3.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        Config.from_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: the configuration cannot be read \(no such file"):
        Config.from_toml(tmp_path / "none.toml")


def test_a_wrong_keyword_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown setting 'treshold'; did you mean 'threshold'"):
        Config().with_settings(treshold=0.5)
    with pytest.raises(UsageError, match=r"\[model\].batch_size must be of type int, not 2.5"):
        Config().with_settings(batch_size=2.5)


def test_every_setting_that_decides_scores_is_in_the_setup_of_a_calibration() -> None:
    deciding = {setting.name for setting in settings().values() if setting.decides == "scores"}
    assert set(Setup.__dataclass_fields__) - {"model", "mean", "std", "deviation"} == deciding


def test_every_setting_has_a_help_text_and_an_option_of_its_own() -> None:
    found = list(settings().values())
    assert all(setting.help.endswith(".") for setting in found)
    assert len({setting.option for setting in found}) == len(found)


def test_configurations_are_values() -> None:
    assert ModelConfig() == ModelConfig(options={})
    with pytest.raises(AttributeError):
        Config().model.device = "cuda"  # type: ignore[misc]


@pytest.mark.parametrize("name", settings())
def test_the_page_lists_every_setting_in_the_words_of_its_help_text(name: str) -> None:
    setting = settings()[name]
    row = f"| `[{setting.table}]` | `{setting.name}` | `{setting.option}` | {setting.help} |"
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), f"docs/configuration.md lacks: {row}"


def test_the_example_of_the_page_is_a_configuration(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    config = Config.from_toml(written(tmp_path, example))
    assert config.input.value_range == (0.0, 4095.0)
    assert config.thresholds.calibration == str(tmp_path / "line3" / "calibration.json")
