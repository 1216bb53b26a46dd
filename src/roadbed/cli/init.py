"""``roadbed init``: write down the manifest that a folder is served by."""

from __future__ import annotations

import argparse
from pathlib import Path

from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.wording import counted
from roadbed.releases.workspace import MANIFEST_NAME, infer_manifest, load_workspace

SUMMARY = "Write a commented roadbed.yaml for a folder: what `roadbed up FOLDER` would serve it by."
EXAMPLE = "  roadbed init ~/documents && roadbed up ~/documents"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("workspace", nargs="?", default=".", type=Path, help="the folder (default: this one)")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print it, write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Never overwrites a manifest that is there."""
    folder = arguments.workspace.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    path, text = folder / MANIFEST_NAME, infer_manifest(folder)
    if not arguments.only_print:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            hint = f"`roadbed check {arguments.workspace}` validates it"
            raise ConfigError(f"{path} is there already", hint=hint) from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    if arguments.json:
        print_json({"path": str(path), "written": not arguments.only_print, "manifest": text})
    elif arguments.only_print:
        print(text, end="")
    else:
        count = counted(len(load_workspace(folder).manifest.apps), "app")
        print(f"wrote {path} ({count}); next: roadbed up {arguments.workspace}")
    return EXIT_OK
