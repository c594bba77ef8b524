"""The prediction of a job by a simulation of its events."""

from dkcore.simulation.simulation import Simulation

__all__ = ["Simulation"]
