"""Numbers of what goes over the control socket of a switch process, beside the program's own commands.

See ``engine/native/switchd/commands.c``.
"""

from __future__ import annotations

from enum import IntEnum


class SwitchOp(IntEnum):
    """Commands of the switch process, as in ``commands.c``."""

    HELLO = 0x100
    LOAD = 0x101
    PORTS = 0x102
    DEVICE_STATE = 0x103
    IMPAIR = 0x104
    PACKET_OUT = 0x105
    SUBSCRIBE = 0x106
    STATE_PUT = 0x107
    STATE_GET = 0x108
    PKTGEN = 0x109
    PCAP = 0x10A
    SHUTDOWN = 0x10B
    TRACE = 0x10C
    QUEUE = 0x10D


class EventKind(IntEnum):
    DIGEST = 0x8000
    PACKET_IN = 0x8001
    PORT_STATUS = 0x8002
    IDLE_TIMEOUT = 0x8003
    LOST = 0x8004
    TRACE = 0x8005
