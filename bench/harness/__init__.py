"""How a measurement is made: cases, turns, crews of processes, figures."""
