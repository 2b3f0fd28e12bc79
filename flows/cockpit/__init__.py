"""Running a campaign under Prefect: its flow and tasks, the server, and the artifacts on its pages.

This is the only package that imports Prefect.
"""
