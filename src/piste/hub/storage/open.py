"""Opens the object store that the settings name."""

from piste.hub.settings import Settings
from piste.hub.storage.local import LocalObjects
from piste.lib.errors import UsageError


def open_objects(settings: Settings) -> LocalObjects:
    """The store of the settings; the caller closes it."""
    if settings.objects is not None and "://" in settings.objects:
        raise UsageError(
            "objects-unknown",
            "This version keeps objects in a folder only.",
            hint="Give --objects a folder, or leave it away to keep them in the data folder.",
        )
    return LocalObjects(settings.objects_folder)
