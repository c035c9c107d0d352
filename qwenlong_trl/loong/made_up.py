"""Small made-up records and documents of Loong's three domains, in the layout of the official release: to try things
out with, and for tests, as the documents of Loong have rights of their own.

```python
records = made_up(tmp_path)  # writes loong.jsonl and doc/ into the folder
documents = LoongDocuments(tmp_path / "doc")
```

Figures, papers and judgments are invented; templates and instructions have the shape of the real ones. No score
on them says anything about a model.
"""

from __future__ import annotations

import json
from pathlib import Path

from .records import LoongRecord


TEMPLATE = "{docs}\n\n{instruction}\n\n{question}"
TARGET_TEMPLATE = "#Papers:\n{docs}\n\n{instruction}\n\n#The paper you need to analyze:\n{question}"
CHAIN_TEMPLATE = "{instruction}\n\n#Papers Provided:\n{docs}"
READ_EN = "Answer the questions from the financial statements above alone. Ignore what they do not hold."
READ_ZH = "请仅根据以上财务报表回答问题。"
TITLES_ONLY = "仅根据上述看到的判决文书回答以下问题, 只需要给出符合条件的判决文书的标题即可。"
JUDGMENTS_ONLY = "仅根据上述看到的判决文书回答以下问题。"
CITATIONS = 'Tell which papers cite which, as JSON of titles: {{"Reference": ["..."], "Citation": ["..."]}}.'
CHAIN = 'Give the longest chain in which each paper cites the one before it, as a JSON list of titles: ["..."].'

# Company -> (file in financial/, sales, cash, shares). Names hold what a glob pattern would take for wildcards.
COMPANIES = {
    "North Lamp, Inc.": ("2024-North Lamp, Inc.-j.txt", "$412,350", "$18,900", "12,000,000"),
    "A [B] & SONS (NEW) CO'S": ("2024-A [B] & SONS (NEW) CO'S-j.txt", "$97,120", "$(3,450)", "48,500,000"),
    "RIVER MILL CORP": ("2024-RIVER MILL CORP-n.txt", "$1,205,777", "$64,031", "7,250,000"),
    "青木电器": ("report_000111-2024-青木电器-2024年一季度报告.txt", "1,432,023,304.19", "88,120.50", "310,000,000"),
    "远山食品": ("report_000222-2024-远山食品-2024年第一季度报告.txt", "95,310,077.00", "1,204,881.75", "42,000,000"),
    "河谷药业": ("report_600333-2024-河谷药业-2024年一季度报告.txt", "603,448,912.60", "-7,500.00", "150,000,000"),
}
PAPERS = {  # file -> title, titles of the papers that it cites
    "2101.00001.md": ("Counting Tokens at Dawn", ()),
    "2102.00002.md": ("Windows: A {Survey} of Long Contexts", ("Counting Tokens at Dawn",)),
    "2103.00003.md": ("Reading Two Books at Once", ("Windows: A {Survey} of Long Contexts",)),
    "2104.00004.md": ("On the Weight of Middle Pages", ()),
}
JUDGMENTS = {  # name -> content, verdict
    "张某与李某民间借贷纠纷民事一审民事判决书": (
        "原告张某诉称，被告李某于2021年3月借款五万元，到期未还。案由：民间借贷纠纷。经审理查明，借条与转账记录属实。",
        "一、被告李某于本判决生效之日起十日内偿还原告张某借款50000元；\n二、驳回原告张某的其他诉讼请求。",
    ),
    "王某与某镇人民政府行政登记行政二审行政判决书 (1)": (
        "上诉人王某不服某镇人民政府的土地登记行为。案由：行政行为-行政登记。经审理查明，登记程序未通知利害关系人。",
        "撤销某镇人民政府2020年7月2日作出的土地登记行为。",
    ),
    "某建筑公司与某材料公司买卖合同纠纷民事二审民事判...": (
        "双方于2019年签订钢材买卖合同，货款未结清。案由：合同纠纷。一审判决支付货款三十万元，被告不服提起上诉。",
        "驳回上诉，维持原判。二审案件受理费5800元，由某建筑公司负担。",
    ),
    "赵某玩忽职守再审审查刑事驳回申诉通知书": (
        "申诉人赵某称原判认定事实不清。案由：渎职罪。经复查，原判证据确实、充分，申诉理由不能成立。",
        "申诉不符合再审条件，予以驳回。",
    ),
}
LINKED = [2, 0, 3, 1]  # 判决结果1 belongs to the third judgment, 判决结果2 to the first, ...
VERDICTS = [list(JUDGMENTS.values())[i][1] for i in LINKED]


def made_up(folder: str | Path) -> list[LoongRecord]:
    """Writes `loong.jsonl` and `doc/` into `folder` and returns the records: each domain, level and language."""
    folder = Path(folder)
    write_documents(folder / "doc")
    records = [LoongRecord.from_dict(row) for row in rows()]
    lines = [json.dumps(record.to_dict(), ensure_ascii=False) for record in records]
    (folder / "loong.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return records


def write_documents(doc: Path) -> None:
    """`financial/*.txt`, `paper/*.md` and `legal/legal.json`."""
    for part in ("financial", "paper", "legal"):
        (doc / part).mkdir(parents=True)
    for name, (file, *figures) in COMPANIES.items():
        language = "zh" if file.startswith("report_") else "en"
        (doc / "financial" / file).write_text(report(name, "2024", figures, language), encoding="utf-8")
    for year, sales in (("2022", "$300,100"), ("2023", "$350,200"), ("2024", "$412,350")):
        text = report("North Lamp, Inc.", year, [sales, "$1,000", "12,000,000"], "en")
        (doc / "financial" / f"{year}-form10-k_north.txt").write_text(text, encoding="utf-8")
    text = report("青木电器", "2023", ["900,000,000.00", "1.00", "310,000,000"], "zh")
    (doc / "financial" / "report_000111-2023-青木电器-2023年一季度报告.txt").write_text(text, encoding="utf-8")
    for file, (title, cited) in PAPERS.items():
        (doc / "paper" / file).write_text(paper(title, cited), encoding="utf-8")
    judgments = {name: {"content": content, "result": result} for name, (content, result) in JUDGMENTS.items()}
    (doc / "legal" / "legal.json").write_text(json.dumps(judgments, ensure_ascii=False), encoding="utf-8")


def report(name: str, year: str, figures: list[str], language: str) -> str:
    sales, cash, shares = figures
    if language == "zh":
        notes = "".join(
            f"（{i}）{name}本期第{i}项附注：会计政策与上年度一致，未发生重大变更。\n" for i in range(1, 13)
        )
        table = f"|项目|本报告期|\n|---|---|\n|营业收入（元）|{sales}|\n|货币资金|{cash}|\n|总股本|{shares}|\n"
        return f"证券简称：{name}\n{year}年第一季度报告\n\n{table}\n{notes}"
    notes = "".join(f"Note {i}. {name} applied the same policies as in the year before.\n\n" for i in range(1, 13))
    return (
        f"UNITED STATES\n\nFORM 10-Q\n\n{name}\n\nFor the quarter ended March 31, {year}\n\n"
        f"Net sales: {sales}\n\nCash: {cash}\n\nShares outstanding: {shares}\n\n{notes}"
    )


def paper(title: str, cited: tuple[str, ...]) -> str:
    body = "".join(
        f"## {i} Part\n\nWe measure step {i} of {title.lower()} with {{n}} trials.\n\n" for i in range(1, 7)
    )
    references = "".join(f"[{i}] {one}. 2021.\n" for i, one in enumerate(cited, start=1))
    return f"# {title} \n\nA. Author, B. Author\n\n{body}## References\n\n{references}"


def rows() -> list[dict]:
    lamp, sons, mill, wood, food, drug = COMPANIES
    first, second, third, other = PAPERS
    title = {file: f"# {name} " for file, (name, _) in PAPERS.items()}
    judgments = list(JUDGMENTS)
    named = {f"判决结果{i}": verdict for i, verdict in enumerate(VERDICTS, start=1)}
    linked = {f"《判决文书{i + 1}》": f"判决结果{LINKED.index(i) + 1}" for i in range(len(judgments))}
    link = f"阅读以上判决文书，我将给你若干份判决结果：{named}，请为每份判决文书选出对应的判决结果。"
    causes = ["行政行为-行政登记", "渎职罪", "民间借贷纠纷", "合同纠纷"]
    return [
        financial("fin-en-1", 1, 1, "en", f"What are the net sales of {lamp}?", [lamp, sons], "$412,350"),
        financial("fin-en-2", 2, 2, "en", "Which company has the highest cash?", [sons, mill, lamp], mill),
        financial(
            *(
                "fin-en-2-ordered",
                1,
                2,
                "en",
                "Please list the 'Cash' of each of the aforementioned companies in order.",
            ),
            *([lamp, sons], f"'Cash' of {lamp}: $18,900; {sons}: $(3,450)", False),
        ),
        financial(
            *("fin-en-3", 2, 3, "en", "Group the companies by shares: high (10,000,000 and above), low (below)."),
            *([lamp, sons, mill], {"high": [lamp, sons], "low": [mill]}),
        ),
        financial(
            *("fin-en-4", 3, 4, "en", f"How did the net sales of {lamp} change from 2022 to 2024?"),
            *(["2022-form10-k_north", "2023-form10-k_north", "2024-form10-k_north"],),
            "The net sales rose from $300,100 in 2022 to $350,200 in 2023 and $412,350 in 2024.",
        ),
        financial("fin-zh-1", 1, 1, "zh", f"{wood}的营业收入是多少？", [wood, food], "1,432,023,304.19"),
        financial("fin-zh-2", 2, 2, "zh", "请回答 '货币资金' 最低的公司是哪一个？", [wood, food, drug], drug),
        financial(
            *("fin-zh-2-list", 4, 2, "zh", "哪些公司的 '营业收入' 高于 500,000,000.00？"),
            *([wood, food, drug], [wood, drug]),
        ),
        financial(
            *(
                "fin-zh-3",
                3,
                3,
                "zh",
                "请按照 '总股本' 划分公司：高(200,000,000以上)，中(100,000,000以上)，低(其余)。",
            ),
            *([food, wood, drug], {"高": [wood], "中": [drug], "低": [food]}),
        ),
        financial(
            *("fin-zh-4", 1, 4, "zh", f"从2023年到2024年，{wood}的‘营业收入’呈现什么样的变化趋势？"),
            *([f"{wood}-2023年一季度报告", f"{wood}-2024年一季度报告"],),
            "营业收入显著增加：2023年一季度为900,000,000.00元，2024年一季度为1,432,023,304.19元。",
        ),
        row(
            *(
                "paper-3",
                1,
                3,
                "paper",
                "en",
                PAPERS[second][0],
                CITATIONS,
                TARGET_TEMPLATE,
                [second, first, third, other],
            ),
            {"Reference": [title[first]], "Citation": [title[third]]},
        ),
        row(
            *("paper-4", 2, 4, "paper", "en", "", CHAIN, CHAIN_TEMPLATE, [first, second, third]),
            [title[first], title[second], title[third]],
        ),
        legal("legal-1", 1, 1, "以上判决文书中，案由是'渎职罪'的判决文书是哪一篇?", judgments, "《判决文书4》"),
        legal(
            "legal-2",
            2,
            2,
            "案由为民事的判决是哪些？请按照文中出现的顺序作答。",
            judgments,
            "《判决文书1》，《判决文书3》",
        ),
        legal(
            *("legal-2-range", 3, 2, "以上所有判决文书中，涉及行政登记的有哪些？", judgments[::-1], "《判决文书3》"),
        ),
        legal(
            *("legal-3", 4, 3, "阅读以上判决文书，请按照'民事' '行政' '刑事'对以上所有判决文书进行分类。", judgments),
            {"民事": ["《判决文书1》", "《判决文书3》"], "行政": ["《判决文书2》"], "刑事": ["《判决文书4》"]},
        ),
        legal("legal-4-link", 1, 4, link, judgments, linked),
        legal(
            *(
                "legal-4-solitaire",
                2,
                4,
                f"阅读以上判决文书，我将给定从左到右排好顺序的若干案由：{causes}。请排序。",
                judgments,
            ),
            dict(zip(causes, ("《判决文书2》", "《判决文书4》", "《判决文书1》", "《判决文书3》"), strict=True)),
        ),
    ]


def financial(id, set, level, language, question, doc, answer, shuffle=True) -> dict:
    read = READ_EN if language == "en" else READ_ZH
    return row(id, set, level, "financial", language, question, read, TEMPLATE, doc, answer, shuffle)


def legal(id, set, level, question, doc, answer) -> dict:
    instruction = TITLES_ONLY if level < 3 else JUDGMENTS_ONLY
    return row(id, set, level, "legal", "zh", question, instruction, TEMPLATE, doc, answer, False)


def row(id, set, level, type, language, question, instruction, template, doc, answer, shuffle=True) -> dict:
    return {
        **{"id": id, "set": set, "level": level, "type": type, "language": language, "length": 1000 * len(doc)},
        **{"question": question, "instruction": instruction, "prompt_template": template, "doc": list(doc)},
        **{"answer": answer, "shuffle_doc": shuffle},
    }
