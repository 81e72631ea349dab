# The one program of the system, and a way to build with nothing else.
folder:
let
  # A store path of its own, so that the system refers to it and not to the flake's source.
  busybox = builtins.path {
    name = "busybox-static";
    path =
      if builtins.pathExists (folder + "/busybox") then
        folder
      else
        throw "there is no busybox/busybox: README.md, beside flake.nix, says how to put one there";
    filter = path: _: baseNameOf path == "busybox";
  };
  sh = "${busybox}/busybox";
  system = builtins.replaceStrings [ "\n" ] [ "" ] (builtins.readFile (folder + "/system"));

  # A derivation built by a shell script that has busybox's commands on its PATH.
  run =
    name: values: script:
    derivation (
      values
      // {
        inherit name script system;
        builder = sh;
        args = [
          "sh"
          "-euc"
          ''${sh} mkdir "$NIX_BUILD_TOP/bin"; ${sh} --install -s "$NIX_BUILD_TOP/bin"; PATH=$NIX_BUILD_TOP/bin; eval "$script"''
        ];
      }
    );
in
{
  inherit run sh system;

  # Busybox's commands under their own names.
  commands = run "busybox-commands" { } ''mkdir -p $out/bin; ${sh} --install -s $out/bin'';

  # A file with a text in it.
  text = name: content: run name { inherit content; } ''printf %s "$content" > $out'';
}
