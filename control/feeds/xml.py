"""XML from strangers: no document types, no entities, bounded size, depth and number of elements."""

from __future__ import annotations

import io
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree as Hardened  # type: ignore[import-untyped]
from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]

from control.feeds.errors import FeedError

DEEPEST = 40
MOST_ELEMENTS = 500_000


def parse_xml(data: bytes, source: str, most_bytes: int = 8 * 1024 * 1024) -> Element:
    """The root element; raises :class:`FeedError` naming the source, with the line for what is malformed."""
    if len(data) > most_bytes:
        raise FeedError(f"{source}: XML of more than {most_bytes} bytes")
    depth = count = 0
    root: Element | None = None
    try:
        for event, element in Hardened.iterparse(io.BytesIO(data), events=("start", "end"), forbid_dtd=True):
            if event == "end":
                depth -= 1
                continue
            root = element if root is None else root
            depth, count = depth + 1, count + 1
            if depth > DEEPEST:
                raise FeedError(f"{source}: XML nested deeper than {DEEPEST}")
            if count > MOST_ELEMENTS:
                raise FeedError(f"{source}: XML of more than {MOST_ELEMENTS} elements")
    except ParseError as error:
        line = error.position[0] if getattr(error, "position", None) else "?"
        raise FeedError(f"{source}:{line}: not XML: {error}") from error
    except DefusedXmlException as error:
        raise FeedError(f"{source}: XML with a document type or entities, refused") from error
    except (ValueError, LookupError, RecursionError) as error:  # an encoding that does not exist
        raise FeedError(f"{source}: not XML: {error}") from error
    if root is None:
        raise FeedError(f"{source}: XML without an element")
    return root
