"""What an operator can set, checked once at the start."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of one hub process. `public_url` has no slash at its end."""

    data: Path
    listen_host: str
    listen_port: int
    public_url: str
    database: str | None = None  # None: SQLite in `data`; else postgresql://…
    objects: str | None = None  # None: a folder in `data`
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For is believed

    @property
    def database_file(self) -> Path:
        return self.data / "piste.sqlite"

    @property
    def objects_folder(self) -> Path:
        return self.data / "objects" if self.objects is None else Path(self.objects)
