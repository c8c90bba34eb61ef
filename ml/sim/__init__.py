"""Run-to-failure telemetry of a network in operation: seconds to hours of precursor, each family of shape in a file.

:mod:`ml.sim.world` says what differs between worlds (and keeps one that training never sees), :mod:`ml.sim.runs`
puts shapes together. The lab's compressed time has a simulator of its own, :mod:`ml.simulate`.
"""
