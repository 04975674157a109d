"""``python -m stopcli`` is ``stop``."""

import sys

from stopcli.cli.app import main

sys.exit(main())
