"""What the stages are given: the database, the objects, the clock, the settings. Made by the composition root."""

from dataclasses import dataclass

from piste.hub.db.base import Database
from piste.hub.settings import Settings
from piste.hub.storage.base import Objects
from piste.lib.clock import Clock


@dataclass(frozen=True)
class Services:
    database: Database
    objects: Objects
    clock: Clock
    settings: Settings
