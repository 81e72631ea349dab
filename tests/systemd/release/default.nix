# A system whose service is a unit of systemd: the same toplevel as in the example, for a machine that boots.
# `folder` may hold `units/*.service`, which the system starts beside its own.
tools:
{ page }:
let
  inherit (tools)
    commands
    run
    sh
    system
    ;
  version = "1.0";
  fill =
    name: file: values:
    let
      all = values // {
        inherit sh;
        path = "${commands}/bin";
      };
      names = builtins.attrNames all;
      content = builtins.replaceStrings (map (name: "@${name}@") names) (map (name: "${all.${name}}") names) (
        builtins.readFile file
      );
    in
    run name { inherit content; } ''printf %s "$content" > $out; chmod +x $out'';

  site = builtins.path {
    name = "site";
    path = page;
  };
  units = builtins.path {
    name = "units";
    path = ../units;
  };
  service = fill "web-${version}" ./web.sh { inherit site; };
  web = fill "web.service" ./web.service { inherit service; };

  etc = run "etc" { } ''
    wanted=$out/etc/systemd/system/multi-user.target.wants
    mkdir -p $wanted
    ln -s ${web} $out/etc/systemd/system/web.service
    for unit in ${units}/*.service; do
        ln -s $unit $out/etc/systemd/system/''${unit##*/}
    done
    for unit in $out/etc/systemd/system/*.service; do
        ln -s ../''${unit##*/} $wanted/''${unit##*/}
    done
    printf 'ID=nixos\nNAME="The shape of NixOS"\nVERSION_ID="%s"\n' ${version} > $out/etc/os-release
  '';
  script = name: file: fill name file { inherit etc; };
in
run "nixos-system-web-${version}" { } ''
  mkdir -p $out/bin
  printf %s ${version} > $out/nixos-version
  printf %s ${system} > $out/system
  printf %s "systemd 1" > $out/init-interface-version
  ln -s ${etc}/etc $out/etc
  ln -s ${commands} $out/sw
  sed "s|@out@|$out|g" ${script "activate" ./activate.sh} > $out/activate
  sed "s|@out@|$out|g" ${script "init" ./init.sh} > $out/init
  sed "s|@out@|$out|g" ${script "switch-to-configuration" ./switch-to-configuration.sh} > $out/bin/switch-to-configuration
  chmod +x $out/activate $out/init $out/bin/switch-to-configuration
''
