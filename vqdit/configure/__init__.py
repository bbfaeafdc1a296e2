"""A config from data: what is in a folder or table, and experiments that train on it.

`inspection` looks at the data. `choices` and `experiments` decide by what was found and by the
`machine`, and `writing` makes the Python file.
"""
