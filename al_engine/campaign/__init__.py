"""A campaign's directory: the ledger, and the content of its parts.

Layers, from top to bottom: `audit`; `export`, `record`; `scores`, `starts`, `samples`, `labels`; `ledger`;
`campaign_file`; `part`, `names`. A module imports only from its own layer and those below.
"""
