import pytest
import yaml

import foreign
from unisd.errors import UsageError
from unisd.mechanisms import known
from unisd.training.runfile import (
    all_groups,
    assemble,
    differences,
    dumped,
    load_recipe,
    merge,
    model_presets,
    parse_override,
    read_run_file,
    recipe_names,
)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_complete_and_valid(name, tmp_path):
    settings = assemble(name)
    assert settings.description
    config = settings.config(tmp_path / "out")
    assert config.rollout.max_completion_length == {"quickstart": 28, "quickstart_cos_e": 40}.get(name, 1024)


def test_table_rows_have_recipes():
    table = {"sft", "sdft", "gkd", "ssd", "opsd", "core", "agreement_token", "agreement_sequence", "ema", "contrast"}
    table |= {"match_joint", "match_representation", "clip"}
    assert table | {"unisd", "paper_unisd_star"} <= set(recipe_names())
    assert {f"paper_{name}" for name in table} <= set(recipe_names())


def test_paper_values():
    star = load_recipe("paper_unisd_star")
    assert star["agreement"] == {"granularity": "token", "gamma": 0.001, "statistic": "variance"}
    assert star["contrast"] == {"weight": 0.01, "margin": 0.1}
    assert star["features"]["weight"] == 0.01
    assert star["teacher"] == {"kind": "ema", "decay": 0.98, "every": 10}
    assert star["training"]["per_device_train_batch_size"] == 8
    assert star["training"]["learning_rate"] == 2e-5
    assert "clip" not in star["divergence"]
    assert "clipping" not in star
    assert star["lora"] == {"r": 64, "alpha": 128, "dropout": 0.05}


def test_six_models_of_three_families_keep_the_batch():
    names = [p["name"] for p in model_presets().values()]
    assert sum("Qwen2.5" in n for n in names) == 4
    assert any("Llama-3.1-8B" in n for n in names)
    assert any("gemma-3-4b" in n for n in names)
    for name in names:
        training = assemble("paper_core", given={"model": {"name": name}}).training
        assert training["per_device_train_batch_size"] * training.get("gradient_accumulation_steps", 1) == 16
    star = assemble("paper_unisd_star", given={"model": {"name": "qwen2.5-7b"}})
    assert star.model.name == "Qwen/Qwen2.5-7B-Instruct"
    assert star.training["per_device_train_batch_size"] == 8


def test_overrides_are_read_as_yaml():
    assert parse_override("training.bf16=False") == {"training": {"bf16": False}}
    assert parse_override("training.learning_rate=1e-4") == {"training": {"learning_rate": 1e-4}}
    assert parse_override("training.save_strategy=no") == {"training": {"save_strategy": "no"}}
    assert parse_override("task.limit=null") == {"task": {"limit": None}}
    assert parse_override("model.name=a=b") == {"model": {"name": "a=b"}}


def test_rank_of_values(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("recipe: ema\nteacher: {decay: 0.5}\ntraining: {learning_rate: 1e-3, max_steps: 7}\n")
    settings = assemble(None, file, ["teacher.every=4"], {"task": {"source": "sample"}})
    assert settings.groups["teacher"] == {"kind": "ema", "decay": 0.5, "every": 4}
    assert settings.training["learning_rate"] == 1e-3
    assert settings.task.source == "sample"


@pytest.mark.parametrize(
    ("recipe", "overrides", "named"),
    [
        ("unisdd", [], "unknown recipe 'unisdd'; did you mean 'unisd'"),
        ("_paper", ["x.y=1"], "unknown settings group 'x'"),
        ("core", ["teecher.kind=ema"], "did you mean 'teacher'"),
        ("core", ["teacher.kindd=ema"], "did you mean 'kind'"),
        ("core", ["teacher"], "group.field=value"),
        ("core", ["teacher.kind=[ema"], "not YAML"),
        ("core", ["training.learning_rat=1"], "did you mean 'learning_rate'"),
        ("core", ["training.learning_rate=fast"], "not a number"),
        ("core", ["training.bf16=maybe"], "not true or false"),
        ("core", ["training.teacher=1"], "training.teacher: no such setting"),
        ("core", ["training.output_dir=x"], "training.output_dir: no such setting"),
        ("core", ["lora.r=0"], r"lora\.r"),
        ("core", ["lora.target_modules=[1]"], "lora.target_modules: 1 is not a text"),
        ("core", ["lora.target_modules=1"], "lora.target_modules: 1 is not a list or a text"),
        ("core", ["lora.target_parameters=[w]"], "lora.target_parameters: PEFT has no dropout for them"),
        ("core", ["model.fast=on"], "model.fast: 'on' is not one of auto, off"),
        ("core", ["divergence.clip=0"], r"divergence.clip \(now clipping.cap\): 0 is not allowed"),
        ("core", ["divergence.clip=1", "clipping.cap=2"], "its name is clipping.cap now"),
        ("_nothing", [], "unknown recipe"),
        ("core", ["task.limit=0"], r"task\.limit"),
        ("core", ["model.name=5"], r"model\.name"),
    ],
)
def test_bad_words_are_named(recipe, overrides, named):
    with pytest.raises(UsageError, match=named) as raised:
        assemble(recipe, overrides=overrides)
    assert "\n" not in str(raised.value)


def test_broken_run_files(tmp_path):
    file = tmp_path / "run.yaml"
    with pytest.raises(UsageError, match="cannot read"):
        assemble(file=file)
    file.write_text("teacher: [1, 2\nlora: 3")
    with pytest.raises(UsageError, match="line"):
        assemble(file=file)
    file.write_text("- a\n- b\n")
    with pytest.raises(UsageError, match="mapping"):
        assemble(file=file)
    for name in all_groups():
        file.write_text(f"{name}: 3\n")
        with pytest.raises(UsageError, match=f"{name}: a group"):
            assemble(file=file)
    file.write_text("recipe: [core]\n")
    with pytest.raises(UsageError, match="unknown recipe"):
        assemble(file=file)


def test_plain_settings_make_the_same_settings_again(tmp_path):
    settings = assemble("unisd", overrides=["teacher.decay=0.7"])
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings.plain()))
    assert assemble(file=file) == settings


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_written_is_read_back(name, tmp_path):
    settings = assemble(name, given={"model": {"name": "qwen2.5-7b"}})
    values = settings.opened(tmp_path)[1]
    file = tmp_path / "config.yaml"
    file.write_text(dumped(values))
    again = assemble(file=file)
    assert again.opened(tmp_path)[1] == values
    assert again.groups == settings.groups
    assert (again.task, again.model, again.lora, again.recipe) == (settings.task, settings.model, settings.lora, name)


def test_the_first_difference_is_named(tmp_path):
    kept, asked = (assemble("ema", overrides=[text]) for text in ("teacher.decay=0.8", "teacher.decay=0.7"))
    values = [settings.opened(tmp_path)[1] for settings in (kept, asked)]
    assert next(differences(*values)) == ("teacher.decay", 0.8, 0.7)
    assert list(differences(values[0], values[0] | {"versions": {}, "recipe": None})) == []


def test_all_linear(tmp_path):
    settings = assemble("core", overrides=["lora.target_modules=all-linear"])
    assert settings.lora.peft_config().target_modules == "all-linear"


def test_a_field_is_replaced_whole():
    words = {"contexts": {"words": {"gold": {"after": "a"}}, "count": 2}}
    assert merge(words, {"contexts": {"words": {}}}) == {"contexts": {"words": {}, "count": 2}}


def test_runs_with_earlier_names_go_on(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("recipe: unisd\ndivergence: {kind: jsd, clip: null, clip_quantile: 0.9}\n")
    assert read_run_file(file)["clipping"] == {"cap": None, "quantile": 0.9}
    assert assemble(file=file).groups["clipping"] == {"cap": None, "quantile": 0.9}
    assert assemble("unisd").groups["clipping"] == {"cap": 4.0, "quantile": None}
    assert assemble("unisd", overrides=["divergence.clip=2"]).groups["clipping"]["cap"] == 2.0
    assert assemble("unisd", overrides=["divergence.clip=null"]).groups["clipping"]["cap"] is None


def test_a_mechanism_of_another_package(tmp_path):
    file = tmp_path / "run.yaml"
    with foreign.registered():
        settings = assemble("core", overrides=["patience.strength=2"])
        assert settings.groups["patience"] == {"strength": 2.0}
        file.write_text(dumped(settings.opened(tmp_path)[1]))
        assert assemble(file=file).groups["patience"] == {"strength": 2.0}
        assert assemble("core", overrides=["calmness.level=3"]).groups["patience"] == {"strength": 3.0}
        assert assemble("core", overrides=["calmness.level=null"]).groups["patience"] == {"strength": 0.0}
    with pytest.raises(UsageError, match="unknown settings group 'patience'"):
        assemble(file=file)


def test_a_recipe_without_mechanisms_names_none():
    assert not set(load_recipe("core")) & set(known())


def test_a_run_is_found_from_any_folder(tmp_path, monkeypatch):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "model", project / "rows", elsewhere):
        folder.mkdir(parents=True)
    (project / "task.yaml").touch()
    given = {"task": {"name": "task.yaml", "source": "rows"}, "model": {"name": "./model"}}
    monkeypatch.chdir(project)
    file = tmp_path / "config.yaml"
    file.write_text(dumped(assemble("core", given=given).opened(tmp_path)[1]))
    assert assemble(file=file).task.name == "task.yaml"
    monkeypatch.chdir(elsewhere)
    found = assemble(file=file)
    assert (found.task.name, found.task.source) == (str(project / "task.yaml"), str(project / "rows"))
    assert found.model.name == str(project / "model")
    for name in ("task.yaml", "rows"):  # moved with its project: what lies here comes first
        (elsewhere / name).touch()
    found = assemble(file=file)
    assert (found.task.name, found.task.source) == ("task.yaml", "rows")


def test_names_are_no_paths(tmp_path, monkeypatch):
    for name in ("cos_e", "sample", "smollm2-135m"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    settings = assemble("core", given={"task": {"source": "sample"}})
    assert "started_in" not in settings.opened(tmp_path)[1]
