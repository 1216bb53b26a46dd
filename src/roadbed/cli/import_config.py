"""``roadbed import``: a manifest from another gateway's configuration, with a report of what does not carry over."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from roadbed.cli.main import EXIT_OK, EXIT_PARTLY
from roadbed.cli.output import print_json
from roadbed.kernel.config import read_yaml
from roadbed.kernel.errors import ConfigError
from roadbed.releases.litellm import import_litellm
from roadbed.releases.workspace import load_workspace, workspace_name

SUMMARY = (
    "Make a manifest of another gateway's configuration. It goes to standard output or --out, the report of what does "
    "not carry over to standard error. Exits 0 when all carried over, 7 when some did not, 3 when the file is none."
)
EXAMPLE = (
    "  roadbed import litellm config.yaml --out roadbed.yaml\n"
    "  roadbed import litellm config.yaml --json          manifest and report as one object"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("kind", choices=["litellm"], help="whose configuration it is")
    parser.add_argument("file", type=Path, help="the configuration, for example a proxy's config.yaml")
    parser.add_argument("--out", type=Path, help="write the manifest to this new file")
    parser.add_argument("--name", help="the workspace's name (default: that of the file's folder)")
    parser.add_argument("--json", action="store_true", help="print JSON")


class _Plain(yaml.SafeDumper):
    """Writes what stands in several places out in each of them: a person goes on with the file."""

    def ignore_aliases(self, data: object) -> bool:
        """Always."""
        return True


def run(arguments: argparse.Namespace) -> int:
    """Needs no server."""
    config = read_yaml(arguments.file)
    made = import_litellm(config.value, arguments.name or workspace_name(arguments.file.resolve().parent))
    text = yaml.dump(made.manifest, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    load_workspace(arguments.file.resolve().parent, text)
    if arguments.out is not None:
        try:
            with arguments.out.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise ConfigError(f"{arguments.out} exists", hint="name a new file; nothing was written") from None
        except OSError as error:
            raise ConfigError(f"{arguments.out} cannot be written: {error.strerror}") from None
    if arguments.json:
        print_json({"manifest": made.manifest, "left": [{"path": left.path, "why": left.why} for left in made.left]})
    else:
        if arguments.out is None:
            print(text, end="")
        counts = f"{len(made.manifest.get('endpoints', {}))} endpoints, {len(made.manifest.get('models', {}))} models"
        print(f"{counts}; not carried over:", file=sys.stderr)
        for left in made.left:
            print(f"  {left.path}: {left.why}", file=sys.stderr)
    return EXIT_PARTLY if made.left else EXIT_OK
