"""The commands of `al-engine`, one module each: their options, the functions they call, and their answers."""
