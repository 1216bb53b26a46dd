"""``python -m roadbed.cli``: the same as the command ``roadbed``."""

import sys

from roadbed.cli.main import main

sys.exit(main())
