"""Hydra's defaults; `python -m ambient_ray.search --cfg job` prints them resolved."""
