"""The two providers behind one seam (`base.py`). What is particular to a provider stands here and nowhere else."""
