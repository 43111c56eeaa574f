"""Small models of texts for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch


def tiny_bert(folder: Path, texts: Iterable[str]) -> Path:
    """A BERT of random weights with a tokenizer of the texts' whole words, as a folder."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = sorted({word for text in texts for word in text.lower().split()})
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])
    )
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words) + 5,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


LIKES = ["I loved it", "Never again", "we loved all of it", "it was bad and never good", "good"]


def likes(folder: Path) -> tuple[Any, Any]:
    """A classifier of transformers with the labels bad and good, and its tokenizer."""
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

    tiny_bert(folder, LIKES)
    config = AutoConfig.from_pretrained(folder, id2label={0: "bad", 1: "good"})
    config.num_labels = 2
    torch.manual_seed(1)
    model = BertForSequenceClassification(config).eval()
    # Random weights choose one class for all; so that the words decide.
    torch.nn.init.normal_(model.bert.embeddings.word_embeddings.weight, std=1.0)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    return model, AutoTokenizer.from_pretrained(folder)
