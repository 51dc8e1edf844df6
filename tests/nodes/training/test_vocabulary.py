"""A vocabulary is a function of the captions: the most frequent pairs first, in files that CLIP's tokenizer reads."""

from collections import Counter
from itertools import pairwise

from graphflow_nodes.training.vocabulary import learn_vocabulary
from transformers import CLIPTokenizer

TEXTS = ["a red apple on a green background", "A cat left of a red apple", "naïve café 🐱, 3 cats!", "bananas banana"]


def test_frequent_words_become_one_token_and_any_text_is_spelt(tmp_path):
    count = learn_vocabulary(tmp_path, [*TEXTS, *["a background"] * 20], 540)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == count == 540 and tokenizer.eos_token_id == count - 1
    assert tokenizer.tokenize("a background") == ["a</w>", "background</w>"]
    ids = tokenizer("zebra ÿ").input_ids
    assert ids[0] == count - 2 and ids[-1] == count - 1 and tokenizer.unk_token_id not in ids[1:-1]


def test_equal_captions_give_equal_files(tmp_path):
    for name in ("a", "b"):
        learn_vocabulary(tmp_path / name, TEXTS if name == "a" else iter(TEXTS), 600)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    learn_vocabulary(tmp_path / "c", reversed(TEXTS), 600)
    assert (tmp_path / "c" / "merges.txt").read_bytes() == (tmp_path / "a" / "merges.txt").read_bytes()


def test_the_pairs_are_those_of_the_algorithm_counted_anew_each_time(tmp_path):
    words = Counter(["banana", "bananas", "ban", "nab", "abba", "cabbage", "banana"])
    learn_vocabulary(tmp_path, [" ".join(words.elements())], 512 + 2 + 9)
    found = [tuple(line.split()) for line in (tmp_path / "merges.txt").read_text().splitlines()[1:]]
    spelt = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    for pair in found:
        counts = Counter()
        for word, parts in spelt.items():
            for one in pairwise(parts):
                counts[one] += words[word]
        assert pair == min(counts, key=lambda one: (-counts[one], one))
        for word, parts in spelt.items():
            joined, at = [], 0
            while at < len(parts):
                step = 2 if tuple(parts[at : at + 2]) == pair else 1
                joined.append("".join(parts[at : at + step]))
                at += step
            spelt[word] = joined
    assert len(found) == 9
