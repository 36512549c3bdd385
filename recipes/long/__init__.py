"""The long training of the embedded model's image sides on a machine with a GPU (docs/model-judge.md; `recipes/gpu.sh`)."""
