"""``python -m stopcli`` and the command ``stop``: Ctrl-C ends well even while Python still imports."""

import sys


def run() -> int:
    """Run the command line of the process."""
    try:
        from stopcli.cli.app import main

        return main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
