"""Text to token ids, with the checkpoint's own tokenizer.json or the merges that OpenAI published."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor

from zsad.errors import ZsadError

START, END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 48_894  # of the 262,144 lines that CLIP uses: 49,408 tokens less 2 x 256 bytes, START and END
# openai/CLIP d05afc43, clip/simple_tokenizer.py: START, END, English endings, words, single digits, other runs
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Byte-pair encoding as in CLIP: lower case, START before and END after each sentence."""

    def __init__(self, encoder: tokenizers.Tokenizer) -> None:
        encoder.no_padding()  # some published tokenizer.json files pad and cut to 77 by themselves
        encoder.no_truncation()
        self.encoder = encoder
        start, end = encoder.token_to_id(START), encoder.token_to_id(END)
        if start is None or end is None:
            raise ZsadError(f"the tokenizer has no {START} or {END} token; expected the tokenizer.json of a CLIP model")
        self.start, self.end = start, end

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json` of Hugging Face `tokenizers`."""
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except ZsadError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ZsadError(f"{path} is not a tokenizer.json: {error}") from error

    def ids(self, text: str) -> list[int]:
        """Token ids of one sentence, START and END included."""
        body = self.encoder.encode(text, add_special_tokens=False).ids
        return [self.start, *body, self.end]

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and the position of END.

        Args:
            texts: B sentences.

        Returns:
            ids [B, L] int64, padded with 0 to the longest sentence; end [B] int64.
        """
        rows = [self.ids(text) for text in texts]
        length = max(map(len, rows), default=0)
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.long)
        return ids, torch.tensor([len(row) - 1 for row in rows], dtype=torch.long)


def clip_tokenizer_from_merges(path: str | Path) -> Tokenizer:
    """CLIP's tokenizer from `bpe_simple_vocab_16e6.txt.gz`, the merges that OpenAI published.

    Equal to the tokenizer.json of OpenAI's models on Hugging Face. OpenAI's own code also repairs broken Unicode and
    HTML entities first; neither of these two does.

    Args:
        path: The file of openai/CLIP, clip/bpe_simple_vocab_16e6.txt.gz.

    Raises:
        ZsadError: If the file is not that list.
    """
    try:
        lines = gzip.decompress(Path(path).read_bytes()).decode("utf-8").split("\n")[1 : 1 + _MERGES]
        merges = [(left, right) for left, right in (line.split() for line in lines)]
    except (OSError, EOFError, ValueError) as error:
        raise ZsadError(f"{path} is not bpe_simple_vocab_16e6.txt.gz of openai/CLIP: {error}") from error
    if len(merges) < _MERGES:
        raise ZsadError(f"{path} holds {len(merges)} merges, expected at least {_MERGES}; copy it from openai/CLIP")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # in code point order, which is OpenAI's
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {word: i for i, word in enumerate(words)}
    encoder = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=END, end_of_word_suffix="</w>"))
    spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    encoder.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    split = pre_tokenizers.Split(tokenizers.Regex(_WORDS), behavior="removed", invert=True)
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    encoder.add_special_tokens([START, END])
    return Tokenizer(encoder)
