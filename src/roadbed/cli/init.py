"""``roadbed init``: write down the manifest that a folder is served by."""

from __future__ import annotations

import argparse
from pathlib import Path

from roadbed.cli.main import EXIT_CONFIG, EXIT_OK
from roadbed.kernel.errors import ConfigError
from roadbed.releases.workspace import MANIFEST_NAME, infer_manifest, load_workspace

SUMMARY = "Write a commented roadbed.yaml for a folder: what `roadbed up FOLDER` would serve it by."
EXAMPLE = "  roadbed init ~/documents && roadbed up ~/documents"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("workspace", nargs="?", default=".", type=Path, help="the folder (default: this one)")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print it, write nothing")


def run(arguments: argparse.Namespace) -> int:
    """Never overwrites a manifest that is there."""
    folder = arguments.workspace.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    if arguments.only_print:
        print(infer_manifest(folder), end="")
        return EXIT_OK
    path = folder / MANIFEST_NAME
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(infer_manifest(folder))
    except FileExistsError:
        print(f"{path} is there already; `roadbed check {arguments.workspace}` validates it")
        return EXIT_CONFIG
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    workspace = load_workspace(folder)
    print(f"wrote {path} ({len(workspace.manifest.apps)} apps); next: roadbed up {arguments.workspace}")
    return EXIT_OK
