"""The command line `al-engine`.

Importing this package loads neither torch, Prefect nor chemistry libraries: each command imports its own modules.
"""
