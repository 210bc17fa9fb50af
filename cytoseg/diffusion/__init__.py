"""The diffusion model: network, schedule, training, sampling."""
