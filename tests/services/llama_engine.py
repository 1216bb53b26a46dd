"""A real llama.cpp server for tests: its own HTTP server in a process of ours, on loopback, at a free port.

It runs in the virtual environment of `install_llama.sh`, whose `xllamacpp` package is llama.cpp's server code as a
Python extension. The first line on standard output is ``{"url": ..., "build": ...}`` once the model is loaded; it
serves until its standard input is closed or it is killed, so that it never outlives the test that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import xllamacpp

CONTEXT_TOKENS = 32_768
PARALLEL = 2
SEED = 7


def parameters(model: Path, alias: str, answer_tokens: int) -> xllamacpp.CommonParams:
    """The server's settings: one model, two slots, bounded answers, no cache beyond the slots, nothing from the net."""
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(model)
    chosen.model_alias = {alias}
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = 0
    chosen.offline = True
    chosen.ui = False
    chosen.verbosity = 0
    chosen.n_ctx = CONTEXT_TOKENS * PARALLEL
    chosen.n_parallel = PARALLEL
    chosen.n_predict = answer_tokens
    chosen.cache_ram_mib = 0
    chosen.fit_params = False
    chosen.cpuparams.n_threads = 1
    chosen.cpuparams_batch.n_threads = 1
    chosen.sampling.seed = SEED
    return chosen


def main() -> None:
    """Load, say where, serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", default="tiny")
    parser.add_argument("--answer-tokens", type=int, default=96, help="what a call without a limit of its own may get")
    arguments = parser.parse_args()
    server = xllamacpp.Server(parameters(arguments.model, arguments.alias, arguments.answer_tokens))
    print(json.dumps({"url": server.listening_address, "build": xllamacpp.__version__}), flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # an orderly end waits for the calls under way, and whoever started them may be gone


if __name__ == "__main__":
    main()
