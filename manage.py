#!/usr/bin/env python
"""Django's command line for navembed."""

import os
import sys

from navembed_site import installation


def main() -> None:
    """Run the command that is named. Ctrl-C ends it, and so does a reader like `head` that has seen enough."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "navembed_site.settings")
    # NumPy's threads spin while they wait, and take the cores from other processes: searches took half as long again.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.umask(0o077)  # what an instance keeps is for its owner alone
    with installation.explained():
        from django.core.management import execute_from_command_line

        from navembed_site.database import trouble

        try:
            try:
                with trouble.explained():
                    execute_from_command_line(sys.argv)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
