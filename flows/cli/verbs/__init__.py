"""The commands of `al-engine`, a file each: their options, what they call, and what they answer."""
