"""Bytes that a token of a row keeps for its backward pass: PEFT's layers, the lean ones, and what these must keep.

On the meta device, by saved-tensor hooks: no weights, no accelerator. Bases are bf16, adapters fp32 (r 64, dropout
0.05).

    python benchmarks/kept_bytes.py [--shapes NAME …] [--json FILE]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from unisd.models import LoraSettings
from unisd.models.shapes import SHAPES, shape_of
from unisd.training.dry import dry, dry_copy
from unisd.training.planning import kept_a_token

TOKENS = 1024


def theory(config: Any, lora: LoraSettings) -> float:
    """Return the bytes a token that lean layers must keep: values in bf16, where nothing else is said.

    Of each layer: what its norms read, in fp32; the one input of q, k and v, and that of gate and up; q, k and v as
    they are attended to, and what attention gives, with fp32 statistics of its heads; what gate and up give; seven fp32
    products with A; and, under dropout, a byte for each value that an adapter reads.
    """
    hidden, inner, half, wide = config.hidden_size, config.intermediate_size, 2, 4
    width = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    query, key = heads * width, key_heads * width
    if config.model_type.startswith("gemma3"):  # norms before and after each block, and of queries and keys
        norms = 4 * (hidden + 1) * wide + (query + key + heads + key_heads) * wide
    else:
        norms = 2 * (hidden + 1) * wide
    inputs = 2 * hidden * half
    attention = (2 * query + 2 * key) * half + heads * wide
    gated = 2 * inner * half
    low = 7 * lora.r * wide
    masks = 5 * hidden + query + inner if lora.dropout else 0
    return float(config.num_hidden_layers * (norms + inputs + attention + gated + low + masks))


def measured(name: str) -> dict[str, float]:
    """Return bytes a token of one shape."""
    config, lora = shape_of(name), LoraSettings()
    with dry("cuda"):
        model = dry_copy(config, torch.bfloat16, lora)
        peft, lean = kept_a_token(model, TOKENS, lean=False), kept_a_token(model, TOKENS)
    return {"peft": peft, "lean": lean, "theory": theory(config, lora)}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", nargs="+", default=[name for name in SHAPES if name != "smollm2-135m"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {}
    print("| shape | PEFT's layers, MB | lean, MB | theory, MB | lean / PEFT's | lean / theory |")
    print("|---|---|---|---|---|---|")
    for name in arguments.shapes:
        found[name] = row = measured(name)
        sizes = " | ".join(f"{row[kind] / 1e6:.2f}" for kind in ("peft", "lean", "theory"))
        print(f"| {name} | {sizes} | {row['lean'] / row['peft']:.2f} | {row['lean'] / row['theory']:.2f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
