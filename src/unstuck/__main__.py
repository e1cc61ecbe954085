"""`python -m unstuck`: the command line, for launchers that start a module in each of their processes."""

from unstuck.cli import main

if __name__ == "__main__":
    main()
