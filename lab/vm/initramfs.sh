# Sourced by the scripts that build guests out of Debian's packages. Nothing is installed on this machine.
#   begin OUT          OUT/packages keeps what was downloaded; STAGE is where packages are unpacked, ROOT the guest's tree
#   unpack PACKAGE...  into STAGE; KERNEL is the kernel's package
#   programs PATH...   from STAGE into ROOT, with the libraries that they need
#   modules NAME...    with those that they need; in ROOT they can be found by modprobe
#   pack NAME          ROOT as OUT/NAME, and the kernel as OUT/vmlinuz
begin() {
  mkdir -p "$1"
  OUT=$(cd "$1" && pwd)
  PACKAGES=$OUT/packages
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  STAGE=$WORK/stage ROOT=$WORK/root
  mkdir -p "$PACKAGES" "$STAGE" "$ROOT"
  # A tree with /bin, /sbin and /lib merged, as the libraries expect it.
  mkdir -p "$ROOT"/{usr/bin,usr/sbin,usr/lib,proc,sys,dev,run,tmp,etc,var,mnt}
  ln -s usr/bin usr/sbin usr/lib "$ROOT"/
  ln -s lib "$ROOT/usr/lib64"
  ln -s usr/lib "$ROOT/lib64"
  KERNEL=${KERNEL:-$(apt-cache depends linux-image-cloud-amd64 2> /dev/null | awk '/Depends: linux-image-[0-9]/{print $2; exit}')}
}

unpack() {
  local package
  for package in "$@"; do
    for _ in 1 2 3; do
      compgen -G "$PACKAGES/${package}_*.deb" > /dev/null && break
      (cd "$PACKAGES" && apt-get download "$package" > /dev/null 2>&1) || sleep 1
    done
    dpkg-deb -x "$(compgen -G "$PACKAGES/${package}_*.deb" | tail -n 1)" "$STAGE"
  done
}

programs() {
  local program found
  for program in "$@"; do
    for found in "$STAGE/$program" "$STAGE/usr/$program"; do
      [ -e "$found" ] && cp -L "$found" "$ROOT/usr/$program"
    done
    [ -e "$ROOT/usr/$program" ] || { echo "no $program in the packages" >&2; exit 1; }
  done
  LIBRARIES=$STAGE/lib/x86_64-linux-gnu:$STAGE/usr/lib/x86_64-linux-gnu
  for program in "$ROOT"/usr/bin/* "$ROOT"/usr/sbin/*; do
    LD_LIBRARY_PATH=$LIBRARIES ldd "$program" 2> /dev/null || true
  done | awk '/=> \//{print $3} /^\t\/lib64/{print $1}' | sort -u | while read -r found; do cp -L "$found" "$ROOT/usr/lib/"; done
}

kmod() { # kmod NAME ARGS...: as the program NAME
  ln -sf bin/kmod "$STAGE/$1"
  LD_LIBRARY_PATH=$LIBRARIES "$STAGE/$1" "${@:2}"
}

modules() {
  local version module
  version=$(basename "$STAGE"/lib/modules/*)
  kmod depmod -b "$STAGE" "$version"
  for module in "$@"; do
    kmod modprobe -d "$STAGE" -S "$version" --show-depends "$module" 2> /dev/null | awk '/^insmod/{print $2}' || true
  done | awk '!seen[$0]++' | while read -r module; do
    mkdir -p "$ROOT/usr$(dirname "${module#"$STAGE"}")"
    cp "$module" "$ROOT/usr${module#"$STAGE"}"
  done
  cp "$STAGE/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$ROOT/usr/lib/modules/$version/"
  kmod depmod -b "$ROOT" "$version"
}

pack() {
  cp "$STAGE"/boot/vmlinuz-* "$OUT/vmlinuz"
  (cd "$ROOT" && find . | cpio -o -H newc --quiet | gzip -1) > "$OUT/$1.new"
  mv "$OUT/$1.new" "$OUT/$1"
  ls -la "$OUT/vmlinuz" "$OUT/$1"
}
