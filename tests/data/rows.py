"""Small rows of every public format, made up here, and files made of them."""

import gzip
import json


def musique_row(number=1):
    return {
        "id": f"2hop__{number}",
        "paragraphs": [
            {
                "idx": 0,
                "title": "Radium",
                "paragraph_text": "Radium was found by marie  curie.",
                "is_supporting": True,
            },
            {"idx": 1, "title": "Noise", "paragraph_text": "Nothing to see.", "is_supporting": False},
            {"idx": 2, "title": "Curie", "paragraph_text": "She was born in Warsaw. Warsaw!", "is_supporting": True},
            {"idx": 3, "title": "More", "paragraph_text": "It says so in other words.", "is_supporting": True},
        ],
        "question": f"Where was the finder of radium born ({number})?",
        "question_decomposition": [
            {"id": 1, "question": "Who?", "answer": "Marie Curie", "paragraph_support_idx": 0},
            {"id": 2, "question": "Where?", "answer": "Warsaw", "paragraph_support_idx": 2},
        ],
        "answer": "Warsaw",
        "answer_aliases": ["Warszawa", "Warsaw"],
        "answerable": True,
    }


def hotpotqa_row(number=1):
    return {
        "_id": f"5a{number}",
        "question": "Which film?",
        "answer": "Alien",
        "type": "bridge",
        "supporting_facts": [["Scott", 1], ["Alien", 0], ["Alien", 0]],
        "context": [
            ["Alien", ["Alien is a film.", " It came out in 1979. "]],
            ["Scott", ["He is British.", "He made Alien.", ""]],
        ],
    }


def nq_open_row(number=1):
    return {
        "question": f"who found radium {number}",
        "answers": ["Marie Curie", "Curie"],
        "ctxs": [
            {"title": "A", "text": "Marie Curie is named here too.", "hasanswer": True, "isgold": False},
            {"title": "B", "text": "Found by Marie Curie; Curie, not Curies.", "hasanswer": True, "isgold": True},
        ],
    }


def squad_article(number=1):
    context = "The virus was found in 1983. The\nvirus   spread."
    return {
        "title": "Virus",
        "paragraphs": [
            {
                "context": context,
                "qas": [
                    {"id": number, "question": "When?", "answers": [{"text": "1983", "answer_start": 23}] * 2},
                    {"id": f"no{number}", "question": "Why?", "answers": [], "is_impossible": True},
                ],
            }
        ],
    }


def docqa_rl_row(number=1):
    context = "Line one.\n</text>\n\nWhat is it? not yet\nThe end."
    return {
        "prompt": [
            {
                "role": "user",
                "content": "Please read the following text and answer the question below.\n\n<text>\n"
                + context
                + "\n</text>\n\nWhat is it?\n\n"
                + 'Format your response as follows: "Therefore, the answer is (insert answer here)".',
            }
        ],
        "data_source": "musique_0_20000",
        "ability": "doc-qa",
        "reward_model": {"style": "rule", "ground_truth": "Therefore, the answer is Norway."},
        "extra_info": {"index": number, "input_question": "What is it?"},
    }


def records_row(number=1):
    return {
        "id": str(number),
        "question": "Who discovered radium?",
        "answers": ["Marie Curie", "Curie"],
        "documents": [{"title": "Radium", "text": "Radium was discovered by Marie Curie."}],
        "evidence": [{"document": 0, "start": 25, "end": 36}],
        "task": "docqa",
        "source": "made up",
    }


ROWS = {
    "musique": musique_row,
    "hotpotqa": hotpotqa_row,
    "nq_open": nq_open_row,
    "squad": squad_article,
    "docqa_rl": docqa_rl_row,
    "records": records_row,
}


def write_rows(path, format, rows):
    """Writes rows as their data set is published; DocQA-RL rows, which are published as Parquet, as JSON Lines."""
    if format == "hotpotqa":
        data = json.dumps(rows)
    elif format == "squad":
        data = json.dumps({"version": "1.1", "data": rows}, indent=1)
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(data.encode()) if format == "nq_open" else data.encode())
    return path
