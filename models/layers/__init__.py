"""The layers of MS-MACE and its relatives."""
