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
    if settings.accel_redirect is not None and settings.objects is None:
        settings.data.chmod(0o710)  # the objects are in it, and all else in it is closed by itself
    return LocalObjects(settings.objects_folder, settings.accel_redirect)
