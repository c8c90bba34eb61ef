"""What the world outside says: maintenance notices of providers, and weather on the way of the links.

From small to large: :mod:`announcement`, :mod:`dates`, :mod:`page`, :mod:`sheet`, :mod:`mail` (one message),
:mod:`calendar` (iCalendar), :mod:`providers` (mail forms, one file each), :mod:`reading` (bytes of any form to
announcements), :mod:`mapping` (circuits to elements of the topology), :mod:`book` (updates, cancellations, lies),
:mod:`sources` (folders, mailboxes, HTTP), :mod:`weather`, :mod:`manager` (polls, health). Everything but
:mod:`sources` and :mod:`manager` is pure: bytes in, data out, no clock.
"""
