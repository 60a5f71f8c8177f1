"""What a registered model carries with it: the code that samples from it where ambient_ray is not installed.

`bundle.py` copies `generator.py`, with the files of ambient_ray.diffusion that it needs, into the model's
folder under `code/`, beside `load.py`. Nothing here imports ambient_ray, so that the copies run anywhere with
torch, diffusers, safetensors and numpy; `pyfunc_model.py` adds MLflow's interface.
"""
