"""The language of rules: formulas, traced once, of which kernels are printed."""
