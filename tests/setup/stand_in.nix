# A small stand-in for the part of nixpkgs' `lib` and of NixOS' module system that our modules use, for machines
# that can't fetch nixpkgs. It knows options with types and defaults, mkIf and mkDefault, and the options of NixOS
# that our modules set; an option that nobody declared is an error, as it is in NixOS. What it can't show: that
# NixOS' own options still have these names and types.
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    hasAttr
    head
    isAttrs
    isBool
    isInt
    isList
    isString
    length
    listToAttrs
    map
    mapAttrs
    match
    ;

  scalar = name: check: {
    inherit name check;
    merge =
      path: values:
      if length (unique values) == 1 then head values else throw "${path}: defined twice, differently";
  };
  unique = foldl' (seen: value: if elem value seen then seen else seen ++ [ value ]) [ ];

  types = {
    bool = scalar "bool" isBool;
    int = scalar "int" isInt;
    ints.positive = scalar "ints.positive" (value: isInt value && value > 0);
    str = scalar "str" isString;
    package = scalar "package" (value: isAttrs value && value ? outPath);
    strMatching = pattern: scalar "strMatching ${pattern}" (value: isString value && match pattern value != null);
    enum = values: scalar "enum" (value: elem value values);
    nullOr = type: scalar "nullOr ${type.name}" (value: value == null || type.check value);
    listOf = type: {
      name = "listOf ${type.name}";
      check = value: isList value && builtins.all type.check value;
      merge = _path: concatLists;
    };
    # What NixOS itself checks, and this does not.
    anything = {
      name = "anything";
      check = _value: true;
      merge = _path: foldl' recursiveUpdate { };
    };
  };

  recursiveUpdate =
    left: right:
    if isAttrs left && isAttrs right then
      left // mapAttrs (name: value: if hasAttr name left then recursiveUpdate left.${name} value else value) right
    else
      right;

  isType = type: value: isAttrs value && value._type or null == type;

  lib = {
    inherit types concatMap concatStringsSep;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = text: {
      _type = "option";
      type = types.bool;
      default = false;
      description = "Whether to enable ${text}.";
    };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    # What a later module says comes first here, default or not: so the modules of a test come last.
    mkDefault = content: {
      _type = "default";
      inherit content;
    };
    literalExpression = text: { inherit text; };
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalAttrs = condition: values: if condition then values else { };
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    genAttrs =
      names: make:
      listToAttrs (
        map (name: {
          inherit name;
          value = make name;
        }) names
      );
    last = list: builtins.elemAt list (length list - 1);
    splitString = separator: text: filter isString (builtins.split separator text);
    toInt = builtins.fromJSON;
  };

  # The options of NixOS that our modules set or read.
  nixos = {
    assertions = list;
    environment.systemPackages = list;
    environment.variables = anything;
    networking.firewall.allowedTCPPorts = list;
    nix.package = package "nix";
    nix.settings = anything;
    nixpkgs.overlays = list;
    services.nginx = anything;
    systemd.package = package "systemd";
    systemd.services = anything;
    systemd.timers = anything;
    users.users = anything;
    users.groups = anything;
  };
  anything = lib.mkOption {
    type = types.anything;
    default = { };
  };
  list = lib.mkOption {
    type = types.listOf types.anything;
    default = [ ];
  };
  package =
    name:
    lib.mkOption {
      type = types.package;
      default = fakePackage name;
    };
  fakePackage = name: {
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    meta.mainProgram = name;
  };
  pkgs = lib.genAttrs [ "piste" "coreutils" "util-linux" ] fakePackage // {
    piste-host = fakePackage "piste-host" // {
      meta.mainProgram = "piste";
    };
  };

  # Drops what a false mkIf holds and unwraps what a true one holds, at every depth.
  settle =
    value:
    if isType "if" value then
      if value.condition then settle value.content else dropped
    else if isType "default" value then
      settle value.content
    else if isAttrs value && !(value ? outPath) then
      builtins.removeAttrs (mapAttrs (_name: settle) value) (
        filter (name: isType "dropped" (settle value.${name})) (attrNames value)
      )
    else
      value;
  dropped._type = "dropped";

  evaluate =
    modules:
    let
      loaded = concatMap load modules;
      load =
        module:
        let
          value = if isAttrs module then module else import module;
          plain =
            if builtins.isFunction value then
              value { inherit config lib pkgs; }
            else
              value;
        in
        [ plain ] ++ concatMap load (plain.imports or [ ]);
      declared = foldl' recursiveUpdate nixos (map (module: module.options or { }) loaded);
      configOf =
        module:
        if module ? options || module ? config then
          module.config or { }
        else
          builtins.removeAttrs module [ "imports" ];
      config = resolve "" declared (map configOf loaded);
    in
    config;

  # Moves a condition inwards, to the options: what a module sets is known without knowing whether it does,
  # else a condition could not depend on the configuration.
  pushDown =
    value:
    if isType "if" value then
      mapAttrs (_name: content: lib.mkIf value.condition content) (pushDown value.content)
    else
      value;

  resolve =
    path: options: given:
    let
      values = map pushDown given;
      unknown = filter (name: !hasAttr name options) (concatMap attrNames values);
      valuesOf = name: concatMap (value: if hasAttr name value then [ value.${name} ] else [ ]) values;
      inner = name: if path == "" then name else "${path}.${name}";
    in
    if unknown != [ ] then
      throw "the option ${inner (head unknown)} does not exist"
    else
      mapAttrs (
        name: option:
        if isType "option" option then
          resolveOne (inner name) option (valuesOf name)
        else
          resolve (inner name) option (valuesOf name)
      ) options;

  resolveOne =
    path: option: given:
    let
      values = filter (value: !isType "dropped" value) (map settle given);
      wrong = filter (value: !option.type.check value) values;
      merged = option.type.merge path values;
    in
    if values == [ ] then
      option.default or (throw "the option ${path} is used but not defined")
    else if wrong != [ ] then
      throw "the option ${path} is not of the type ${option.type.name}"
    else
      merged;
in
{
  inherit lib pkgs evaluate;
}
