"""The command line `al-engine`.

Importing it loads neither torch, Prefect nor any chemistry: each command imports what it needs.
"""
