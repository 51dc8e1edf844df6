"""The tokenizer of Qwen gives the ids that the models were trained on."""

import json

import pytest
from graphflow_nodes.families.kits.qwen_tokenizer import SPECIAL, encode, qwen_tokenizer, tokenizer_in

import graphflow as gf


def test_every_token_has_its_published_id():
    tokenizer = qwen_tokenizer()
    assert tokenizer.get_vocab_size() == 151643 + len(SPECIAL)
    assert tokenizer.token_to_id("<|endoftext|>") == 151643 and tokenizer.token_to_id("<|im_start|>") == 151644
    assert tokenizer.token_to_id("<|vision_start|>") == 151652 and tokenizer.token_to_id("<|image_pad|>") == 151655
    assert tokenizer.token_to_id("<think>") == 151667
    assert encode(tokenizer, "user\n") == [872, 198] and encode(tokenizer, "system\n") == [8948, 198]
    assert encode(tokenizer, "<|im_end|>\n<|im_start|>assistant\n") == [151645, 198, 151644, 77091, 198]
    assert encode(tokenizer, "Hello, world! 123") == [9707, 11, 1879, 0, 220, 16, 17, 18]


@pytest.mark.parametrize(
    "text", ["", "  two  spaces\n\n\ttab", "红色的狐狸在雪地里", "e\u0301 is é", "🦊🍎", "it's I'LL"]
)
def test_texts_come_back_from_their_ids(text):
    import unicodedata

    tokenizer = qwen_tokenizer()
    assert tokenizer.decode(encode(tokenizer, text)) == unicodedata.normalize("NFC", text)


def test_a_folder_brings_its_own_in_either_form(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    vocabulary, merges = {"a": 0, "b": 1, "ab": 2}, ["#version: 0.2", "a b"]
    (tmp_path / "old" / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "old" / "merges.txt").write_text("\n".join(merges))
    (tmp_path / "old" / "tokenizer_config.json").write_text(
        '{"added_tokens_decoder": {"3": {"content": "<|im_end|>"}}}'
    )
    tokenizer = tokenizer_in(str(tmp_path / "old"))
    assert encode(tokenizer, "abba<|im_end|>") == [2, 1, 0, 3]
    tokenizer.save(str(tmp_path / "new" / "tokenizer.json"))
    assert encode(tokenizer_in(str(tmp_path / "new")), "abba<|im_end|>") == [2, 1, 0, 3]


def test_a_folder_without_one_is_a_problem_that_names_it(tmp_path):
    with pytest.raises(gf.GraphFlowError, match=tmp_path.name):
        tokenizer_in(str(tmp_path))
