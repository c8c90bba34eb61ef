"""Parsers of providers' mails, one module each; importing this package registers them all."""

from control.feeds.providers import (
    apple,
    aquacomms,
    att,
    aws,
    bso,
    cogent,
    colt,
    crowncastle,
    equinix,
    generic,
    globalcloudxchange,
    google,
    gtt,
    hgc,
    lumen,
    megaport,
    momentum,
    netflix,
    pccw,
    seaborn,
    sparkle,
    tata,
    telstra,
    turkcell,
    verizon,
    windstream,
    zayo,
)
from control.feeds.providers.registry import PROVIDERS, Provider, candidates

__all__ = ["PROVIDERS", "Provider", "candidates"]
_FORMS = (apple, aquacomms, att, aws, bso, cogent, colt, crowncastle, equinix, generic, globalcloudxchange, google,
          gtt, hgc, lumen, megaport, momentum, netflix, pccw, seaborn, sparkle, tata, telstra, turkcell, verizon,
          windstream, zayo)  # fmt: skip
