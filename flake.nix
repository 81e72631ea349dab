{
  description = "Publish a NixOS configuration once, and every machine that may have it runs it seconds later";

  # Without a flake.lock: who takes Piste as an input lets this follow the nixpkgs of their own, and a first
  # `nix develop` writes one.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      forEach =
        make: nixpkgs.lib.genAttrs systems (system: make (nixpkgs.legacyPackages.${system}.extend self.overlays.default));

      # A module that brings its package along, so that importing it is all that a configuration has to do.
      withOverlay = module: {
        imports = [ module ];
        nixpkgs.overlays = [ self.overlays.default ];
      };
    in
    {
      overlays.default = import ./nix/overlay.nix;

      packages = forEach (pkgs: {
        default = pkgs.piste;
        inherit (pkgs) piste piste-host;
      });

      nixosModules = {
        piste-hub = withOverlay ./nix/hub.nix;
        piste-agent = withOverlay ./nix/agent.nix;
        default = {
          imports = [
            self.nixosModules.piste-hub
            self.nixosModules.piste-agent
          ];
        };
      };

      # `make` does the rest in here: its Python packages come from the locks, not from nixpkgs.
      devShells = forEach (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.git
            pkgs.gnumake
            pkgs.nix
            pkgs.python3
            pkgs.util-linux
          ];
        };
      });

      formatter = forEach (pkgs: pkgs.nixfmt);
    };
}
