{
  description = "A CryptPad server on Hetzner Cloud, deployed with Piste";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Wherever you take Piste from; a checkout on the side: "git+file:///home/you/piste".
    piste.url = "git+https://git.example.org/piste.git";
    piste.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      piste,
    }:
    {
      nixosConfigurations.cryptpad = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        specialArgs.site = import ./site.nix;
        modules = [
          { nixpkgs.overlays = [ piste.overlays.default ]; }
          ./hetzner.nix
          ./configuration.nix
        ];
      };

      # The command for the workflow: the version that the server runs, too.
      packages.x86_64-linux.piste = self.nixosConfigurations.cryptpad.pkgs.piste-host;
    };
}
