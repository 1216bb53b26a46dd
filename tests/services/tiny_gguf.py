"""Writes a tiny GGUF model for the tests that talk to a real llama.cpp server.

It is a whole model of the llama architecture (two layers, 2 MB, byte-level tokenizer, chat template), with random
weights from a fixed seed: it speaks gibberish in lower-case letters, blanks and full stops, and never ends by itself.
It runs in the virtual environment of `install_llama.sh`, which has the `gguf` package; the product imports nothing of
it, and the tests run it as a command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

SEED = 20260101
WIDTH = 128
LAYERS = 2
HEADS = 4
FEED_FORWARD = 384
CONTEXT_TOKENS = 65_536
WEIGHT_SCALE = 0.08
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The first channel of every token's embedding is large and the same, so that the output layer can use it as a bias.
BIAS_CHANNEL = 0
BIAS_INPUT = 4.0
NEVER = -10.0
SPOKEN = dict.fromkeys(b"abcdefghijklmnopqrstuvwxyz", 0.0) | {ord(" "): 0.15, ord("."): 0.05}
"""The bytes that are ever said, each with its weight on the bias channel."""


def token_list() -> tuple[list[str], list[float], list[int]]:
    """The vocabulary: special tokens, then one token for each byte. Texts, scores, types."""
    kinds = gguf.TokenType
    types = [kinds.UNKNOWN] + [kinds.CONTROL] * (len(SPECIAL_TOKENS) - 1) + [kinds.BYTE] * 256
    texts = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))]
    return texts, [0.0] * len(texts), [int(kind) for kind in types]


def write_weights(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    """Random weights. Tokens that are not in `SPOKEN` get a logit so low that they are never drawn."""
    chance = np.random.default_rng(SEED)

    def weights(rows: int, columns: int) -> np.ndarray:
        return (chance.standard_normal((rows, columns)) * WEIGHT_SCALE).astype(np.float32)

    ones = np.ones(WIDTH, dtype=np.float32)
    embeddings = weights(vocabulary, WIDTH)
    embeddings[:, BIAS_CHANNEL] = BIAS_INPUT
    output = weights(vocabulary, WIDTH)
    output[:, BIAS_CHANNEL] = NEVER
    first_byte = len(SPECIAL_TOKENS)
    for byte, weight in SPOKEN.items():
        output[first_byte + byte, BIAS_CHANNEL] = weight
    writer.add_tensor("token_embd.weight", embeddings)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(WIDTH, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", weights(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", weights(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", weights(WIDTH, FEED_FORWARD))


def write_model(path: Path) -> None:
    """Write the model to ``path``."""
    texts, scores, types = token_list()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(texts))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(SPECIAL_TOKENS.index("<unk>"))
    writer.add_bos_token_id(SPECIAL_TOKENS.index("<s>"))
    writer.add_eos_token_id(SPECIAL_TOKENS.index("<|im_end|>"))
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    write_weights(writer, len(texts))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path)
    write_model(parser.parse_args().path)
