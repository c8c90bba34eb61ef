"""``python -m control``: the command line."""

from control.cli import main

if __name__ == "__main__":
    main()
