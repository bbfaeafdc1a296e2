"""Writes configs from data: inspects a folder or table, and makes experiments that train on it.

`inspection` examines the data. `choices` and `experiments` choose modalities, models and numbers of
steps that suit the data and the `machine`. `writing` makes the Python file.
"""
