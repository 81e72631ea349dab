# The toplevel: the entries that a NixOS system has and a deployer looks at, with nothing behind most of them.
tools:
{ page }:
let
  inherit (tools)
    commands
    run
    sh
    system
    text
    ;
  version = "1.0";
  linux = "6.12.58";

  # A script of this folder, with its shell, its commands and what else it names filled in.
  script =
    name: file: values:
    let
      all = values // {
        inherit sh;
        path = "${commands}/bin";
      };
      names = builtins.attrNames all;
      fill = builtins.replaceStrings (map (name: "@${name}@") names) (map (name: "${all.${name}}") names);
    in
    run name { content = fill (builtins.readFile file); } ''printf %s "$content" > $out; chmod +x $out'';

  kernel = run "linux-${linux}" { } ''
    mkdir -p $out/lib/modules
    echo "Stands where a kernel would stand." > $out/bzImage
  '';
  initrd = text "initrd-linux-${linux}" "Stands where an initial file system would stand.\n";

  site = builtins.path {
    name = "site";
    path = page;
  };
  web = script "web-${version}" ./web.sh { inherit site; };
  unit = run "unit-web.service" { } ''
    mkdir $out
    printf '[Service]\nExecStart=%s start\nExecStop=%s stop\n' ${web} ${web} > $out/web.service
  '';

  etc = run "etc" { } ''
    mkdir -p $out/etc/systemd/system
    ln -s ${unit}/web.service $out/etc/systemd/system/web.service
    echo web > $out/etc/hostname
    printf 'ID=nixos\nNAME="The shape of NixOS"\nVERSION_ID="%s"\n' ${version} > $out/etc/os-release
  '';
  sw = run "system-path" { } ''
    mkdir -p $out/bin
    cp -P ${commands}/bin/* $out/bin
    ln -s ${web} $out/bin/web
  '';

  activate = script "activate" ./activate.sh { };
  switch = script "switch-to-configuration" ./switch-to-configuration.sh { };
in
run "nixos-system-web-${version}" { } ''
  mkdir -p $out/bin
  printf %s ${version} > $out/nixos-version
  printf %s ${system} > $out/system
  printf %s "shell 1" > $out/init-interface-version
  printf %s quiet > $out/kernel-params
  ln -s ${kernel}/bzImage $out/kernel
  ln -s ${kernel} $out/kernel-modules
  ln -s ${initrd} $out/initrd
  ln -s ${etc}/etc $out/etc
  ln -s ${sw} $out/sw
  # These two have to know the system that they belong to: its own path, which only its builder knows.
  sed "s|@out@|$out|g" ${activate} > $out/activate
  sed "s|@out@|$out|g" ${switch} > $out/bin/switch-to-configuration
  chmod +x $out/activate $out/bin/switch-to-configuration
''
