"""YAML becomes plain values, or one line that says what is wrong and where."""

import math

import pytest

from offramp.errors import UserError
from offramp.plain_yaml import parse_yaml

BOMB = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("off", "off"),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("0x10", 16),
        (str(2**63 - 1), 2**63 - 1),
        ("1e400", math.inf),
        ("2001-01-01", "2001-01-01"),
        ("=", "="),
        ("'\\ud800'", "\\ud800"),
        ("{a: [1, {b: c}], 2: d}", {"a": [1, {"b": "c"}], 2: "d"}),
        ("a: &a [1, 2]\nb: *a\n", {"a": [1, 2], "b": [1, 2]}),
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}),
    ],
)
def test_plain_values(text, value):
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_fifty_lists_inside_each_other_are_not_too_deep():
    value = parse_yaml("[" * 50 + "x" + "]" * 50)
    for _ in range(50):
        (value,) = value
    assert value == "x"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1", "(line 1, column 3)"),
        ("a:\n  - b\n c", "(line 3"),
        ("0x_", "'0x_' is no int (line 1, column 1)"),
        ("lr: 0b_", "'0b_' is no int (line 1, column 5)"),
        ("!!int _", "'_' is no int"),
        ("!!int x", "'x' is no int"),
        ("!!int ''", "'' is no int"),
        ("!!bool x", "'x' is no bool"),
        ("!!float 0x", "'0x' is no float"),
        ("!!float _", "'_' is no float"),
        ("!!int [1]", "expected a scalar"),
        ("!!map x", "expected a mapping"),
        ("!!seq {a: 1}", "expected a sequence"),
        ("!!timestamp x", "'tag:yaml.org,2002:timestamp' is no plain value; write text"),
        ("!!timestamp 2001-01-01", "is no plain value"),
        ("!!omap", "is no plain value"),
        ("!!omap [a: 1]", "is no plain value"),
        ("!!set {a}", "is no plain value"),
        ("!!pairs [a: 1]", "is no plain value"),
        ("!!binary aGk=", "is no plain value"),
        ("!!python/object/apply:os.system ['true']", "is no plain value"),
        (f"!{'x' * 100_000} 1", "xxx..."),
        ("<<", "is no plain value"),
        ("{<<: 1}", "expected a mapping or list of mappings for merging"),
        ("{<<: [1, 2]}", "expected a mapping for merging"),
        ("{[1]: 2}", "unhashable key"),
        ("{a: 1, b: 2, a: 3}", "the key 'a' is there twice (line 1, column 14)"),
        ("a: {b: 1, 'b': 1}", "the key 'b' is there twice"),
        ("*a", "undefined alias"),
        ("&a [*a]", "more than 50 deep"),
        ("&a {x: *a}", "more than 50 deep"),
        ("a: 1\n--- \nb: 1", "single document"),
        ("9" * 5000, "9...9"),
        (f"-{'9' * 100}", "64 bits at most"),
        (f"0x{'f' * 5000}", "64 bits at most"),
        (str(2**63), "64 bits at most"),
        ("[" * 51 + "]" * 51, "more than 50 deep"),
        ("[" * 2000 + "]" * 2000, "more than 50 deep"),
        ("{a: " * 2000 + "}" * 2000, "more than 50 deep"),
        ("- " * 3000, "more than 50 deep"),
        ("[" * 500_000, "more than 50 deep"),
        ("a\0b", "#x0000"),
        ("a\x1bb", "#x001b"),
        ("a\udcffb", "#xdcff"),
        (r'"a\0b"', "a character that no text can have"),
        (r'"\ud800"', "a character that no text can have"),
        (r'{"\ud800": 1}', "a character that no text can have"),
        ("%YAML 9.9\n---\n1", "version"),
        ("\t- a", "not YAML"),
        ("%", "not YAML"),
        ("x" * (2**20 + 1), "characters are too many"),
        (BOMB, "by aliases without end"),
        (f"a: 1\nb: &b {'x' * 1000}\nc: [{'*b,' * 1000}]", "by aliases without end"),
        (MERGES, "by aliases without end"),
    ],
)
def test_what_is_refused(text, says):
    with pytest.raises(UserError) as caught:
        parse_yaml(text)
    line = str(caught.value)
    assert says in line
    assert "\n" not in line and len(line) < 500
