# A small system in the shape of NixOS: what a host activates, made of plain derivations.
# It needs neither nixpkgs nor a network; README.md says which one file has to be put beside this one.
{
  description = "A web server in the shape of NixOS, without nixpkgs";

  outputs =
    { self }:
    let
      tools = import ./system/tools.nix ./busybox;
    in
    {
      # What a host runs, at the place where NixOS has it.
      nixosConfigurations.web.config.system.build.toplevel = import ./system tools { page = ./page; };

      # Another output of the same project, which no host's token is bound to.
      packages.${tools.system}.notes = tools.run "notes-1.0" { } ''
        echo "Notes for the people who write this system, not for its hosts." > $out
      '';
    };
}
