"""Records over short texts, and trainers of tiny critics on them."""

from cprs_tiny import tiny_critic, tiny_critic_tokenizer

from qwenlong_trl.cprs import CPRSTrainer, CPRSTrainingArguments
from qwenlong_trl.data import Document, Evidence, LongContextExample


NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal")


def example(i: int, documents: int = 3) -> LongContextExample:
    """Someone's year in one of a few documents, which two sentences of another person follow."""
    name, year = NAMES[i % len(NAMES)], 1900 + 7 * i
    texts = []
    for d in range(documents):
        who = name if d == i % documents else NAMES[(i + d + 1) % len(NAMES)]
        born = f"{who} was born in {year if who == name else year + d + 1}."
        texts.append(f"The winter was long. {born} Nobody wrote about it.")
    where = i % documents
    start = texts[where].index(f"{name} was born")
    return LongContextExample(
        id=f"born/{i}",
        question=f"When was {name} born?",
        answers=(str(year),),
        documents=tuple(Document(f"Page {d}", text) for d, text in enumerate(texts)),
        evidence=(Evidence(where, start, start + len(f"{name} was born in {year}.")),),
    ).validate()


def make_args(folder, **overrides) -> CPRSTrainingArguments:
    settings = {
        "window_tokens": 512,
        "instruction_variants": False,
        "needle_rate": 0.25,
        "per_device_train_batch_size": 4,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
    }
    return CPRSTrainingArguments(str(folder), **(settings | overrides))


def make_trainer(args, records=None, model=None, **kwargs) -> CPRSTrainer:
    return CPRSTrainer(
        tiny_critic() if model is None else model,
        args,
        [example(i) for i in range(16)] if records is None else records,
        processing_class=tiny_critic_tokenizer(),
        **kwargs,
    )
