from typing import Literal

import pytest

from unisd.errors import UsageError
from unisd.settings import Documented, Field, build, check_field, documented, group, plain, unknown


@group
class Sample:
    """A sample."""

    size: int = Field(default=1, ge=1)
    """How large it
    is."""
    share: float | None = Field(default=None, gt=0, lt=1)
    names: list[str] | Literal["all"] = Field(default_factory=lambda: ["a"])
    kind: Literal["one", "two"] = "one"

    def __post_init__(self) -> None:
        if self.kind == "two" and self.size < 2:
            raise ValueError("two needs a size of 2 or more\nand no less")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"size": 0}, "sample.size: 0 is not allowed; use 1 or more"),
        ({"size": True}, "sample.size: True is not a whole number"),
        ({"size": 2.5}, "sample.size: 2.5 is not a whole number"),
        ({"size": None}, "sample.size: None is not a whole number"),
        ({"share": 1}, "sample.share: 1 is not allowed; use a value below 1"),
        ({"share": float("nan")}, "sample.share: nan is not allowed; use a"),
        ({"share": "half"}, "sample.share: 'half' is not a number"),
        ({"names": "some"}, "sample.names: 'some' is not a list or 'all'"),
        ({"names": ["a", 3]}, "sample.names: 3 is not a text"),
        ({"kind": "three"}, "sample.kind: 'three' is not one of one, two"),
        ({"sise": 3}, "sample.sise: no such setting; did you mean 'size'?"),
        ({"xyz": 3}, "sample.xyz: no such setting; choose one of size, share, names, kind"),
        ({"kind": "two"}, "sample: Value error, two needs a size of 2 or more"),
        ([1], "sample: a group of settings was expected, not [1]; write sample.field=value"),
        (None, "sample: a group of settings was expected, not None"),
    ],
)
def test_what_is_wrong_is_one_line(values, line):
    with pytest.raises(UsageError) as raised:
        build(Sample, values, "sample")
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_a_group_comes_back_and_is_checked_again():
    sample = build(Sample, {"share": 0.5, "names": "all"}, "sample")
    assert build(Sample, plain(sample), "sample") == sample
    sample.size = -1
    with pytest.raises(UsageError, match=r"sample\.size: -1"):
        build(Sample, sample, "sample")


def test_one_field_is_checked_alone():
    check_field(Sample, "kind", "two", "old.kind")
    with pytest.raises(UsageError, match=r"^old\.size \(now sample\.size\): 0 is not allowed; use 1 or more$"):
        check_field(Sample, "size", 0, "old.size (now sample.size)")


def test_documented():
    assert documented(Sample)[0] == Documented("size", 1, "How large it is.", "whole number, 1 or more")
    assert [field.kind for field in documented(Sample)[1:]] == [
        "number or null, above 0, below 1", "list or all", "one or two",
    ]  # fmt: skip
    assert documented(Sample)[2].default == ["a"]


def test_unknown_names_nearest_or_all():
    assert unknown("tow", ["one", "two"]) == "did you mean 'two'?"
    assert unknown("zzz", ["one", "two"]) == "choose one of one, two"
