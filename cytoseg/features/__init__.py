"""Decoder features of the diffusion model at native resolution."""
