#!/usr/bin/env python
"""Django's command line for navembed."""

import os
import sys

from navembed_site import installation

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "navembed_site.settings")
    # NumPy's threads spin while they wait, and take the cores from other processes: searches took half as long again.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with installation.explained():
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
