"""Named calculations: hashes, checksums and selector inputs."""

from __future__ import annotations

from engine import ir
from engine.ir_expr import Json, Names, items, need, number, refuse, source_of

ALGORITHMS = {
    "crc16": "crc16",
    "crc16_custom": "crc16",  # BMv2's defaults for the custom CRCs are the plain ones
    "crc32": "crc32",
    "crc32_custom": "crc32",
    "crcCCITT": "crc_ccitt",
    "csum16": "csum16",
    "cksum16": "csum16",
    "xor16": "xor16",
    "xor32": "xor32",
    "identity": "identity",
    "random": "random",
}


def load_calculation(item: Json, names: Names, name: str, where: ir.Source | None = None) -> ir.Calculation:
    """A named calculation or a selector's input."""
    source = source_of(item) or where
    algorithm = need(item, "algo", str, name)
    if algorithm not in ALGORITHMS:
        refuse(f"the hash algorithm {algorithm}", source)
    inputs: list[tuple[ir.Expr, int]] = []
    payload = False
    for part in items(item, "input", name):
        kind = need(part, "type", str, name)
        if kind == "payload":
            payload = True
        elif payload:
            refuse("hash input after the payload", source)
        elif kind == "field":
            ref = names.field(part.get("value"))
            if ref.field == ir.VALID:
                refuse("a validity bit in a hash", source)
            declared = names.types[names.headers[ref.header].type].fields[ref.field]
            inputs.append((ref, 0 if declared.varbit else declared.width))
        elif kind == "hexstr":
            inputs.append((ir.Const(number(part.get("value"), name)), need(part, "bitwidth", int, name)))
        elif kind == "header":
            inputs.append((ir.HeaderRef(names.lookup(names.header, part.get("value"), "header")), 0))
        else:
            refuse(f"a {kind} in a hash", source)
    return ir.Calculation(name, ALGORITHMS[algorithm], tuple(inputs), payload, source)
