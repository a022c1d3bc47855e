import json
import math

from offramp.plain_json import plain_json


def test_what_is_no_number_is_null():
    document = {"metrics": [1.5, math.nan, (math.inf, 2)], "name": "NaN", "none": None}
    text = plain_json(document, indent=1)
    assert json.loads(text, parse_constant=lambda word: 1 / 0) == {
        "metrics": [1.5, None, [None, 2]],
        "name": "NaN",
        "none": None,
    }
