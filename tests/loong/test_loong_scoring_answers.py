"""The structured score on answers as models write them: dressed up, in another order, with one missing, hedged."""

import json

import pytest
from loong_cases import (
    AMOUNT,
    AMOUNT_ZH,
    CASE,
    CASES_ORDERED,
    CASES_SET,
    CHAIN,
    CLASSES,
    COUNT,
    COUNT_ZH,
    DELAWARE,
    EN,
    GROUPS,
    GROUPS_ZH,
    LINKS,
    LOST_TITLE,
    NAME,
    NAME_ZH,
    NAMES_ZH,
    NO_ITEMS,
    NONE,
    ORDERED_NAMES,
    ORDERED_VALUES,
    ORDERED_ZH,
    PAPERS,
    SOLITAIRE,
    SPOT_NAME,
    THOUSANDS,
    UNCITED,
)

from qwenlong_trl.loong.scoring import structured_score


PREDICTIONS = [
    # One amount.
    (AMOUNT, "$(0.91)", 100),
    (AMOUNT, "-0.91", 100),
    (AMOUNT, "The Basic Earnings Per Share of Harte Hanks, Inc. is **-$0.91** as of March 31, 2024.", 100),
    (AMOUNT, "<think>Maybe $5?</think>\nThe answer is ($0.91).", 100),
    (AMOUNT, r"\boxed{-0.91}", 100),
    (AMOUNT, "HARTE HANKS reports a basic loss per share of $0.91.", 100),
    (AMOUNT, "For Q1 2024, the 10-Q of Harte Hanks states $(0.91) per share [2].", 100),
    (
        AMOUNT,
        "Harte Hanks lost money: $(0.91) per share, compared to $(0.52) in 2023. The Basic Earnings Per Share of "
        "Harte Hanks is therefore $(0.91).",
        100,
    ),
    (AMOUNT, "As of 31 March 2024 (2024-03-31, 3/31/2024): -0.91", 100),
    (AMOUNT, "Harte Hanks reported basic earnings per share of $(0.91), based on 7,200,000 shares.", 100),
    (AMOUNT, "$0.91", 0),
    (AMOUNT, "$(0.92)", 0),
    (AMOUNT, "$(0.91) or $(0.52)", 0),
    (AMOUNT, "- $(0.91)\n- $(0.52)\n- $0.19", 0),
    (AMOUNT, "The Basic Earnings Per Share of Harte Hanks is $(0.91). Or maybe it is $(0.52).", 0),
    (
        AMOUNT,
        "The Basic Earnings Per Share of HARTE HANKS is $(0.91). The Basic Earnings Per Share of HARTE HANKS is $1.",
        0,
    ),
    (AMOUNT, "It is not $(0.91).", 0),
    (AMOUNT, "<think>It is $(0.91)", 0),
    (AMOUNT, "", 0),
    (AMOUNT, "The statements do not say.", 0),
    (THOUSANDS, "10,135", 100),
    (THOUSANDS, "$10,135,000", 100),
    (THOUSANDS, "$10.135 million, i.e. $10,135 (in thousands)", 100),
    (THOUSANDS, "About $10.1 million", 100),
    (THOUSANDS, "About $10 million", 0),
    (THOUSANDS, "$10,140 thousand", 0),
    (THOUSANDS, "$10,135 million", 0),
    (AMOUNT_ZH, "迈克生物的其他综合收益为 -60,561,503.12元。", 100),
    (AMOUNT_ZH, "答案：（60,561,503.12）", 100),
    (AMOUNT_ZH, "-6056.15万元", 100),
    (AMOUNT_ZH, "根据2024年第一季度报告，迈克生物的其他综合收益为-60,561,503.12元，而倍加洁为5.00元。", 100),
    (AMOUNT_ZH, "根据2024年第一季度报告，迈克生物的其他综合收益为-60,561,503.12元；倍加洁为5.00元。", 100),
    (AMOUNT_ZH, "60,561,503.12", 0),
    # How many.
    (COUNT, "3", 100),
    (COUNT, "Three companies.", 100),
    (
        COUNT,
        "**3** companies have a Net Profit exceeding $100,000:\n1. Harte Hanks: $500,000\n2. Coyni: $200,000",
        100,
    ),
    (COUNT, "Two companies.", 0),
    (COUNT, "2 or 3 companies", 0),
    (COUNT, "1, 2, 3, 4", 0),
    (NONE, "None of the companies has a Net Profit exceeding $500,000.", 100),
    (NONE, "0", 100),
    (NONE, "1", 0),
    (COUNT_ZH, "存货在 1,000,000,000 元以上的公司有两家。", 100),
    (COUNT_ZH, "公司数量为3", 0),
    # One company.
    (NAME, "Harte Hanks, Inc.", 100),
    (NAME, '{"company": "HARTE HANKS INC"}', 100),
    (
        NAME,
        "Total assets:\n- Harte Hanks: $9\n- Coyni: $2\n\n"
        "The company with the highest total assets is **Harte-Hanks**.",
        100,
    ),
    (NAME, "Harte Hanks has the highest Total Assets, followed by Coyni and ClearOne.", 100),
    (NAME, "The answer is HARTE HANKS INC, not Coyni, Inc.", 100),
    (NAME, "Coyni, Inc.", 0),
    (NAME, "HARTE HANKS INC or Coyni, Inc.", 0),
    (NAME, "Harte Hanks has the highest total assets.\nThe answer is: Harte Hanks, Coyni", 0),
    (NAME, "Harte Hanks, Coyni, Aspira Women's Health, Broadway Financial, ClearOne", 0),
    (NAME, "The highest Total Assets: Harte Hanks. Perhaps it is Coyni.", 0),
    (NAME, "Harte Hanks has the highest total assets. Coyni has the highest total assets.", 0),
    (NAME, "Harte Hanks does not have the highest total assets.", 0),
    (NAME, "Apple Inc.", 0),
    (NAME_ZH, "非流动资产合计最高的公司是迈克生物。", 100),
    (NAME_ZH, "倍加洁：1元；迈克生物：3元；盾安环境：2元。因此，非流动资产合计最高的公司是**迈克生物**。", 100),
    (NAME_ZH, "迈克生物的非流动资产合计最高，其次是倍加洁。", 100),
    (NAME_ZH, "迈克生物、倍加洁", 0),
    (NAME_ZH, "最高的公司不是迈克生物。", 0),
    (SPOT_NAME, "The company with accounts payable of $2,181 is ClearOne.", 100),
    (SPOT_NAME, "$2,181", 0),
    # Any order.
    (NAMES_ZH, "楚天科技、盾安环境", 100),
    (NAMES_ZH, '["楚天科技", "盾安环境"]', 100),
    (NAMES_ZH, "符合条件的公司有盾安环境和楚天科技。\n倍加洁不在范围内。", 100),
    (NAMES_ZH, "倍加洁在，迈克生物不在。答案：盾安环境、楚天科技", 100),
    (NAMES_ZH, "盾安环境", 200 / 3),
    (NAMES_ZH, "盾安环境、楚天科技、迈克生物、倍加洁", 200 / 3),
    (NAMES_ZH, "没有", 0),
    (CASE, "《判决文书3》", 100),
    (CASE, "答案是：**判决文书3**。", 100),
    (CASE, "判决文书３", 100),
    (CASE, "《判决文书13》", 0),
    (CASE, "《判决文书3》或《判决文书4》", 200 / 3),
    (CASE, "不是《判决文书3》", 0),
    (CASES_SET, "《判决文书3》、《判决文书2》", 100),
    (CASES_SET, "```json\n['《判决文书2》', '《判决文书3》',]\n```", 100),
    (CASES_SET, "《判决文书1》，《判决文书2》，《判决文书3》，《判决文书4》", 200 / 3),
    (CASES_SET, "《判决文书3》", 200 / 3),
    # In order.
    (ORDERED_ZH, "倍加洁: 11,078,142.33元\n迈克生物: 21,428,623.41元\n盾安环境: 40,638,256.54元", 100),
    (ORDERED_ZH, '{"倍加洁": 11078142.33, "迈克生物": 21428623.41, "盾安环境": 40638256.54}', 100),
    (
        ORDERED_ZH,
        "| 公司 | 金额 |\n|---|---|\n| 倍加洁 | 1107.81万元 |\n| 迈克生物 | 2142.86万元 |\n| 盾安环境 | 4063.83万元 |",
        100,
    ),
    (ORDERED_ZH, "迈克生物: 21,428,623.41，倍加洁: 11,078,142.33，盾安环境: 40,638,256.54", 200 / 3),
    (ORDERED_ZH, "倍加洁: 11,078,142.33，盾安环境: 40,638,256.54", 200 / 3),
    (ORDERED_ZH, "倍加洁: 11,078,142.33，迈克生物: 5，盾安环境: 40,638,256.54", 200 / 3),
    (ORDERED_ZH, "倍加洁: 11,078,142.33，迈克生物: 21,428,623.41，盾安环境: 40,638,256.54，楚天科技: 50,000,000", 75),
    (
        ORDERED_ZH,
        "盾安环境: 40,638,256.54\n倍加洁: 11,078,142.33\n迈克生物: 21,428,623.41\n\n"
        "按递增顺序：倍加洁: 11,078,142.33，迈克生物: 21,428,623.41，盾安环境: 40,638,256.54",
        100,
    ),
    (ORDERED_ZH, "倍加洁、迈克生物、盾安环境", 0),
    (ORDERED_VALUES, "1. 4,002.00元\n2. 7,301.34元\n3. 82,130.68元", 100),
    (ORDERED_VALUES, "盾安环境: 4,002.00, 倍加洁: 7,301.34, 迈克生物: 82,130.68", 100),
    (ORDERED_VALUES, "82,130.68, 7,301.34, 4,002.00", 100 / 3),
    (ORDERED_NAMES, '["倍加洁", "迈克生物", "盾安环境"]', 100),
    (ORDERED_NAMES, "盾安环境、迈克生物、倍加洁", 100 / 3),
    (CASES_ORDERED, "《判决文书1》，《判决文书3》，《判决文书4》", 100),
    (
        CASES_ORDERED,
        "《判决文书1》是；《判决文书3》是；《判决文书4》是。答案：《判决文书1》、《判决文书3》、《判决文书4》",
        100,
    ),
    (CASES_ORDERED, "《判决文书2》不是。《判决文书1》、《判决文书3》和《判决文书4》是。", 100),
    (
        CASES_ORDERED,
        "看《判决文书1》、《判决文书3》；看《判决文书4》。按顺序：《判决文书1》，《判决文书3》，《判决文书4》",
        100,
    ),
    (CASES_ORDERED, "《判决文书4》，《判决文书3》，《判决文书1》", 100 / 3),
    (CASES_ORDERED, "《判决文书1》，《判决文书2》，《判决文书3》，《判决文书4》", 75),
    # Groups.
    (
        GROUPS,
        "{'high assets': ['Coyni, Inc.', 'Harte Hanks, Inc.'], 'low assets': ['Aspira Women's Health Inc.']}",
        100,
    ),
    (
        GROUPS,
        'So:\n```json\n{"High Assets (over $1)": ["Harte Hanks", "Coyni"], '
        '"Low assets": ["Aspira Women’s Health"]}\n```\n'
        "I hope this [1] helps.",
        100,
    ),
    (
        GROUPS,
        "**High assets** (over $1): Harte Hanks Inc., Coyni Inc.\n**Low assets:**\n- Aspira Women's Health\n"
        "**No assets:** None",
        100,
    ),
    (
        GROUPS,
        "| Group | Companies |\n|---|---|\n"
        "| High assets | HARTE HANKS INC, Coyni, Inc. |\n| Low assets | Aspira Womens Health |",
        100,
    ),
    (GROUPS, '{"high assets": ["HARTE HANKS INC"], "low assets": ["Aspira Women\'s Health Inc."]}', 80),
    (
        GROUPS,
        '{"high assets": ["HARTE HANKS INC", "Coyni, Inc.", "CLEARONE INC"], '
        '"low assets": ["Aspira Women\'s Health"]}',
        600 / 7,
    ),
    (GROUPS, json.dumps(dict.fromkeys(["high assets", "low assets", "no assets"], EN)), 100 / 3),
    (GROUPS, '{"low assets": ["HARTE HANKS INC", "Coyni, Inc."], "high assets": ["Aspira Women\'s Health Inc."]}', 0),
    (GROUPS, '{"high assets": [], "low assets": [], "no assets": []}', 0),
    (GROUPS, "{{{", 0),
    (
        GROUPS,
        '<think>{"high assets": ["HARTE HANKS INC", "Coyni, Inc."], "low assets": ["Aspira Women\'s Health Inc."]}',
        0,
    ),
    (DELAWARE, '{"high": ["Broadway Financial Corp \\DE\\", "Coyni"]}', 100),
    (DELAWARE, '{"high": ["Broadway Financial Corp", "Coyni"]}', 100),
    (GROUPS_ZH, "分类如下：\n高利润（100以上）：迈克生物\n负利润（0及0以下）：倍加洁、盾安环境", 100),
    (GROUPS_ZH, "{“高利润”：[“迈克生物”]，“负利润”：[“倍加洁”，“盾安环境”]}", 100),
    (GROUPS_ZH, '[{"高利润": "迈克生物"}, {"负利润": "倍加洁, 盾安环境"}]', 100),
    (GROUPS_ZH, '{"高利润": ["迈克生物", "迈克生物"], "负利润": ["倍加洁", "盾安环境"]}', 100),
    (NO_ITEMS, '{"high": [], "low": []}', 100),
    (NO_ITEMS, '{"high": ["HARTE HANKS INC"], "low": []}', 0),
    (NO_ITEMS, "nothing", 0),
    (
        CLASSES,
        "{'合同，无因管理，不当得利纠纷': ['《判决文书1》'], "
        "'行政主体-民政行政管理（民政）': ['判决文书2', '判决文书3']}",
        100,
    ),
    (CLASSES, "合同，无因管理，不当得利纠纷：《判决文书1》\n行政主体-民政行政管理：《判决文书2》、《判决文书3》", 100),
    (
        CLASSES,
        '{"合同，无因管理，不当得利纠纷": ["《判决文书1》", "《判决文书2》"], '
        '"行政主体-民政行政管理（民政）": ["《判决文书3》"]}',
        200 / 3,
    ),
    (
        PAPERS,
        '{{"Refernce": ["TinyLlama: An Open-Source Small Language Model"], '
        '"Citation": ["Lory: Fully Differentiable, [MoE]"]}}',
        100,
    ),
    (
        PAPERS,
        '{"Reference": ["TinyLlama - An open-source small language model."]}, '
        '{"Citations": ["Lory: Fully Differentiable, [MoE]",]}',
        100,
    ),
    (
        PAPERS,
        "### References:\n1. TinyLlama: An Open-Source Small Language Model\n"
        "### Citations:\n1. Lory: Fully Differentiable, [MoE]",
        100,
    ),
    (PAPERS, '{"Reference": ["Lory: Fully Differentiable, [MoE]"], "Citation": []}', 0),
    (UNCITED, '{"Reference": ["TinyLlama: A Model"], "Citation": ["N/A"]}', 100),
    (UNCITED, '{"Reference": ["TinyLlama: A Model"]}', 100),
    (UNCITED, '{"Reference": ["TinyLlama: A Model"], "Citation": ["TinyLlama: A Model"]}', 200 / 3),
    # Chains.
    (CHAIN, '["A Study, of One", "(3) Two: \\"Three\\"", "HuBERT"]', 100),
    (CHAIN, "['A Study, of One', '(3) Two: \"Three\"', 'HuBERT']", 100),
    (CHAIN, 'The chain is:\n```python\n["A Study, of One", "(3) Two: "Three"", "HuBERT",]\n```', 100),
    (CHAIN, '{"chain": ["A Study, of One", "(3) Two: Three", "HuBERT"]}', 100),
    (CHAIN, "The chain:\n1. A Study, of One\n2. (3) Two: Three\n3. HuBERT", 100),
    (CHAIN, "The chain is:\n\nA Study, of One -> (3) Two: Three -> HuBERT", 100),
    (CHAIN, '["HuBERT", "(3) Two: Three", "A Study, of One"]', 100 / 3),
    (CHAIN, '["A Study, of One", "HuBERT"]', 200 / 3),
    (CHAIN, '["A Study, of One", "(3) Two: Three", "HuBERT", "Other"]', 75),
    (CHAIN, "[]", 0),
    (LOST_TITLE, '["A Study", "Whatever It Was", "HuBERT"]', 100),
    # Mappings.
    (
        LINKS,
        '{"《判决文书1》":"判决结果2","《判决文书2》":"判决结果4","《判决文书3》":"判决结果1","《判决文书4》":"判决结果12"}',
        100,
    ),
    (LINKS, "{'判决文书1': '2', '判决文书2': '4', '判决文书3': '1', '判决文书4': '12'}", 100),
    (
        LINKS,
        "《判决文书1》：判决结果2\n《判决文书2》：判决结果4\n"
        "- 《判决文书3》 -> 判决结果1\n| 《判决文书4》 | 判决结果12 |",
        100,
    ),
    (
        LINKS,
        '{"《判决文书1》":"判决结果2","《判决文书2》":"判决结果1","《判决文书3》":"判决结果4","《判决文书4》":"判决结果12"}',
        50,
    ),
    (LINKS, '{"《判决文书1》":"判决结果2","《判决文书2》":"判决结果4"}', 50),
    (
        LINKS,
        '{"《判决文书1》":"判决结果2","《判决文书2》":"判决结果4","《判决文书3》":"判决结果1","《判决文书4》":"判决结果12",'
        '"《判决文书5》":"判决结果5"}',
        80,
    ),
    (
        LINKS,
        '{"《判决文书1》":["判决结果1","判决结果2"],"《判决文书2》":"判决结果4","《判决文书3》":"判决结果1","《判决文书4》":"判决结果12"}',
        75,
    ),
    (LINKS, '{"《判决文书1》":"判决结果1","《判决文书1》":"判决结果2"}', 0),
    (SOLITAIRE, '{"渎职罪":"《判决文书2》", "劳动争议，人事争议":"《判决文书1》"}', 100),
    (SOLITAIRE, "渎职罪：《判决文书2》；劳动争议，人事争议：《判决文书1》", 100),
    (SOLITAIRE, '{"渎职罪":"《判决文书1》", "劳动争议，人事争议":"《判决文书2》"}', 0),
]


@pytest.mark.parametrize(("record", "prediction", "expected"), PREDICTIONS)
def test_predictions_as_models_write_them(record, prediction, expected):
    verdict = structured_score(record, prediction)
    assert verdict.score == pytest.approx(expected)
    assert verdict.exact == (expected == 100)
