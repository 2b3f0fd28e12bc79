"""What runs a campaign under Prefect: its flow and tasks, the server, and what is published to its pages.

The only room that imports Prefect.
"""
