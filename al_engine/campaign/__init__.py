"""A campaign's directory: the ledger, and what its parts hold.

Floors, from top to bottom: `audit`; `export`, `record`; `scores`, `starts`, `samples`, `labels`; `ledger`;
`campaign_file`; `part`, `names`.
"""
