"""What launches and watches: the campaign's stages, the Prefect flow around them, artifacts, the command line."""
