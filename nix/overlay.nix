# pkgs.piste: everything. pkgs.piste-host: what a host needs to run releases.
final: _prev: {
  piste = final.callPackage ./package.nix { };
  piste-host = final.callPackage ./package.nix { withHub = false; };
}
