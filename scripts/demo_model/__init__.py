"""The built-in demo model: its scenes, its questions, its training and its evaluation.

`shades`, `scenes`, `answers`, `questions` and what they import need only Pillow and NumPy, so
that tests can use them as an oracle; `network`, `batches` and `training` need PyTorch as well, and
`structured.masks` what the server has installed.
"""
