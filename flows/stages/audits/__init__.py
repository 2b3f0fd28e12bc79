"""The verdict, and the audits that test what it claims."""
