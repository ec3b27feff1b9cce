"""Arms: designs over the components by which two recipes differ, and equal work for all."""

import pytest

from unisd.errors import UsageError
from unisd.studies.arms import check_equal_work, components, study_arms

PARTS = set(components("core", "unisd"))
MORE = {"task": {"name": "cos_e", "source": "sample"}, "training": {"seed": 0}}


def named(study):
    return {arm.name: arm for arm in study_arms(study)}


def test_components_are_the_groups_in_which_recipes_differ():
    assert len(PARTS) == 5
    with pytest.raises(UsageError, match="no component"):
        components("core", "core")


@pytest.mark.parametrize(
    ("designs", "sizes"),
    [
        (["one-at-a-time"], {0: 1, 1: 5}),
        (["leave-one-out"], {4: 5, 5: 1}),
        (["pairs"], {0: 1, 1: 5, 2: 10}),
        (["factorial"], {0: 1, 1: 5, 2: 10, 3: 10, 4: 5, 5: 1}),
        (["one-at-a-time", "leave-one-out"], {0: 1, 1: 5, 4: 5, 5: 1}),
    ],
)
def test_designs_are_subsets_of_components(small, designs, sizes):
    arms = named(small(designs=designs)).values()
    counts = {size: sum(len(arm.components) == size for arm in arms) for size in range(6)}
    assert {size: count for size, count in counts.items() if count} == sizes
    assert len({arm.components for arm in arms}) == len(arms)


def test_a_component_is_on_where_it_is_named_and_off_elsewhere(small):
    arms = named(small(designs=["one-at-a-time", "leave-one-out"]))
    plain, whole = (arms[name].settings(MORE).plain() for name in ("core", "unisd"))
    for part in PARTS:
        one, rest = (arms[name].settings(MORE).plain() for name in (f"core+{part}", f"unisd-{part}"))
        assert one[part] == whole[part] != plain[part] == rest[part]
        assert all(one[other] == plain[other] and rest[other] == whole[other] for other in PARTS - {part})


def test_own_arms_settings_and_seeds(small):
    arms = named(small(arms={"mixed": {"set": {"rollout": {"source": "mix"}}, "seeds": [5]}, "sft": {"recipe": "sft"}}))
    assert arms["mixed"].seeds == (5,)
    assert arms["mixed"].settings(MORE).plain()["rollout"]["source"] == "mix"
    assert arms["mixed"].settings(MORE).plain()["rollout"]["max_completion_length"] == 8  # the study's own stays
    assert arms["sft"].seeds == (0, 1)


def test_an_arm_of_a_design_may_have_other_seeds(small):
    arms = named(small(designs=["one-at-a-time", "leave-one-out"], arms={"unisd": {"seeds": [0, 1, 2]}, "core": None}))
    assert arms["unisd"].seeds == (0, 1, 2)
    assert arms["unisd"].components == PARTS
    assert arms["core"].seeds == (0, 1)


def test_a_sweep_is_an_arm_for_each_value(small):
    study = small(designs=[{"sweep": "teacher.kind", "values": ["frozen", "ema"]}], arms=None)
    assert [arm.name for arm in study_arms(study)] == ["core teacher.kind=frozen", "core teacher.kind=ema"]


def test_a_sweep_of_what_is_work_is_allowed_to_differ_in_that_alone(small):
    sweep = {"sweep": "training.learning_rate", "values": [0.1, 0.2]}
    study = small(designs=[sweep])
    check_equal_work(study, study_arms(study), MORE)
    study = small(designs=[sweep], arms={"longer": {"set": {"training": {"max_steps": 3}}}})
    with pytest.raises(UsageError, match=r"training\.max_steps: 2 in .*, 3 in longer"):
        check_equal_work(study, study_arms(study), MORE)


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("training", "max_steps", 3),
        ("training", "learning_rate", 0.5),
        ("training", "per_device_train_batch_size", 4),
        ("lora", "r", 8),
        ("task", "limit", 4),
        ("rollout", "max_completion_length", 9),
        ("contexts", "max_prompt_length", 1400),
    ],
)
def test_unequal_work_is_refused_with_the_setting_and_both_values(small, group, field, value):
    more = {**MORE, "task": {"name": "cos_e"}}
    arms = {"other": {"set": {group: {field: value}}}}
    study = small(arms=arms)
    with pytest.raises(UsageError, match=rf"{group}\.{field}: .* {value} in other; .*differ") as refused:
        check_equal_work(study, study_arms(study), more)
    assert "\n" not in str(refused.value)
    study = small(arms=arms, differ=[f"{group}.{field}"])
    check_equal_work(study, study_arms(study), more)


def test_steps_have_to_be_said(small):
    study = small(settings={"training": {"per_device_train_batch_size": 2}})
    with pytest.raises(UsageError, match="how many steps"):
        check_equal_work(study, study_arms(study), MORE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"designs": []}, "no arm"),
        ({"arms": {"core": {"recipe": "sft"}}}, "two arms are called 'core'"),
        ({"full": "core"}, "differ in no group"),
    ],
)
def test_arms_that_cannot_be(small, changes, said):
    with pytest.raises(UsageError, match=said):
        study_arms(small(**changes))


def test_a_wrong_setting_names_its_arm(small):
    study = small(arms={"odd": {"set": {"rollout": {"source": "nowhere"}}}})
    with pytest.raises(UsageError, match=r"arm odd: .*nowhere"):
        check_equal_work(study, study_arms(study), MORE)
