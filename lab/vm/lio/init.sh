#!/bin/busybox sh
# /init of a guest that is nothing but LIO, the Linux kernel's iSCSI target: see lio-target, which passes the parameters on
# the kernel's command line: lio.iqn=NAME, and for CHAP lio.user= lio.secret= lio.mutual= lio.mutual_secret=.
export PATH=/usr/sbin:/usr/bin LD_LIBRARY_PATH=/usr/lib
/usr/bin/busybox --install -s /usr/bin 2> /dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /var/target/pr /var/target/alua
for word in $(cat /proc/cmdline); do
  case $word in lio.*) name=${word%%=*}; eval "LIO_${name#lio.}='${word#*=}'" ;; esac
done
die() { echo "LIO: $*"; sleep 1; poweroff -f; }
for module in virtio_pci virtio_net virtio_blk configfs target_core_mod target_core_iblock iscsi_target_mod; do
  modprobe "$module" || die "no module $module"
done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mount -t configfs none /sys/kernel/config
BASE=/sys/kernel/config/target
UNIT=$BASE/core/iblock_0/unit
mkdir -p "$UNIT" || die "no backstore"
echo udev_path=/dev/vda > "$UNIT/control"
echo /dev/vda > "$UNIT/udev_path"
echo 1 > "$UNIT/enable"
echo 0001-0002-0003 > "$UNIT/wwn/vpd_unit_serial"
echo 1 > "$UNIT/attrib/emulate_tpu" 2> /dev/null
echo 1 > "$UNIT/attrib/emulate_tpws" 2> /dev/null
GROUP=$BASE/iscsi/$LIO_iqn/tpgt_1
mkdir -p "$GROUP/np/0.0.0.0:3260" "$GROUP/lun/lun_0" || die "no portal group"
ln -s "$UNIT" "$GROUP/lun/lun_0/unit"
echo 1 > "$GROUP/attrib/generate_node_acls"
echo 1 > "$GROUP/attrib/cache_dynamic_acls"
echo 0 > "$GROUP/attrib/demo_mode_write_protect"
echo 0 > "$GROUP/attrib/authentication"
if [ -n "$LIO_user" ]; then
  # CHAP needs accounts of its own for each initiator's name, or those of the portal group.
  echo 1 > "$GROUP/attrib/authentication"
  printf %s "$LIO_user" > "$GROUP/auth/userid"
  printf %s "$LIO_secret" > "$GROUP/auth/password"
  printf %s "$LIO_mutual" > "$GROUP/auth/userid_mutual"
  printf %s "$LIO_mutual_secret" > "$GROUP/auth/password_mutual"
  # Discovery has accounts of its own, and is not let in with those of a target.
  printf %s "$LIO_user" > "$BASE/iscsi/discovery_auth/userid"
  printf %s "$LIO_secret" > "$BASE/iscsi/discovery_auth/password"
fi
echo 1 > "$GROUP/enable" || die "the portal group cannot be enabled"
echo "LIO: kernel $(uname -r)"
echo "LIO: ready"
while :; do sleep 3600; done
