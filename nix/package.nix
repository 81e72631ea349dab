# Piste from nixpkgs' own Python packages. The exact versions that the project is tested with stand in
# requirements/*.lock; nixpkgs has one version of each, so the pins of pyproject.toml are relaxed here.
{
  lib,
  stdenv,
  python3Packages,
  installShellFiles,
  nix,
  git,
  openssh,
  # A host needs neither the server nor the database's client: without them its closure is smaller.
  withHub ? true,
}:

python3Packages.buildPythonApplication {
  pname = if withHub then "piste" else "piste-host";
  version = (lib.importTOML ../pyproject.toml).project.version;
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../LICENSE
      ../README.md
      ../pyproject.toml
      ../src
    ];
  };

  # The build refuses a back end of another version than the one pinned.
  postPatch = ''
    sed -i 's/"hatchling==[^"]*"/"hatchling"/' pyproject.toml
  '';

  build-system = [ python3Packages.hatchling ];
  nativeBuildInputs = [ installShellFiles ];
  pythonRelaxDeps = true;

  dependencies =
    with python3Packages;
    [
      aiohttp
      cryptography
      cyclopts
      msgspec
      rich
    ]
    ++ lib.optional (pythonOlder "3.14") backports-zstd
    ++ lib.optionals withHub [
      asyncpg
      granian
      httptools
      joserfc
      starlette
      structlog
      uvloop
    ];

  # Last on PATH: a host's own Nix, which its daemon is, comes first.
  makeWrapperArgs = [
    "--suffix"
    "PATH"
    ":"
    (lib.makeBinPath [
      nix
      git
      openssh
    ])
  ];

  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd piste \
      --bash <($out/bin/piste completion bash) \
      --zsh <($out/bin/piste completion zsh) \
      --fish <($out/bin/piste completion fish)
    $out/bin/piste man > piste.1
    installManPage piste.1
  '';

  # The tests want three versions of Nix and a PostgreSQL, and run in the project's own `make test`.
  doCheck = false;
  pythonImportsCheck = [ "piste.cli.main" ] ++ lib.optional withHub "piste.hub.app";

  meta = {
    description = "Publish a NixOS configuration once, and every machine that may have it runs it seconds later";
    license = lib.licenses.asl20;
    mainProgram = "piste";
    platforms = lib.platforms.unix;
  };
}
