"""The protobuf and gRPC stubs (P4Runtime 1.4+, gNMI), taken from finsy, which the control plane uses too.

Importing ``finsy.proto`` the plain way first runs ``finsy/__init__.py``: the whole client library, its parser and its
logging. A switch needs none of that, and a hundred switches may start at once, so the package's ``__init__`` is kept
out of the way during the import. A later ``import finsy`` in the same process works and shares these modules.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from types import ModuleType


def _import_stubs() -> None:
    if "finsy" in sys.modules or "finsy.proto" in sys.modules:
        return
    spec = PathFinder.find_spec("finsy")
    if spec is None or spec.submodule_search_locations is None:
        return  # the import below reports what is missing
    package = ModuleType("finsy")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["finsy"] = package
    try:
        import finsy.proto  # noqa: F401
    finally:
        del sys.modules["finsy"]


_import_stubs()

from finsy.proto import gnmi, gnmi_ext, p4d, p4i, p4r, rpc_status, stratum  # noqa: E402
from google.protobuf import any_pb2  # noqa: E402

__all__ = ["any_pb2", "gnmi", "gnmi_ext", "p4d", "p4i", "p4r", "rpc_status", "stratum"]
