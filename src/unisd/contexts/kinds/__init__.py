"""The package's own kinds of context, one file each: ``<name>.py`` holds the class ``<Name>``."""
