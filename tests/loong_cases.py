"""Small records of Loong, one for each form of gold answer; for the tests of its scores."""

from qwenlong_trl.loong.records import LoongRecord


EN = ("HARTE HANKS INC", "Coyni, Inc.", "Aspira Women's Health Inc.", "BROADWAY FINANCIAL CORP \\DE\\", "CLEARONE INC")
ZH = ("迈克生物", "倍加洁", "盾安环境", "楚天科技")
PAPER_FILES = ("1.md", "2.md", "3.md")
CASES = ("张某借款合同纠纷判决书", "李某行政裁定书", "王某刑事裁定书", "赵某执行裁定书")


def loong_record(answer, level, domain="financial", question="", doc=EN, language="en", id="0"):
    template = "{docs}\n\n{instruction}\n\n{question}"
    return LoongRecord(id, 1, level, domain, language, 20_000, question, "Answer.", template, doc, answer, True)


AMOUNT = loong_record("$(0.91)", 1, question="What is the Basic Earnings Per Share of HARTE HANKS INC?")
THOUSANDS = loong_record("$10,135 in thousands", 1, question="What are the administrative expenses of CLEARONE INC?")
AMOUNT_ZH = loong_record("-60,561,503.12", 1, question="迈克生物的其他综合收益是多少？", doc=ZH, language="zh")
COUNT = loong_record("3 companies", 2, question="How many companies have a 'Net Profit' exceeding $100,000?")
NONE = loong_record("None", 2, question="How many companies have a 'Net Profit' exceeding $500,000?")
COUNT_ZH = loong_record("2", 2, question="请回答 '存货' 在 1,000,000,000 元以上的公司数量？", doc=ZH, language="zh")
NAME = loong_record("HARTE HANKS INC", 2, question="Which company has the highest 'Total Assets'?")
NAME_ZH = loong_record("迈克生物", 2, question="请回答 '非流动资产合计' 最高的公司是哪一个？", doc=ZH, language="zh")
SPOT_NAME = loong_record("CLEARONE INC", 1, question="What is the name of the company with payables of $2,181?")
NAMES_ZH = loong_record(
    "盾安环境, 楚天科技", 2, question="请回答 '应付账款' 在 1 到 2 之间的公司名称？", doc=ZH, language="zh"
)
ORDERED_ZH = loong_record(
    "(倍加洁: 11,078,142.33), (迈克生物: 21,428,623.41), (盾安环境: 40,638,256.54)",
    *(2, "financial", "请按递增顺序列举上述每个公司 '收到的税费返还'？", ZH, "zh"),
)
ORDERED_VALUES = loong_record(["4,002.00", "7,301.34元", "82,130.68"], 2, question="请按递增顺序列举", doc=ZH)
ORDERED_NAMES = loong_record("倍加洁, 迈克生物, 盾安环境", 2, question="请按顺序列举上述每个公司 '股票简称'？", doc=ZH)
CASE = loong_record("《判决文书3》", 1, "legal", "案由是'渎职罪'的判决文书是哪一篇?", CASES, "zh")
CASES_SET = loong_record(
    "《判决文书2》，《判决文书3》", 2, "legal", "以上所有判决文书中，案由是'渎职罪'的是哪些?", CASES, "zh"
)
CASES_ORDERED = loong_record(
    "《判决文书1》，《判决文书3》，《判决文书4》", 2, "legal", "请按原文顺序作答", CASES, "zh"
)
GROUPS = loong_record(
    {"high assets": ["HARTE HANKS INC", "Coyni, Inc."], "low assets": ["Aspira Women's Health Inc."], "no assets": []},
    *(3, "financial", "Please categorize the companies."),
)
GROUPS_ZH = loong_record({"高利润": ["迈克生物"], "负利润": ["倍加洁", "盾安环境"]}, 3, doc=ZH, language="zh")
NO_ITEMS = loong_record({"high": [], "low": ["None"]}, 3)
CLASSES = loong_record(
    {
        "合同，无因管理，不当得利纠纷": ["《判决文书1》"],
        "行政主体-民政行政管理（民政）": ["《判决文书2》", "《判决文书3》"],
    },
    *(3, "legal", "进行分类", CASES, "zh"),
)
PAPERS = loong_record(
    {
        "Reference": ["# TinyLlama: An Open-Source Small Language Model "],
        "Citation": ["# Lory: Fully Differentiable, [MoE] "],
    },
    *(3, "paper", "OpenMoE", PAPER_FILES),
)
UNCITED = loong_record({"Reference": ["# TinyLlama: A Model "], "Citation": []}, 3, "paper", "OpenMoE", PAPER_FILES)
CHAIN = loong_record(["# A Study, of One ", '# (3) Two: "Three" ', "# HuBERT "], 4, "paper", "", PAPER_FILES)
LOST_TITLE = loong_record(["# A Study ", "", "# HuBERT "], 4, "paper", "", PAPER_FILES)
LINKS = loong_record(
    {
        "《判决文书1》": "判决结果2",
        "《判决文书2》": "判决结果4",
        "《判决文书3》": "判决结果1",
        "《判决文书4》": "判决结果12",
    },
    *(4, "legal", "我将给你若干份判决结果", CASES, "zh"),
)
SOLITAIRE = loong_record(
    {"渎职罪": "《判决文书2》", "劳动争议，人事争议": "《判决文书1》"}, 4, "legal", "排序", CASES, "zh"
)
DELAWARE = loong_record({"high": ["BROADWAY FINANCIAL CORP \\DE\\", "Coyni, Inc."]}, 3)
