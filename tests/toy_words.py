"""Small tokenizers of the kinds that open_clip's architectures name, as their repositories hold them."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

WORDS = [
    "a dog runs home",
    "ein Hund läuft nach Hause",
    "犬が家に走る",
    "two men dance, slowly",
    "player no. 7!",
] * 20
MARKS = ["<pad>", "<eos>", "<bos>", "<unk>"]


def siglip2(folder):
    """Byte pairs with an end mark, padded by 0: of the kind of Gemma's."""
    tokens = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokens.normalizer = normalizers.Replace(" ", "▁")
    tokens.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS))
    tokens.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokens.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<eos>"}
    told |= {"padding_side": "right", "unk_token": "<unk>", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return folder


def bert(folder):
    """Word pieces between marks, as CLIPA's."""
    tokens = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokens.normalizer, tokens.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=marks))
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return folder


def mt5(folder):
    """A sentencepiece model, as mT5's."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS),
        model_prefix=str(folder / "spiece"),
        vocab_size=41,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    told = {"tokenizer_class": "T5Tokenizer", "pad_token": "<pad>", "eos_token": "</s>", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"unk_token": "<unk>"}))
    return folder


KINDS = {"siglip2": siglip2, "bert": bert, "mt5": mt5}
