"""The subcommands of ``shadowplane``, a module for each family; :mod:`control.cli` lists them."""
