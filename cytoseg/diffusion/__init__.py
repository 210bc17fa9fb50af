"""The diffusion model: networks, schedules, training, sampling."""
