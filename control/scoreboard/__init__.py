"""The scoreboard: every failure scenario under every strategy, counted packet by packet.

``rows`` holds the record and the verdict, ``render`` what a person sees, ``experiment`` plays one run on a
live lab, ``__main__`` plays them all. The scoreboard knows the fault plan; the control plane, a process of its
own, never does.
"""
