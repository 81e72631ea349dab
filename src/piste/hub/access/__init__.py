"""Who may do what. One function decides, deny by default; every route names the permission that it needs."""
