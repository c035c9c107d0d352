"""Prompts: the template whole, the context cut in its middle, nothing invented, nothing over the limit."""

from functools import cache

import pytest
from docqa_runs import country_records
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.data import Document, LongContextExample, render_prompt
from qwenlong_trl.data.prompts import render_context
from qwenlong_trl.evaluation import EvaluationProtocol, protocol_prompt, truncate_middle
from qwenlong_trl.generation.sampling import encode_prompt


CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = st.text(
    st.one_of(st.sampled_from("the of a lies in Town. \n\né中文😀"), st.characters(codec="utf-8")), max_size=80
)


@cache
def bytes_tokenizer(bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as Qwen and Llama 3 have it; with a token before each text, or without."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=special
    )
    texts = [render_prompt(record) for record in country_records()] + ["中文é"]
    tokenizer.train_from_iterator(texts, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if bos else None, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def is_two_ends(shorter: str, text: str) -> bool:
    return any(text.startswith(shorter[:i]) and text.endswith(shorter[i:]) for i in range(len(shorter) + 1))


@given(TEXTS, st.integers(2, 60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_text_loses_its_middle(text, most, bos):
    tokenizer = bytes_tokenizer(bos)
    shorter = truncate_middle(text, tokenizer, most)
    tokens = len(tokenizer(text)["input_ids"])
    assert len(tokenizer(shorter)["input_ids"]) <= most
    assert (shorter == text) == (tokens <= most)
    assert is_two_ends(shorter, text) and len(shorter) <= len(text)
    assert truncate_middle(text, tokenizer, most) == shorter


@given(TEXTS, st.integers(1, 60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_official_truncation_is_the_released_expression(text, most, bos):
    tokenizer = bytes_tokenizer(bos)
    ids = tokenizer.encode(text)
    expected = text
    if len(ids) > most:
        expected = tokenizer.decode(ids[: most // 2] + ids[-most // 2 :], skip_special_tokens=True)
    assert truncate_middle(text, tokenizer, most, "official") == expected


def test_official_truncation_keeps_one_more_at_the_end_of_an_odd_number():
    tokenizer = tiny_tokenizer()
    text = " ".join(f"w{i}" for i in range(20))
    assert truncate_middle(text, tokenizer, 5, "official") == "w0 w1 w17 w18 w19"
    assert truncate_middle(text, tokenizer, 1, "official") == "w19"
    assert truncate_middle(text, tokenizer, 5) == "w0 w1 w17 w18 w19"
    assert truncate_middle(text, tokenizer, 20) == text


def test_official_truncation_tears_what_the_fixed_one_does_not():
    tokenizer = bytes_tokenizer()
    text = "😀" * 20
    assert "\ufffd" in truncate_middle(text, tokenizer, 7, "official")
    assert set(truncate_middle(text, tokenizer, 7)) <= {"😀"}
    text = "one <|im_end|> " + "two " * 40
    assert "<|im_end|>" not in truncate_middle(text, tokenizer, 20, "official")
    assert "<|im_end|>" in truncate_middle(text, tokenizer, 20)


def record_of(context: str, question: str, title: str = "") -> LongContextExample:
    return LongContextExample("r", question, ("a",), (Document(title, context), Document("", context)))


@given(TEXTS, TEXTS.filter(str.strip), st.integers(1, 300), st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_template_and_the_question_stay_and_the_prompt_fits(context, question, most, bos, chat):
    tokenizer = bytes_tokenizer(bos)
    record = record_of(context, question)
    protocol = EvaluationProtocol(max_input_tokens=most, chat=chat)
    try:
        built = protocol_prompt(record, tokenizer, protocol)
    except ValueError as error:
        bare = protocol_prompt(record_of("", question), tokenizer, EvaluationProtocol(chat=chat))
        assert bare.tokens > most and f"{bare.tokens:,} tokens even without" in str(error)
        return
    text = built.prompt[0]["content"] if chat else built.prompt
    assert len(encode_prompt(built.prompt, tokenizer)) <= most
    head, tail = render_prompt(record, "HEAD $DOC$ TAIL $Q$").split(" TAIL ")[0][5:], question.strip()
    before = "Please read the following text and answer the question below.\n\n<text>\n"
    after = f'\n</text>\n\n{tail}\n\nFormat your response as follows: "Therefore, the answer is (insert answer here)".'
    assert text.startswith(before) and text.endswith(after)
    kept = text[len(before) : len(text) - len(after)]
    assert built.truncated == (built.tokens > most)
    assert kept == head if not built.truncated else is_two_ends(kept, render_context(record.documents).strip())


def test_a_cut_prompt_is_nearly_full():
    tokenizer = bytes_tokenizer()
    record = country_records(1, words=400)[0]
    for most in (120, 121, 200, 333):
        built = protocol_prompt(record, tokenizer, EvaluationProtocol(max_input_tokens=most))
        assert built.truncated and most - 3 <= len(encode_prompt(built.prompt, tokenizer)) <= most


def test_the_modes_differ_where_they_say():
    tokenizer = bytes_tokenizer(bos=True)
    record = country_records(1, words=400)[0]
    fixed = protocol_prompt(record, tokenizer, EvaluationProtocol(max_input_tokens=80))
    official = protocol_prompt(record, tokenizer, EvaluationProtocol("official", max_input_tokens=80))
    assert fixed.prompt[0]["content"].startswith("Please read the following text and answer the question below.\n\n<")
    # The text fits, and with the chat template it does not; of the question only the end is left.
    assert len(encode_prompt(official.prompt, tokenizer)) > 80 >= len(encode_prompt(fixed.prompt, tokenizer))
    tight = protocol_prompt(record, tokenizer, EvaluationProtocol("official", max_input_tokens=20))
    assert record.question not in tight.prompt[0]["content"] and tight.truncated
    # Nothing is cut: the same prompts.
    whole = [protocol_prompt(record, tokenizer, EvaluationProtocol(mode)) for mode in ("fixed", "official")]
    assert whole[0].prompt == whole[1].prompt == [{"role": "user", "content": render_prompt(record)}]
    assert whole[0].tokens == len(encode_prompt(whole[0].prompt, tokenizer)) > whole[1].tokens
    assert whole[1].tokens == len(tokenizer(render_prompt(record))["input_ids"])


def test_own_template_and_plain_text():
    tokenizer = tiny_tokenizer()
    record = LongContextExample("r", "w1 w2", ("a",), (Document("", " ".join(["w3"] * 30)),))
    protocol = EvaluationProtocol(max_input_tokens=8, template="$Q$ : $DOC$", chat=False)
    assert protocol_prompt(record, tokenizer, protocol).prompt == "w1 w2 : w3 w3 w3 w3 w3"
    assert protocol.describe()["template_hash"] != EvaluationProtocol().describe()["template_hash"]


@pytest.mark.parametrize("options", [{"mode": "strict"}, {"max_input_tokens": 0}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EvaluationProtocol(**options)


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        truncate_middle("w1", tiny_tokenizer(), 0)
    with pytest.raises(ValueError, match="adds 2 special tokens, and max_tokens is 1"):
        truncate_middle("text", two_special_tokens(), 1)


def two_special_tokens() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "text": 1}, unk_token="<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A <s>", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
