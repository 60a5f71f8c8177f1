"""What a registered model carries with it: the code that samples from it where ambient_ray is not installed.

`bundle.py` copies these files, with those of ambient_ray.diffusion that they need, into the model's folder under
`code_<hash>/`. Nothing here imports ambient_ray, so that the copies run anywhere with torch, diffusers, safetensors
and numpy. `generator.py` samples; `pipeline.py` and `own_network.py` are diffusers' interface to it, `pyfunc_model.py`
is MLflow's, and `load.py` finds and checks a folder's files.
"""
