"""Add token ids to words.json: python -m tests.parity.words FOLDER SENTENCE... (FOLDER has CLIP's merges)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.parity.golden import FOLDER, pieces
from zsad.backbones.tokenizer import clip_tokenizer_from_merges


def add(folder: Path, sentences: list[str]) -> int:
    """Write the ids of every word of the sentences beside those that are there; how many are there now."""
    tokenizer = clip_tokenizer_from_merges(folder / "bpe_simple_vocab_16e6.txt.gz")
    path = FOLDER / "words.json"
    known = json.loads(path.read_text())
    known |= {word: tokenizer.ids(word)[1:-1] for text in sentences for word in pieces(text)}
    lines = (f"{json.dumps(word)}: {json.dumps(ids)}" for word, ids in sorted(known.items()))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return len(known)


if __name__ == "__main__":
    sys.stdout.write(f"{add(Path(sys.argv[1]), sys.argv[2:])} words\n")
