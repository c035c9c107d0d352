"""Reading and comparing numbers."""

from decimal import Decimal

import pytest

from qwenlong_trl.rewards import parse_number
from qwenlong_trl.rewards.numbers import Number, numbers_match


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32.4", "32.4"),
        ("+32.4", "32.4"),
        ("-32.4", "-32.4"),
        ("−32.4", "-32.4"),
        ("– 32.4", "-32.4"),
        ("minus 32.4", "-32.4"),
        ("negative 32.4", "-32.4"),
        ("负32.4", "-32.4"),
        ("约-32.4", "-32.4"),
        ("(32.4)", "32.4"),
        ("(-32.4)", "-32.4"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1,234.5", "1234.5"),
        ("12,34,567", "1234567"),
        ("$1,234", "1234"),
        ("-$1,234", "-1234"),
        ("$-1,234", "-1234"),
        ("- $ 1,234", "-1234"),
        ("US$5", "5"),
        ("USD 5", "5"),
        ("USD5", "5"),
        ("€5", "5"),
        ("￥５", "5"),
        ("5元", "5"),
        ("about ~5", "5"),
        ("approximately $5 million", "5000000"),
        ("$5.5B", "5500000000"),
        ("3 thousand", "3000"),
        ("2bn", "2000000000"),
        ("3.2亿", "320000000"),
        ("5万元", "50000"),
        ("5M", "5000000"),
        ("5m", "5"),
        ("5 kg", "5"),
        ("3.24e1", "32.4"),
        ("3.24E+01", "32.4"),
        ("324e-1", "32.4"),
        ("3.24 × 10^1", "32.4"),
        ("3.24 x 10^(1)", "32.4"),
        ("3.24×10¹", "32.4"),
        ("324×10⁻¹", "32.4"),
        ("3.24*10**1", "32.4"),
        ("10^3", "1000"),
        ("it grew by 3.24 × 10^2", "324"),
        ("3 1/2", "3.5"),
        ("3 ½", "3.5"),
        ("3½", "3.5"),
        ("-1¼", "-1.25"),
        ("about $1,234 1/2 million", "1234500000"),
        ("for 2019 it was 2 3 / 4", "2.75"),
        ("5 + 27.4 = 32.4", "32.4"),
        ("x ≈ 32.4", "32.4"),
        ("32.4 (2019)", "32.4"),
        ("32.4 per 100 people", "32.4"),
        ("for 2019 it was 32.4", "32.4"),
        ("CO2: 32.4", "32.4"),
        ("Q3 revenue 32.4", "32.4"),
        ("COVID-19", "19"),
        ("9" * 40, "9" * 40),
    ],
)
def test_parse_number(text, value):
    assert parse_number(text).value == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "1.2.3",
        "1..2",
        "32,4",
        "1,23",
        "approximately 1.2.3 or 32.4",
        "km2",
        "a1,5",
        "10 or 32.4",
        "5-10",
        "5 to 10",
        "1, 2, 32.4",
        "10和32.4",
        "either 10 or 32.4",
        "1/2",
        "½",
        "3 5/2",
        "3 1/0",
        "2019 12/31",
        "3 1/2/2019",
        "3.5 1/2",
        "3 1/2 or 4",
        "not 32.4",
        "isn't 32.4",
        "2^5",
        "1e5.5",
        "5e9999",
        "1" * 401,
        "__import__('os')",
        "9**9**9",
    ],
)
def test_no_number(text):
    assert parse_number(text) is None


def test_percent_and_whole():
    assert parse_number("32.4 %") == Number(Decimal("32.4"), percent=True)
    assert parse_number("32.4 percent").percent and parse_number("百分之32.4").percent
    assert not parse_number("32.4 percentile").percent
    assert [parse_number(text).whole for text in ("2019", "1,234", "5.0", "5.5", "5e3", "5 million")] == [
        *(True, True, True),
        *(False, False, False),
    ]


def _match(left, right, **options):
    return numbers_match(parse_number(left), parse_number(right), **options)


@pytest.mark.parametrize(
    ("prediction", "gold", "same"),
    [
        ("6.45", "6.449123", True),
        ("32.44", "32.4", True),
        ("32.46", "32.4", False),
        ("0.0001", "0.0009", False),
        ("2018", "2019", False),
        ("2019.0", "2019", True),
        ("2018.9", "2019", True),
        ("0", "0.0", True),
        ("0.0001", "0", False),
        ("-0.5", "0.5", False),
        ("32.4%", "0.324", True),
        ("0.324", "32.4%", True),
        ("32.4%", "3240", False),
        ("0.324", "32.4", False),
        ("0.324%", "32.4%", False),
        ("1e400", "1e400", True),
        ("1e400", "1e-400", False),
    ],
)
def test_numbers_match(prediction, gold, same):
    assert _match(prediction, gold) is same


def test_scale_factors_are_opt_in_and_keep_the_sign():
    assert _match("0.324", "32.4", scale_factors=(100,)) and _match("3240", "32.4", scale_factors=(100,))
    assert not _match("0.0324", "32.4", scale_factors=(100, 1e6))
    assert not _match("-0.324", "32.4", scale_factors=(100,))
    assert _match("32.4", "$32.4 million", scale_factors=(1e6,))


def test_tolerance_can_be_set():
    assert not _match("32.44", "32.4", relative_tolerance=0)
    assert _match("33.0", "32.4", relative_tolerance=0.02)
